"""Programs and their Loader process: none may be met, outlive its user, or be missed for long."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.loader.fault_server import Fault, FaultServer
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
