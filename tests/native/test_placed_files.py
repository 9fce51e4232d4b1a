"""Files of a load that are placed in a scratch: read there, and never written to."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import diskless
from diskless import native_api as native

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the Tree")
BYTES = b"of the store"


@pytest.fixture
def scratch() -> Iterator[Path]:
    with diskless.scratch() as path:
        yield Path(path)


@pytest.fixture
def memory() -> Iterator[int]:
    fd = native.memfd("placed")
    os.write(fd, BYTES)
    native.seal(fd)
    yield fd
    native.release(fd)


@pytest.fixture
def placed(scratch: Path, memory: int) -> Path:
    (scratch / "models").mkdir()
    path = scratch / "models" / "weights"
    native.place_file(str(path), memory, 0o644, 1_700_000_000_000_000_000)
    return path


def test_it_is_read_like_any_file_there(placed: Path) -> None:
    assert placed.read_bytes() == BYTES
    assert placed.stat().st_mtime == 1_700_000_000 and placed.stat().st_size == len(BYTES)
    assert os.listdir(placed.parent) == ["weights"]


def test_it_has_as_many_names_as_one_wants(placed: Path, memory: int) -> None:
    other = placed.with_name("the same")
    native.place_file(str(other), memory, 0o644, 0)
    assert os.path.samefile(placed, other)
    placed.unlink()
    assert other.read_bytes() == BYTES and os.listdir(placed.parent) == ["the same"]
    placed.write_bytes(b"new")
    assert other.read_bytes() == BYTES


def test_who_begins_it_anew_gets_another_file(placed: Path, memory: int) -> None:
    with placed.open("rb") as before:
        with placed.open("wb") as file:
            file.write(b"the user's own words")
        assert before.read() == BYTES == os.pread(memory, 100, 0)
    assert placed.read_bytes() == b"the user's own words"
    with placed.open("ab") as file:
        file.write(b", and more")
    assert placed.read_bytes() == b"the user's own words, and more"


def test_through_a_link_the_file_behind_it_is_replaced(placed: Path) -> None:
    link = placed.parent / "link"
    link.symlink_to("weights")
    link.write_bytes(b"new")
    assert link.is_symlink() and placed.read_bytes() == b"new"


@pytest.mark.parametrize("mode", ["r+b", "ab"])
def test_it_is_not_changed_in_its_place(placed: Path, mode: str) -> None:
    with pytest.raises(OSError) as caught:
        placed.open(mode)
    assert caught.value.errno == errno.EROFS
    with pytest.raises(OSError, match="Read-only"):
        os.truncate(placed, 1)
    with pytest.raises(OSError, match="Read-only"):
        placed.chmod(0o600)
    assert placed.read_bytes() == BYTES


def test_it_is_moved_replaced_and_removed(placed: Path, memory: int) -> None:
    other = placed.parent / "other"
    placed.rename(other)
    assert other.read_bytes() == BYTES and not placed.exists()
    placed.write_bytes(b"downloaded")
    placed.replace(other)
    assert other.read_bytes() == b"downloaded"
    native.place_file(str(placed), memory, 0o644, 0)
    placed.unlink()
    native.place_file(str(placed), memory, 0o644, 0)
    shutil.rmtree(placed.parent)
    assert not placed.parent.exists() and os.pread(memory, 100, 0) == BYTES


def test_the_scratch_takes_no_room_for_it(placed: Path) -> None:
    assert diskless.usage().scratch_bytes == 0


def test_names_that_are_taken_and_places_that_are_none(placed: Path, memory: int, scratch: Path) -> None:
    for path, error in (
        (placed, errno.EEXIST),
        (scratch / "nowhere" / "name", errno.ENOENT),
        (placed / "below", errno.ENOTDIR),
        (scratch / "models" / ".." / "name", errno.EINVAL),
        (Path("/tmp/outside"), errno.ENOENT),
    ):
        with pytest.raises(OSError) as caught:
            native.place_file(str(path), memory, 0o644, 0)
        assert caught.value.errno == error, path


def test_it_is_gone_with_the_scratch(memory: int) -> None:
    with diskless.scratch() as path:
        name = os.path.join(path, "name")
        native.place_file(name, memory, 0o644, 0)
        file = open(name, "rb")
    with file:
        assert not os.path.exists(name) and file.read() == BYTES
