"""Starting the Loader process, or doing without."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from diskless.errors import LoaderDied
from diskless.loader import process
from tests.loader.fault_server import FaultServer
from tests.loader.fetching import fetch, loader_pids


@pytest.fixture
def fresh(monkeypatch):
    """As in a process that has loaded nothing yet."""
    monkeypatch.setattr(process, "_control", None)
    monkeypatch.setattr(process, "_greeted", False)
    monkeypatch.setattr(process, "_threads_only", False)


@pytest.fixture
def server():
    with FaultServer({"a": b"a"}) as server:
        yield server


def _program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_loader_is_another_process(fresh, server) -> None:
    before = set(loader_pids())
    assert fetch(server)[0] == {"a": b"a"}
    assert not process.in_process()
    assert len(set(loader_pids()) - before) == 1


@pytest.mark.parametrize("executable", ["", None, "/bin/true", "/bin/cat", "/no/such/program", "/etc/passwd", "/"])
def test_without_an_interpreter_threads_do_the_same_work(fresh, server, monkeypatch, executable) -> None:
    """An embedded interpreter (uWSGI) has no name, or that of another program."""
    monkeypatch.setattr(sys, "executable", executable)
    started = time.monotonic()
    assert fetch(server)[0] == {"a": b"a"}
    assert time.monotonic() - started < process._GREETING_S + 3
    assert process.in_process()


def test_a_loader_that_is_killed_before_it_greets_is_no_reason_for_threads(fresh, server, monkeypatch) -> None:
    """Where one has worked before: a process that is killed for memory is not to take the work into itself."""
    assert fetch(server)[0] == {"a": b"a"}
    monkeypatch.setattr(process, "_control", None)
    monkeypatch.setattr(sys, "executable", "/bin/true")  # as short a life
    with pytest.raises(LoaderDied, match="died 4 times"):
        fetch(server)
    assert process.can_start() and not process.in_process()
    monkeypatch.undo()
    assert fetch(server)[0] == {"a": b"a"}


def test_a_frozen_program_is_not_started_again(fresh, server, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(sys, "executable", _program(tmp_path / "app", f"touch {tmp_path}/was-started"))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert fetch(server)[0] == {"a": b"a"}
    assert process.in_process() and not (tmp_path / "was-started").exists()


def test_a_program_that_does_not_greet_is_ended(fresh, server, monkeypatch, tmp_path) -> None:
    """It may be anything, a server that has started once more for instance."""
    monkeypatch.setattr(process, "_GREETING_S", 0.5)
    monkeypatch.setattr(sys, "executable", _program(tmp_path / "app", f"echo $$ >{tmp_path}/pid; exec sleep 1000"))
    assert fetch(server)[0] == {"a": b"a"}
    assert process.in_process()
    pid = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("greeting", ['{"op":"hello","version":0}', "no message at all"])
def test_a_program_that_greets_as_another_is_not_used(fresh, server, monkeypatch, tmp_path, greeting) -> None:
    script = f"import socket, time; socket.socket(fileno=3).send({greeting!r}.encode()); time.sleep(1000)"
    monkeypatch.setattr(sys, "executable", _program(tmp_path / "app", f"exec {sys.executable} -c '{script}'"))
    before = set(loader_pids())
    assert fetch(server)[0] == {"a": b"a"}
    assert process.in_process()
    until = time.monotonic() + 10
    while set(loader_pids()) != before:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_process_with_more_descriptors_than_select_takes_has_a_loader_too(fresh, server) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip(f"the hard limit on descriptors is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, hard))
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert fetch(server)[0] == {"a": b"a"}
        assert not process.in_process()
    finally:
        for fd in many:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _run(script: str, *arguments: str, **options: object) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        **options,  # type: ignore[call-overload]
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return str(ended.stdout).splitlines()


def test_it_ends_when_there_is_nothing_to_do_and_leaves_nothing_when_it_is_needed_again(server) -> None:
    """What stood between is reaped by the next start; the program never waits for it."""
    lines = _run(
        """
        import json, os, psutil, sys, time
        import diskless
        from tests.loader.fetching import loader_pids
        def between():
            return psutil.Process().children()
        for turn in range(3):
            diskless.mount(sys.argv[1], storage_options=json.loads(sys.argv[2])).close()
            (pid,) = loader_pids()
            os.kill(pid, 9)
            while loader_pids() or any(child.status() != psutil.STATUS_ZOMBIE for child in between()):
                time.sleep(0.001)
        print(len(between()))
        """,
        server.url,
        json.dumps(server.storage_options),
        cwd=Path(__file__).parents[2],
    )
    assert lines == ["1"]


def test_idle_it_goes(server) -> None:
    script = """
        import os
        from diskless.loader import main
        from diskless.loader.protocol import SocketChannel
        from diskless.loader.start import pair
        main._IDLE_S = 0.05
        os.open(os.devnull, os.O_RDONLY)  # so that neither end is 3
        near, far = pair()
        os.dup2(far.fileno(), 3)
        if os.fork() == 0:
            near.close()
            main.main()
        far.close()
        os.close(3)
        channel = SocketChannel(near)
        print(channel.receive()[0]["op"])
        try:
            channel.receive()
        except EOFError:
            print("gone")
        print(os.wait()[1])
    """
    assert _run(script) == ["hello", "gone", "0"]
