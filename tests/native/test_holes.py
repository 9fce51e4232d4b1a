"""Ways past earlier prototypes that no other file here is about: forbidden memfds, guarded numbers, interpreters."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.tree import LIBRARY, NativeTree, run_with_tree
from tests.programs import KNOWS_MEMFD, MEMFD_FILTER

ROOT = Path(__file__).parent.parent.parent

# Reads files and directories in RAM; `modes` are what a program sees of the memfds behind them.
READS = """
from tests.native.tree import NativeTree
with NativeTree() as tree:
    tree.file("d/a", b"in RAM", mode=0o555)
    assert open(tree.path("d/a"), "rb").read() == b"in RAM"
    assert os.listdir(tree.path("d")) == ["a"]
    fd = os.open(tree.path("d"), os.O_RDONLY)
    assert os.stat("a", dir_fd=fd).st_mode & 0o777 == 0o555
    assert os.access(tree.path("d/a"), os.X_OK)
    print("read", oct(os.stat(tree.fds[0]).st_mode & 0o777))
"""


def python(script: str, *wrapper: str) -> subprocess.CompletedProcess[str]:
    source = f"import os, sys\nsys.path[:0] = {sys.path!r}\n" + script
    environment = os.environ | {"DISKLESS_TEST_LIBRARY": str(LIBRARY)}
    command = [*wrapper, sys.executable, "-c", source]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_kernel_may_forbid_executable_memfds(level: int) -> None:
    """memfd_noexec.c of the prototypes: vm.memfd_noexec, which each process namespace has for itself."""
    if os.geteuid() != 0:
        pytest.skip("only root can set vm.memfd_noexec")
    setting = f"open('/proc/sys/vm/memfd_noexec', 'w').write('{level}')\n"
    probe = python(setting, "unshare", "-pf", "--mount-proc")
    if probe.returncode != 0:
        pytest.skip(f"vm.memfd_noexec cannot be set here: {probe.stderr.splitlines()[-1:]}")
    done = python(setting + READS, "unshare", "-pf", "--mount-proc")
    assert done.stdout.startswith("read"), done.stderr


EXEC, NOEXEC_SEAL = 0x10, 0x08


@KNOWS_MEMFD
@pytest.mark.parametrize(
    ("mask", "value", "error"),
    [
        (EXEC, EXEC, errno.EINVAL),  # gVisor and kernels before 6.3 do not know the flag
        (NOEXEC_SEAL, 0, errno.EACCES),  # vm.memfd_noexec=2
    ],
    ids=["MFD_EXEC is not known", "only MFD_NOEXEC_SEAL is allowed"],
)
def test_memfds_are_made_in_a_way_that_the_kernel_knows_and_allows(mask: int, value: int, error: int) -> None:
    done = python(MEMFD_FILTER + f"refuse_memfds({mask}, {value}, {error})\n" + READS)
    assert done.stdout.startswith("read"), done.stderr


@KNOWS_MEMFD
def test_no_memfds_at_all_are_an_error_that_says_so() -> None:
    script = f"""
