"""Ctrl-C at a real terminal: the kernel signals all of the foreground process group, and the program decides."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loader.fault_server import FaultServer
from tests.loader.fetching import loader_pids
from tests.programs import SOURCE, command, environment, lives, until

CTRL_C = b"\x03"


class Terminal:
    """A program that is the session leader of a terminal of its own, as started by a shell."""

    def __init__(self, words: list[str], settings: dict[str, str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(words[0], words, settings)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.output = b""

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def read_until(self, words: bytes, within_s: float = 30) -> None:
        end = time.monotonic() + within_s
        while words not in self.output:
            assert time.monotonic() < end, self.output.decode()
            self._read(0.1)

    def end(self) -> int:
        """Return the exit status, once the program has ended and all its output is read."""
        while self._read(30):
            pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, patience_s: float) -> bool:
        if not select.select([self._fd], [], [], patience_s)[0]:
            return False
        try:
            more = os.read(self._fd, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.output += more
        return bool(more)


@pytest.fixture
def hanging() -> Iterator[FaultServer]:
    with FaultServer({"big": os.urandom(1 << 20)}, hang_after=1000) as server:
        yield server


def _terminal(server: FaultServer, script: str, backing: str = "tree") -> Terminal:
    settings = environment(PYTHONPATH=str(SOURCE), TERM="dumb", DISKLESS_BACKING=backing)
    return Terminal(command(server, script), settings)


def test_ctrl_c_is_one_keyboard_interrupt_and_nothing_is_left(hanging, backing) -> None:
    script = """
        import json, sys
        import diskless
        try:
            diskless.mount(sys.argv[1], storage_options=json.loads(sys.argv[2]), progress=False)
        except KeyboardInterrupt:
            print("interrupted,", diskless.mounts())
    """
    terminal = _terminal(hanging, script, backing)
    hanging.hanging.wait()
    (loader,) = loader_pids(terminal.pid)
    terminal.type(CTRL_C)
    status = terminal.end()
    # Nothing else is said, by the Loader for instance, which has the same terminal as its stderr.
    assert (terminal.output, status) == (b"^Cinterrupted, []\r\n", 0)
    until(lambda: not lives(loader))


def test_ctrl_c_that_nobody_catches_ends_the_program_with_one_traceback(hanging, backing) -> None:
    script = """
        import json, sys
        import diskless
        diskless.mount(sys.argv[1], storage_options=json.loads(sys.argv[2]), progress=False)
    """
    terminal = _terminal(hanging, script, backing)
    hanging.hanging.wait()
    (loader,) = loader_pids(terminal.pid)
    terminal.type(CTRL_C)
    assert terminal.end() == -signal.SIGINT
    assert terminal.output.count(b"Traceback") == 1 and terminal.output.count(b"KeyboardInterrupt") == 1
    until(lambda: not lives(loader))


def test_a_program_that_goes_on_after_ctrl_c_keeps_its_loader_and_its_load(hanging) -> None:
    """As a notebook or a server that asks first: the Loader must not die before the program decides."""
    script = """
        import json, signal, sys, threading
        import diskless
        asked = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: (print("really?", flush=True), asked.set()))
        job = diskless.prefetch(sys.argv[1], storage_options=json.loads(sys.argv[2]), progress=False)
        asked.wait()
        try:
            job.wait(timeout_s=0.5)
        except TimeoutError:
            print("it goes on", flush=True)
        job.wait()
        print("complete", job.stats.size_bytes, flush=True)
    """
    terminal = _terminal(hanging, script)
    hanging.hanging.wait()
    before = loader_pids(terminal.pid)
    terminal.type(CTRL_C)
    terminal.read_until(b"it goes on")
    assert loader_pids(terminal.pid) == before and len(before) == 1
    # The server comes to itself; the Loader that was there completes the load.
    hanging.plan = lambda get: None
    hanging.stop()
    hanging.start()
    assert terminal.end() == 0
    assert terminal.output.splitlines()[-1] == b"complete 1048576"


def test_the_loader_has_no_terminal_that_could_signal_it(hanging) -> None:
    script = """
        import json, sys
        import diskless
        diskless.prefetch(sys.argv[1], storage_options=json.loads(sys.argv[2]), progress=False)
        sys.stdin.read()
    """
    terminal = _terminal(hanging, script)
    hanging.hanging.wait()
    (loader,) = loader_pids(terminal.pid)
    fields = Path(f"/proc/{loader}/stat").read_text().rpartition(")")[2].split()
    session, terminal_number = int(fields[3]), int(fields[4])
    assert (session, terminal_number) == (loader, 0)
    assert os.getsid(terminal.pid) == terminal.pid != session
    terminal.type(b"\x04")  # Ctrl-D
    assert terminal.end() == 0
    until(lambda: not lives(loader))


def test_a_bar_shows_on_a_terminal() -> None:
    with FaultServer({"big": os.urandom(1 << 20)}) as server:
        script = """
            import json, sys
            import diskless
            diskless.mount(sys.argv[1], storage_options=json.loads(sys.argv[2])).close()
        """
        terminal = _terminal(server, script)
        assert terminal.end() == 0
    assert b"s3://faulty: 100%" in terminal.output and b"1.00M/1.00M" in terminal.output


@pytest.mark.parametrize("stderr", ["None", "closed"])
def test_a_program_without_stderr_mounts(stderr, tmp_path):
    (tmp_path / "a").write_text("a")
    without = "sys.stderr.close()" if stderr == "closed" else "sys.stderr = None"
    script = f"import sys, diskless; {without}; diskless.mount('file://{tmp_path}').close(); print('done')"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "done\n")
