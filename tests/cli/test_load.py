"""`diskless load`: what it prints, its exit status, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diskless.cli import main
from tests import test_terminal
from tests.cli.conftest import Terminal, environment_of
from tests.loader.fault_server import Fault, FaultServer

MIB = 1 << 20
OBJECTS = {"m/config.json": b"{}", "m/model.bin": os.urandom(10 * MIB)}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with FaultServer(OBJECTS) as server:
        for name, value in environment_of(server).items():
            monkeypatch.setenv(name, value)
        yield server


def _ram_files() -> int:
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found += os.fstat(int(fd)).st_size == len(OBJECTS["m/model.bin"])
    return found


def test_it_says_how_it_went_and_keeps_nothing(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", f"{server.url}/m"]) == 0
    said = capsys.readouterr()
    assert re.fullmatch(
        r"2 files, 10\.0 MiB in [\d.]+ s, [\d.,]+ MB/s, 0 retries, "
        r"the processes took [\d.]+ [MG]iB beside the bytes at most\n",
        said.out,
    )
    assert said.err == ""
    assert _ram_files() == 0
    assert server.sent_bytes("m/model.bin") == 10 * MIB


def test_json_is_one_document_for_programs(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    failed = []

    def plan(get) -> Fault | None:
        if not failed:
            failed.append(get)
            return Fault(status=503)
        return None

    server.plan = plan
    assert main(["load", f"{server.url}/m", "--json", "--ignore", "*.json", "--budget", "64MiB"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert 0 < said.pop("seconds") < 60 and said.pop("rate_bytes_per_s") > 0
    assert MIB < said.pop("peak_process_bytes") < 64 << 30  # of this process and all that other tests left in it
    assert said == {
        "url": f"{server.url}/m",
        "files": 1,
        "size_bytes": 10 * MIB,
        "fetched_bytes": 10 * MIB,
        "retries": 1,
        "refetched_bytes": 0,
        "loaders_lost": 0,
        "backing": "tree",
        "refused": [],
    }


def test_quiet_prints_nothing(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", f"{server.url}/m", "--quiet", "--allow", "*.json"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{url}/none"], "none"),
        (["{url}/m", "--budget", "1MiB"], "1.0 MiB"),
        (["{url}/m", "--budget", "much"], "much"),
        (["{url}/m", "--allow", "*.txt"], "*.txt"),
        (["{url}/m", "--verify"], "MD5"),
        (["s3://b/../k"], "no bucket name"),
        (["{url}/m", "--report", "{tmp}"], "a directory"),
        (["{url}/m", "--report", "{tmp}/none/out.html"], "there is no directory"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    server: FaultServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], said: str
) -> None:
    server.plan = lambda get: Fault(damage=0)
    assert main(["load", *(word.format(url=server.url, tmp=tmp_path) for word in words)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and said in captured.err
    assert captured.err.startswith("diskless: ") and captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_report_of_a_load_that_failed_says_why(
    server: FaultServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server.plan = lambda get: Fault(status=403, code="AccessDenied") if get.key == "m/model.bin" else None
    out = tmp_path / "out.html"
    assert main(["load", f"{server.url}/m", "--report", str(out)]) == 1
    assert capsys.readouterr().err.startswith("diskless: ")
    page = out.read_text()
    assert 'class="failed"' in page and "not loaded into RAM" in page
    assert os.listdir(tmp_path) == ["out.html"]


def test_a_report_replaces_what_was_there_or_leaves_it(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.html"
    out.write_text("theirs")

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert main(["load", f"{server.url}/m", "--report", str(out)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert out.read_text() == "theirs" and os.listdir(tmp_path) == ["out.html"]
    assert main(["load", f"{server.url}/m", "--report", str(out), "--quiet"]) == 0
    assert out.read_text().startswith("<!DOCTYPE html>")
    mask = os.umask(0)
    os.umask(mask)
    assert out.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_is_left(server: FaultServer, terminal: Terminal, number: int) -> None:
    server.plan = lambda get: Fault(hang_after=MIB)
    terminal.env |= environment_of(server)
    process = terminal.start("load", f"{server.url}/m", "--report", "out.html")
    assert server.hanging.wait(30)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (128 + number, "")
    assert stderr == f"diskless: the load was stopped by {signal.Signals(number).name}\n"
    assert terminal.processes_after(10) == {}
    assert terminal.files(process.pid) == []


def test_a_terminal_sees_how_far_it_is(server: FaultServer, terminal: Terminal) -> None:
    server.plan = lambda get: Fault(hang_after=0) if get.start >= 4 * MIB else None
    settings = {**terminal.env, **environment_of(server), "TERM": "dumb"}
    command = [sys.executable, "-m", "diskless", "load", f"{server.url}/m"]
    screen = test_terminal.Terminal(command, settings)
    screen.read_until(b" 40%  4.0 MiB of 10.0 MiB  ")
    screen.read_until(b"MB/s  1 of 2 files  ")
    server.plan = lambda get: None
    server.stop()
    server.start()
    assert screen.end() == 0
    *_, last = screen.output.rstrip().split(b"\r")
    assert last.startswith(b"2 files, 10.0 MiB in ")
