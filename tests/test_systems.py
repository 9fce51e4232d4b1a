"""Systems that lack what the Tree needs: the import works, `mount` says what is missing, and the Directory serves."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loader.fault_server import FaultServer
from tests.programs import KNOWS_MEMFD, MEMFD_FILTER, run

DATA = os.urandom(3 << 20)
# Asks for the Tree, then does what the error says.
REFUSED_THEN_SERVED = """
import hashlib, json, os, sys
import diskless
url, options = sys.argv[1], {"storage_options": json.loads(sys.argv[2])}
try:
    diskless.mount(url, **options)
except diskless.BackingUnavailable as error:
    print(error)
os.environ["DISKLESS_BACKING"] = "directory:" + os.environ["RAM"]
with diskless.mount(url, **options) as path:
    print(os.path.commonpath([path, os.environ["RAM"]]), sorted(os.listdir(path)))
    print(hashlib.sha256(open(path + "/big", "rb").read()).hexdigest())
print(os.path.exists(os.environ["RAM"]), diskless.mounts())
"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer({"big": DATA, "empty": b""}) as server:
        yield server


@pytest.fixture
def ram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A directory that the program may use for its files; it does not exist yet."""
    monkeypatch.setenv("RAM", f"{tmp_path}/ram")
    return f"{tmp_path}/ram"


def _refused_then_served(server: FaultServer, ram: str, *python: str, prepare: str = "") -> str:
    """Return what the program was told when it asked for the Tree, after a look at what the Directory did."""
    error, *served = run(server, prepare + REFUSED_THEN_SERVED, *python)
    assert served == [f"{ram} ['big', 'empty']", hashlib.sha256(DATA).hexdigest(), "False []"]
    assert error.startswith("paths in RAM cannot be served here: ")
    assert "backing='directory:" in error and "DISKLESS_BACKING=directory:<path>" in error
    return error


@KNOWS_MEMFD
@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM], ids=errno.errorcode.get)
def test_without_memfds(server, ram, refusal) -> None:
    """Before Linux 3.17, or where a policy forbids them."""
    error = _refused_then_served(server, ram, prepare=f"{MEMFD_FILTER}\nrefuse_memfds(0, 0, {refusal})\n")
    assert "the system refuses RAM files: " in error and os.strerror(refusal) in error


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap (Debian: bubblewrap)")
def test_without_proc(server, ram) -> None:
    """As in a chroot that nobody mounted it in."""
    sandbox = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/proc"]
    if subprocess.run([*sandbox, "true"], capture_output=True).returncode != 0:
        pytest.skip("no sandbox can be made here")
    nothing_there = "import os; assert os.listdir('/proc') == []\n"
    error = _refused_then_served(server, ram, *sandbox, sys.executable, prepare=nothing_there)
    assert "/proc is not mounted" in error