refuse_memfds(0, 0, {errno.ENOSYS})
from diskless import native_api as native
print(native.unavailable())
"""
    assert "refuses RAM files" in python(MEMFD_FILTER + script).stdout


def test_every_call_that_closes_numbers_spares_ours() -> None:
    """closerange.py of the prototypes, call by call. To the program a number of ours is not open."""
    script = """
        import ctypes, errno, platform
        fd = tree.file("a", b"in RAM")
        libc = ctypes.CDLL(None, use_errno=True)
        other = os.open("/dev/null", os.O_RDONLY)
        by_number = platform.machine() == "x86_64"
        for name, call, error in [
            ("close", lambda: libc.close(fd), errno.EBADF),
            ("__close", lambda: libc.__close(fd), errno.EBADF),
            ("dup2", lambda: libc.dup2(other, fd), errno.EBUSY),
            ("__dup2", lambda: libc.__dup2(other, fd), errno.EBUSY),
            ("dup3", lambda: libc.dup3(other, fd, os.O_CLOEXEC), errno.EBUSY),
            ("close by number", lambda: libc.syscall(3, fd) if by_number else libc.close(fd), errno.EBADF),
            ("dup2 by number", lambda: libc.syscall(33, other, fd) if by_number else libc.dup2(other, fd), errno.EBUSY),
            ("dup3 by number", lambda: libc.syscall(292, other, fd, 0) if by_number else -1, errno.EBUSY),
        ]:
            ctypes.set_errno(0)
            assert call() == -1, name
            assert ctypes.get_errno() == error, (name, ctypes.get_errno())
            assert open(tree.path("a"), "rb").read() == b"in RAM", name
        def close_all(): libc.closefrom(other + 1)
        def close_some(): assert libc.close_range(fd - 1, fd + 50, 0) == 0
        def close_by_number(): assert libc.syscall(436, fd, fd + 50, 0) == 0
        for name, close in [("closefrom", close_all), ("close_range", close_some), ("by number", close_by_number)]:
            if not hasattr(libc, "closefrom"): break   # both came with glibc 2.34
            for number in (fd + 40, fd + 41): os.dup2(other, number)
            close()
            for number in (fd + 40, fd + 41): assert not os.path.exists(f"/proc/self/fd/{number}"), name
            assert open(tree.path("a"), "rb").read() == b"in RAM", name
    """
    assert run_with_tree(script) == ""


def test_a_sub_interpreter_and_threads_without_the_gil_read() -> None:
    """gilstate_subinterpreter.py of the prototypes: whoever asks Python about its lock may be told lies."""
    script = """
        import ctypes
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        tree.file("a", b"in RAM")
        read = f"assert open({tree.path('a')!r}, 'rb').read() == b'in RAM'"
        inner = interpreters.create()
        failed = (getattr(interpreters, "exec", None) or interpreters.run_string)(inner, read)
        assert not failed, failed
        libc = ctypes.CDLL(None)                   # releases the lock around a call
        holding = ctypes.PyDLL(None)               # and this one holds it
        for functions in (libc, holding):
            fd = functions.open(tree.path("a").encode(), os.O_RDONLY)
            assert os.read(fd, 9) == b"in RAM"
        threads = [threading.Thread(target=exec, args=(read,)) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        interpreters.destroy(inner)
        exec(read)
    """
    assert run_with_tree(script) == ""


def test_what_the_kernel_itself_would_walk_is_refused(tree: NativeTree) -> None:
    """unix_sockets.py of the prototypes made a socket that nobody found; programs and watches are no better."""
    tree.file("d/program", b"#!/bin/sh\nexit 0\n", mode=0o555)
    program, missing = os.fsencode(tree.path("d/program")), os.fsencode(tree.path("d/missing"))
    libc = ctypes.CDLL(None, use_errno=True)
    words = (ctypes.c_char_p * 2)(program, None)
    nothing = (ctypes.c_char_p * 1)(None)

    def error_of(name: str, *arguments: object) -> int:
        ctypes.set_errno(0)
        result: int = getattr(libc, name)(*arguments)
        return ctypes.get_errno() if result == -1 else result

    for path, error in ((program, errno.EACCES), (missing, errno.ENOENT)):
        assert error_of("execv", path, words) == error
        assert error_of("execve", path, words, nothing) == error
        assert error_of("execvp", path, words) == error
        assert error_of("execvpe", path, words, nothing) == error
        assert error_of("execl", path, path, None) == error
        assert error_of("execlp", path, path, None) == error
        assert error_of("execle", path, path, None, nothing) == error
        pid = ctypes.c_int()
        assert error_of("posix_spawn", ctypes.byref(pid), path, None, None, words, nothing) == error
        assert error_of("posix_spawnp", ctypes.byref(pid), path, None, None, words, nothing) == error
        actions = ctypes.create_string_buffer(256)
        libc.posix_spawn_file_actions_init(actions)
        opened = 0 if path == program else error
        assert error_of("posix_spawn_file_actions_addopen", actions, 0, path, os.O_RDONLY, 0) == opened
        libc.posix_spawn_file_actions_destroy(actions)
    watch = libc.inotify_init()
    assert error_of("inotify_add_watch", watch, program, 2) == errno.EOPNOTSUPP
    assert error_of("inotify_add_watch", watch, missing, 2) == errno.ENOENT
    os.close(watch)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as end:
            for call, path, error in [
                (end.bind, tree.path("d/socket"), errno.EROFS),
                (end.bind, tree.path("d/program"), errno.EADDRINUSE),
                (end.connect, tree.path("d/socket"), errno.ENOENT),
                (end.connect, tree.path("d/program"), errno.ECONNREFUSED),
            ]:
                with pytest.raises(OSError) as caught:
                    call(path)
                assert caught.value.errno == error
