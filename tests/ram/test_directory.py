"""The Directory backing: plain files, complete or absent, gone with the last Mount and with a dead process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import diskless
from diskless.ram.directory import Directory


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "models"


def _filled(directory: Directory, data: bytes):
    file = directory.allocate(len(data), mtime_ns=1_700_000_000_123_456_789)
    os.pwrite(file.fd, data, 0)
    return file


def test_a_file_appears_complete_and_read_only(base):
    directory = Directory(str(base))
    file = _filled(directory, b"weights")
    assert not list(base.rglob("x"))
    file.complete = True
    directory.settle(file)
    place = Path(directory.show("s3/b/m", None, {"x": file}))
    status = (place / "x").stat()
    assert (place / "x").read_bytes() == b"weights"
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o444, 1_700_000_000_123_456_789)
    assert place.stat().st_mode & 0o777 == 0o555
    directory.hide(str(place), {"x": file})
    directory.discard(file)
    assert not base.exists()


def test_an_existing_directory_is_left_as_it_was(base):
    base.mkdir()
    (base / "mine").write_text("kept")
    directory = Directory(str(base))
    directory.discard(_filled(directory, b"x"))
    assert os.listdir(base) == ["mine"]


def test_other_bytes_of_the_same_name_get_a_place_beside(base):
    directory = Directory(str(base))
    files = [_filled(directory, data) for data in (b"one", b"two")]
    for file in files:
        file.complete = True
        directory.settle(file)
    places = [Path(directory.show("s3/b/m", None, {"x": file})) for file in files]
    assert [(place / "x").read_bytes() for place in places] == [b"one", b"two"]
    assert places[0] != places[1]


def test_what_a_killed_process_left_is_removed_by_the_next(base):
    script = (
        "import os, signal, sys\n"
        "from diskless.ram.directory import Directory\n"
        "directory = Directory(sys.argv[1])\n"
        "file = directory.allocate(3, 0)\n"
        "os.pwrite(file.fd, b'abc', 0); file.complete = True; directory.settle(file)\n"
        "print(directory.show('s3/b/m', None, {'x': file}), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(base)], capture_output=True, text=True)
    left = Path(ended.stdout.strip())
    assert (left / "x").read_bytes() == b"abc"
    directory = Directory(str(base))
    file = directory.allocate(1, 0)
    assert not left.exists()
    assert len(list(base.iterdir())) == 1  # the living one's
    directory.discard(file)


def test_a_forked_child_leaves_the_files_of_its_parent_alone(base):
    directory = Directory(str(base))
    file = _filled(directory, b"weights")
    file.complete = True
    directory.settle(file)
    place = directory.show("s3/b/m", None, {"x": file})
    pid = os.fork()
    if pid == 0:
        directory.hide(place, {"x": file})
        directory.discard(file)
        directory._leave()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert (Path(place) / "x").read_bytes() == b"weights"


def test_a_directory_that_cannot_be_written_is_named_in_the_error():
    with pytest.raises(diskless.BackingUnavailable, match="/proc/nowhere"):
        Directory("/proc/nowhere").allocate(1, 0)


def test_a_relative_directory_is_refused():
    with pytest.raises(diskless.BackingUnavailable, match="relative"):
        Directory("models")


def test_at_is_refused_by_name(base):
    with pytest.raises(diskless.MountPathError, match="needs the Tree"):
        Directory(str(base)).check_at("/models")
