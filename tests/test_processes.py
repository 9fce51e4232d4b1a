"""Programs and their Loader process: none may be met, outlive its user, or be missed for long."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.loader.fault_server import Fault, FaultServer, Get
from tests.loader.fetching import loader_pids
from tests.programs import BY_THREADS, MOUNT, SOURCE, command, environment, lives, run, start, until

DATA = os.urandom(3 << 20)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer({"big": DATA, "small": b"s"}) as server:
        yield server


# Where no process can be started.


@pytest.mark.parametrize("executable", ["''", "None", "'/bin/true'", "'/bin/cat'"])
def test_an_embedded_interpreter_loads_in_threads(server, backing, executable: str) -> None:
    script = f"import sys; sys.executable = {executable}\n{MOUNT}"
    settings = environment(PYTHONPATH=str(SOURCE), DISKLESS_BACKING=backing)
    ended = subprocess.run(command(server, script), capture_output=True, text=True, timeout=30, env=settings)
    assert ended.stdout.splitlines() == BY_THREADS, ended.stderr


# Where nobody closes anything.


@pytest.mark.parametrize(
    "left_open",
    [
        "diskless.open(url + '/big', storage_options=options)",
        "diskless.open(url + '/big', storage_options=options, once=True)",
        "diskless.open(url + '/big', storage_options=options, load='lazy')",
        "diskless.open(url + '/big', 'r', storage_options=options, encoding='latin-1')",
        "fsspec.filesystem('ramcache', target_protocol='s3', target_options=theirs).open(url + '/big')",
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_a_program_that_leaves_a_file_open_ends(backing, left_open: str, complete: bool) -> None:
    """At its end the file is collected, when no thread runs any more that could be waited for."""
    script = f"""
        import json, sys
        import diskless
        import fsspec
        url, options = sys.argv[1], json.loads(sys.argv[2])
        theirs = {{"key": options["key"], "secret": options["secret"], "endpoint_url": options["endpoint_url"]}}
        file = {left_open}
        print(bool(file.read({len(DATA) if complete else 10})))
    """

    def plan(get: Get) -> Fault:
        return Fault(hang_after=1000 if get.start > 0 and not complete else None)

    with FaultServer({"big": DATA if complete else DATA + bytes(30 << 20)}, plan=plan) as server:
        assert run(server, script, backing=backing) == ["True"]


# Where what it needs is broken.


def test_a_loader_that_cannot_import_says_so_once_and_to_who_asked(tmp_path) -> None:
    """It imports ahead, in a thread that has nobody to tell."""
    (tmp_path / "obstore.py").write_text("raise ImportError('libcrypto is not there')")
    script = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import diskless
        try:
            diskless.mount("http://127.0.0.1:9/key")
        except diskless.TransferError as error:
            print(error)
    """
    with FaultServer({}) as server:
        assert run(server, script) == ["the transfer failed unexpectedly: ImportError: libcrypto is not there"]


# Children, waiting, pid 1.

WAITING = """
import json, os, signal, sys
import diskless
{prepare}
def no_child():
    for wait in (os.wait, lambda: os.waitpid(-1, os.WNOHANG)):
        try:
            print("met", wait())
        except ChildProcessError:
            pass
for turn in range(2):
    with diskless.mount(sys.argv[1], storage_options=json.loads(sys.argv[2])) as path:
        no_child()
        print(os.path.getsize(path + "/big"))
    no_child()
from diskless.loader import process
print(process.in_process())
"""
MET_NOBODY = ["3145728", "3145728", "False"]


@pytest.mark.parametrize(
    "prepare",
    [
        "",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "signal.signal(signal.SIGCHLD, lambda *_: print('signal'))",
        "import ctypes; assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # a subreaper",
    ],
)
def test_a_program_that_waits_for_children_meets_none(server, prepare: str) -> None:
    assert run(server, WAITING.format(prepare=prepare)) == MET_NOBODY


def test_a_program_that_is_pid_1_meets_none(server) -> None:
    namespace = ["unshare", "--pid", "--fork"] if os.geteuid() == 0 else ["unshare", "-Urpf"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        pytest.skip("no process namespace can be made here")
    script = WAITING.format(prepare="assert os.getpid() == 1")
    assert run(server, script, *namespace, sys.executable) == MET_NOBODY


# Ends.

HANGS = """
import json, sys
import diskless
diskless.mount(sys.argv[1], storage_options=json.loads(sys.argv[2]))
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_loader_does_not_outlive_its_user_in_mid_transfer(backing, ending: signal.Signals) -> None:
    with FaultServer({"big": DATA}, hang_after=1000) as server:
        program = start(server, HANGS, backing=backing)
        server.hanging.wait()
        (pid,) = loader_pids(program.pid)
        program.send_signal(ending)
        program.communicate()
        until(lambda: not lives(pid))
        # Nobody was left to remove its plain files: the next program does.
        server.plan = lambda get: None
        assert run(server, HANGS, backing=backing) == []


def test_a_program_that_ends_in_mid_transfer_does_not_hang(backing) -> None:
    with FaultServer({"big": DATA}, hang_after=1000) as server:
        script = """
            import json, sys
            import diskless
            diskless.prefetch(sys.argv[1], storage_options=json.loads(sys.argv[2]))
            sys.stdin.readline()
        """
        program = start(server, script, backing=backing, stdin=subprocess.PIPE)
        server.hanging.wait()
        (pid,) = loader_pids(program.pid)
        assert program.communicate("end\n", timeout=30) == ("", "")
        assert program.returncode == 0
        until(lambda: not lives(pid))


def test_a_loader_that_is_killed_in_mid_transfer_is_replaced(backing) -> None:
    big = os.urandom(20 << 20)
    killed: list[int] = []
    with FaultServer({"big": big}, plan=lambda get: None if killed else Fault(hang_after=1 << 20)) as server:
        script = """
            import hashlib, json, sys
            import diskless
            with diskless.mount(sys.argv[1] + "/big", storage_options=json.loads(sys.argv[2])) as path:
                print(hashlib.sha256(open(path, "rb").read()).hexdigest())
        """
        program = start(server, script, backing=backing)
        server.hanging.wait()
        killed += loader_pids(program.pid)
        os.kill(killed[0], signal.SIGKILL)
        out, err = program.communicate(timeout=60)
        assert (out.strip(), err) == (hashlib.sha256(big).hexdigest(), "")
