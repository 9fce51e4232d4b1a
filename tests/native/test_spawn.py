"""The Loader's process is no child that the program could meet."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import errno, os, resource, signal, socket, subprocess, sys, time
from diskless import native_api as native

def start(script, *fds):
    return native.spawn(sys.executable, ["python", "-I", "-S", "-c", script], {"PATH": os.environ["PATH"]}, fds)

def reaped(pid, within=20):
    until = time.monotonic() + within
    while time.monotonic() < until:
        if native.reap(pid):
            return True
        time.sleep(0.01)
    return False

def pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

LOOPS = "import socket; s = socket.socket(fileno=3); s.send(b'up'); s.recv(1)"
"""


def run(script: str, *wrapper: str, **options: object) -> str:
    """Run a script in a Python of its own, since it waits for every child there is."""
    ended = subprocess.run(
        [*wrapper, sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        **options,  # type: ignore[call-overload]
    )
    assert ended.returncode == 0, ended.stderr
    return str(ended.stdout).strip()


NO_CHILD_TO_BE_SEEN = textwrap.dedent("""
    near, far = pair()
    pid = start(LOOPS, far.fileno())
    far.close()
    assert near.recv(9) == b"up"
    for wait in (os.wait, lambda: os.waitpid(-1, os.WNOHANG), lambda: os.waitpid(0, 0), lambda: os.waitpid(pid, 0)):
        try:
            print("met", wait())
        except ChildProcessError:
            pass
    near.close()
    assert reaped(pid)
    try:
        print("met", os.wait())
    except ChildProcessError:
        print("none")
""")


def test_no_wait_meets_it() -> None:
    assert run(NO_CHILD_TO_BE_SEEN) == "none"


def test_it_starts_and_is_reaped_where_sigchld_is_ignored() -> None:
    assert run("signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n" + NO_CHILD_TO_BE_SEEN) == "none"


def test_no_signal_tells_of_its_end() -> None:
    out = run("""
        signal.signal(signal.SIGCHLD, lambda *_: print("signal"))
        assert reaped(start("pass"))
        time.sleep(0.1)
        print("quiet")
    """)
    assert out == "quiet"


def test_a_child_of_the_program_is_still_its_child() -> None:
    out = run("""
        near, far = pair()
        pid = start(LOOPS, far.fileno())
        far.close()
        assert near.recv(9) == b"up"
        child = os.fork()
        if child == 0:
            os._exit(5)
        print(os.wait() == (child, 5 << 8))
        near.close()
        assert reaped(pid)
    """)
    assert out == "True"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (util-linux)")
def test_pid_1_does_not_inherit_it() -> None:
    namespace = ["unshare", "-pf"] if os.geteuid() == 0 else ["unshare", "-Urpf"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        pytest.skip("no process namespace can be made here")
    assert run("assert os.getpid() == 1\n" + NO_CHILD_TO_BE_SEEN, *namespace) == "none"


def test_a_subreaper_does_not_inherit_it() -> None:
    become_subreaper = "import ctypes; assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0\n"
    assert run(become_subreaper + NO_CHILD_TO_BE_SEEN) == "none"


def test_descriptors_are_numbered_from_3_and_no_other_is_open() -> None:
    out = run("""
        near, far = pair()
        extra = os.dup2(far.fileno(), 200, inheritable=True)   # would be inherited by an ordinary child
        others = [os.open("/dev/zero", os.O_RDONLY) for _ in range(3)]
        pid = start('''if True:
            import os, socket
            numbers = sorted(int(name) for name in os.listdir("/proc/self/fd"))
            zeros, input = os.read(3, 2), os.readlink("/proc/self/fd/0")
            socket.socket(fileno=5).send(repr((numbers, zeros, input)).encode())
        ''', others[0], others[2], far.fileno())
        far.close()
        print(near.recv(999).decode())
        assert reaped(pid)
    """)
    # 6 is the descriptor of the listing itself.
    assert out == r"([0, 1, 2, 3, 4, 5, 6], b'\x00\x00', '/dev/null')"


def test_descriptors_in_each_others_places_are_not_lost() -> None:
    out = run("""
        for fd in (3, 4, 5):
            try: os.close(fd)
            except OSError: pass
        a, b, c = (os.memfd_create(name) for name in "abc")
        assert (a, b, c) == (3, 4, 5)
        for fd, name in ((a, b"a"), (b, b"b"), (c, b"c")): os.write(fd, name)
        near, far = pair()
        pid = start("import os; os.write(6, b''.join(os.pread(n, 1, 0) for n in (3, 4, 5)))", c, a, b, far.fileno())
        print(near.recv(9).decode())
        assert reaped(pid)
    """)
    assert out == "cab"


def test_it_is_in_a_session_of_its_own_with_default_signals() -> None:
    out = run("""
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        near, far = pair()
        pid = start('''if True:
            import os
            status = dict(line.split(maxsplit=1) for line in open("/proc/self/status") if line.startswith("Sig"))
            os.write(3, repr((os.getsid(0) == os.getpid(), int(status["SigBlk:"], 16), status["SigIgn:"])).encode())
        ''', far.fileno())
        print(near.recv(999).decode())
        assert reaped(pid)
        print(signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGTERM, signal.SIGINT})
    """)
    # Python itself ignores SIGPIPE and SIGXFSZ.
    assert out.splitlines() == [r"(True, 0, '0000000001001000\n')", "True"]


def test_its_end_closes_what_it_held_and_a_pipe_is_not_kept_open_by_the_intermediate() -> None:
    out = run("""
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        near, far = pair()
        pid = start(LOOPS, far.fileno())
        far.close()
        assert near.recv(9) == b"up"
        os.close(writing)
        print(os.read(reading, 1))     # blocks for ever where another process has it open
        near.close()
        assert reaped(pid)
    """)
    assert out == "b''"


def test_a_program_that_cannot_be_started_is_reported() -> None:
    out = run("""
        for file in ("/no/such/program", "/etc/passwd", "/"):
            try:
                native.spawn(file, ["x"], {}, [])
            except OSError as error:
                print(errno.errorcode[error.errno], error.filename)
        try:
            os.wait()
        except ChildProcessError:
            print("none")
    """)
    assert out.splitlines() == ["ENOENT /no/such/program", "EACCES /etc/passwd", "EACCES /", "none"]


def test_a_descriptor_that_is_not_open_is_reported() -> None:
    assert (
        run("""
        try:
            start("pass", 999)
        except OSError as error:
            print(errno.errorcode[error.errno])
    """)
        == errno.errorcode[errno.EBADF]
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user with no other processes")
@pytest.mark.parametrize("allowed", [1, 2])
def test_a_limit_on_processes_is_reported(allowed: int) -> None:
    out = run(f"""
        resource.setrlimit(resource.RLIMIT_NPROC, ({allowed}, {allowed}))
        native.available()
        os.setresuid(54321, 54321, 54321)
        try:
            start("pass")
        except OSError as error:
            print(errno.errorcode[error.errno])
        try:
            os.wait()
        except ChildProcessError:
            print("none")
    """)
    assert out.splitlines() == ["EAGAIN", "none"]


def test_many_are_started_by_many_threads() -> None:
    out = run("""
        import concurrent.futures
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            pids = list(threads.map(lambda _: native.spawn("/bin/true", ["true"], {}, []), range(64)))
        print(len(set(pids)), all(map(reaped, pids)))
    """)
    assert out == "64 True"


def test_reaping_gives_the_memory_back() -> None:
    out = run("""
        def mapped():
            return sum(1 for _ in open("/proc/self/maps"))
        for _ in range(5):
            assert reaped(native.spawn("/bin/true", ["true"], {}, []))
        before = mapped()
        for _ in range(50):
            assert reaped(native.spawn("/bin/true", ["true"], {}, []))
        print(mapped() - before < 5)
    """)
    assert out == "True"
