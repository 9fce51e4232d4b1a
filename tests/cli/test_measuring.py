"""What the demo measures with: everything a process started, what it wrote, and which files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diskless.cli import process_tree, written_files
from diskless.cli.signals import Signals, Stopped

_SIZE_BYTES = 8 << 20

# A process that starts another, which leaves it for a session of its own, writes, and outlives it.
_ORPHAN = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.2)
        with open(sys.argv[1], "wb") as file:
            file.write(os.urandom(int(sys.argv[2])))
            file.flush()
            os.fsync(file.fileno())
        os._exit(0)
    os._exit(0)
"""


@pytest.fixture
def adopting() -> Iterator[None]:
    process_tree.adopt_orphans(True)
    yield
    process_tree.adopt_orphans(False)


def test_bytes_written_by_an_orphan_in_its_own_session_are_counted(tmp_path: Path, adopting: None) -> None:
    if written_files.in_ram(str(tmp_path)):
        pytest.skip("the temporary directory is in RAM")
    others = process_tree.descendants(os.getpid())
    before = process_tree.written_bytes()
    if before is None:
        pytest.skip("this kernel counts no bytes")

    subprocess.run([sys.executable, "-c", _ORPHAN, str(tmp_path / "file"), str(_SIZE_BYTES)], check=True)
    process_tree.end_all(others)

    after = process_tree.written_bytes()
    assert after is not None
    assert (tmp_path / "file").stat().st_size == _SIZE_BYTES
    assert _SIZE_BYTES <= after - before < 2 * _SIZE_BYTES


def test_bytes_written_to_ram_are_not_counted(adopting: None) -> None:
    if not written_files.in_ram("/dev/shm"):
        pytest.skip("no /dev/shm in RAM")
    path = f"/dev/shm/diskless-test-{os.getpid()}"
    before = process_tree.written_bytes()
    try:
        subprocess.run(
            [sys.executable, "-B", "-c", "import sys; open(sys.argv[1], 'wb').write(bytes(8 << 20))", path], check=True
        )
    finally:
        os.unlink(path)
    after = process_tree.written_bytes()
    if before is not None and after is not None:
        assert after - before < 1 << 20  # Python's own start may touch times of access


def test_end_all_kills_what_does_not_end(adopting: None) -> None:
    others = process_tree.descendants(os.getpid())
    stubborn = subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"]
    )
    started = time.monotonic()
    process_tree.end_all(others, patience_s=0.2)
    assert time.monotonic() - started < 10
    assert stubborn.pid not in process_tree.descendants(os.getpid())
    stubborn.returncode = -signal.SIGKILL  # it was waited for behind Popen's back


def test_files_opened_for_writing_are_named(tmp_path: Path) -> None:
    with open(tmp_path / "written", "wb"), open(__file__, "rb"):
        names = written_files.open_for_writing([os.getpid()])
    assert str(tmp_path / "written") in names
    assert __file__ not in names


def test_the_watch_names_what_python_opens_for_writing_only(tmp_path: Path) -> None:
    code = (
        "import sys; from diskless.cli import written_files; paths = written_files.watch_own();"
        "open(sys.argv[1], 'w').close(); open(sys.argv[1]).close(); print(paths)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert done.stdout == f"[{str(tmp_path / 'a')!r}]\n"


def test_files_in_ram_are_not_on_a_disk(tmp_path: Path) -> None:
    memfd = os.memfd_create("diskless")
    try:
        open_here = {path for path in written_files.open_for_writing([os.getpid()]) if "memfd:diskless" in path}
    finally:
        os.close(memfd)
    assert open_here, "the memfd was not seen at all"
    assert written_files.on_a_disk({"/proc/self/comm", "/dev/null"} | open_here) == []
    if not written_files.in_ram(str(tmp_path)):
        assert written_files.on_a_disk({str(tmp_path / "x")}) == [str(tmp_path / "x")]


def test_a_stopping_signal_is_noted_and_raised_by_check_only() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        signals.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped) as stopped:
            signals.check()
    assert stopped.value.exit_status == 143
    assert signal.getsignal(signal.SIGTERM) == previous
