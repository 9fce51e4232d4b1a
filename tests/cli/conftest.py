"""Running `diskless` as a user does, and finding what it left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

import diskless
from tests.loader.fault_server import FaultServer

_MARK = "DISKLESS_TEST_RUN"
# What pip makes of the entry point: unlike `python -m`, it does not look for modules in the working directory.
_SCRIPT = "import sys; sys.path.remove(''); from diskless.cli import main; sys.exit(main())"


@dataclass
class Terminal:
    """A plain terminal: empty directories, hardly any environment, and a mark by which its processes are known."""

    directory: Path
    env: dict[str, str]
    mark: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `diskless` as the leader of a process group, as a shell does."""
        return subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, *arguments],
            env=self.env,
            cwd=self.directory / "work",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=180)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def processes(self) -> dict[int, str]:
        """Return the processes that carry the mark: whatever was started here inherited it."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if f"{_MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")[:200]
                except OSError:
                    continue
        return found

    def processes_after(self, timeout_s: float) -> dict[int, str]:
        """Return the processes that are left when none is, or when the time is over."""
        end = time.monotonic() + timeout_s
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.02)
        return left

    def files(self, pid: int) -> list[str]:
        """Return what the command with this pid left in its home, working and temporary directory, and in RAM."""
        left = [str(path) for path in self.directory.rglob("*") if path.name not in {"home", "tmp", "work"}]
        shared = Path("/dev/shm")
        return left + [str(path) for path in shared.glob(f"diskless-*{pid}*")] if shared.is_dir() else left


def environment_of(server: FaultServer) -> dict[str, str]:
    """Return what makes a server's bucket the S3 of a command."""
    options = server.storage_options
    return {
        "AWS_ACCESS_KEY_ID": options["key"],
        "AWS_SECRET_ACCESS_KEY": options["secret"],
        "AWS_REGION": options["region"],
        "AWS_ENDPOINT_URL_S3": options["endpoint_url"],
    }


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    for name in ("home", "tmp", "work"):
        (tmp_path / "terminal" / name).mkdir(parents=True)
    mark = uuid.uuid4().hex
    # Where diskless was imported from, and what it needs, wherever these are: installed or in a checkout.
    packages = [str(Path(diskless.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "terminal" / "home"),
        "TMPDIR": str(tmp_path / "terminal" / "tmp"),
        "PYTHONPATH": os.pathsep.join(packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        _MARK: mark,
    }
    return Terminal(tmp_path / "terminal", env, mark)
