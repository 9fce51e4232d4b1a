"""Making, copying, moving and removing in ram://."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from fsspec.callbacks import Callback


def test_directories_are_made_and_removed(fs, place):
    fs.mkdir(f"{place}/a/b/c")
    assert fs.isdir(f"{place}/a/b/c")
    with pytest.raises(FileExistsError):
        fs.mkdir(f"{place}/a")
    with pytest.raises(FileExistsError):
        fs.makedirs(f"{place}/a")
    fs.makedirs(f"{place}/a", exist_ok=True)
    with pytest.raises(FileNotFoundError):
        fs.mkdir(f"{place}/x/y", create_parents=False)
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(f"{place}/a")
    fs.rmdir(f"{place}/a/b/c")
    assert not fs.exists(f"{place}/a/b/c")


def test_a_file_is_no_directory(fs, place):
    fs.touch(f"{place}/file")
    with pytest.raises(FileExistsError):
        fs.makedirs(f"{place}/file", exist_ok=True)
    for attempt in (fs.mkdir, fs.touch):
        with pytest.raises(NotADirectoryError):
            attempt(f"{place}/file/below")
    with pytest.raises(NotADirectoryError):
        fs.rmdir(f"{place}/file")


def test_directories_above_a_file_are_made(fs, place):
    fs.pipe(f"{place}/a/b/c", b"1")
    fs.touch(f"{place}/d/e")
    fs.cp_file(f"{place}/a/b/c", f"{place}/f/g/h")
    assert fs.find(place) == [f"{place}/{name}" for name in ("a/b/c", "d/e", "f/g/h")]
    with pytest.raises(FileNotFoundError):
        fs.open(f"{place}/none/file", "rb")
    assert not fs.exists(f"{place}/none")


def test_touch_makes_empties_and_dates(fs, place):
    fs.touch(f"{place}/a")
    assert fs.size(f"{place}/a") == 0
    fs.pipe(f"{place}/a", b"12")
    before = fs.modified(f"{place}/a")
    fs.touch(f"{place}/a", truncate=False)
    assert fs.cat(f"{place}/a") == b"12" and fs.modified(f"{place}/a") >= before
    fs.touch(f"{place}/a")
    assert fs.cat(f"{place}/a") == b""


def test_a_directory_is_removed_only_when_told_so(fs, place):
    fs.pipe({f"{place}/d/a": b"1", f"{place}/d/e/b": b"2", f"{place}/f": b"3"})
    with pytest.raises(IsADirectoryError, match="recursive=True"):
        fs.rm(f"{place}/d")
    with pytest.raises(IsADirectoryError):
        fs.rm_file(f"{place}/d")
    fs.rm([f"{place}/d/a", f"{place}/f"])
    assert fs.find(place) == [f"{place}/d/e/b"]
    fs.rm(f"{place}/d", recursive=True)
    assert fs.ls(place) == []


def test_patterns_are_removed(fs, place):
    fs.pipe({f"{place}/{name}": b"" for name in ("a.txt", "b.txt", "c.bin", "d/e.txt")})
    fs.rm(f"{place}/*.txt")
    assert fs.find(place) == [f"{place}/c.bin", f"{place}/d/e.txt"]
    fs.rm(f"{place}/*", recursive=True)
    assert fs.ls(place) == []


def test_a_depth_bounds_what_is_removed(fs, place):
    fs.pipe({f"{place}/d/a": b"", f"{place}/d/b": b""})
    fs.rm(f"{place}/d", recursive=True, maxdepth=1)
    assert not fs.exists(f"{place}/d")


def test_a_deep_tree_is_removed(fs, place):
    fs.makedirs(place + "/d" * 500)
    fs.rm(f"{place}/d", recursive=True)
    assert fs.ls(place) == []


@pytest.mark.parametrize("spelling", ["ram://", "/diskless", "/", "ram://a/.."])
def test_the_root_stays(fs, spelling):
    for attempt in (fs.rmdir, fs.rm, fs.rm_file, lambda path: fs.mv(path, "ram://elsewhere")):
        with pytest.raises(OSError, match="itself stays") as caught:
            attempt(spelling)
        assert caught.value.errno == errno.EBUSY
    with pytest.raises(FileExistsError):
        fs.mkdir(spelling)
    with pytest.raises(IsADirectoryError):
        fs.open(spelling, "wb")


def test_a_file_is_moved_in_one_step(fs, place):
    fs.pipe(f"{place}/a", b"1")
    inode = fs.info(f"{place}/a")["ino"]
    fs.mv(f"{place}/a", f"{place}/b")
    assert not fs.exists(f"{place}/a") and fs.info(f"{place}/b")["ino"] == inode
    fs.pipe(f"{place}/c", b"2")
    fs.mv(f"{place}/c", f"{place}/b")
    assert fs.cat(f"{place}/b") == b"2"
    fs.mkdir(f"{place}/d")
    fs.mv(f"{place}/b", f"{place}/d")
    assert fs.find(place) == [f"{place}/d/b"]


@pytest.mark.parametrize("recursive", [True, False])
def test_a_directory_is_moved(fs, place, recursive):
    fs.pipe({f"{place}/d/a": b"1", f"{place}/d/e/b": b"2"})
    fs.mv(f"{place}/d", f"{place}/f", recursive=recursive)
    assert fs.find(place) == [f"{place}/f/a", f"{place}/f/e/b"]
    with pytest.raises(OSError):
        fs.mv(f"{place}/f", f"{place}/f/e/inside")


def test_a_move_to_where_no_directory_is_raises_file_not_found(fs, place):
    """As of fsspec's own tests of moving, which are about local files."""
    fs.pipe(f"{place}/a", b"1")
    with pytest.raises(FileNotFoundError):
        fs.mv(f"{place}/a", f"{place}/none/b")
    assert fs.cat(f"{place}/a") == b"1"


def test_a_move_to_itself_changes_nothing(fs, place):
    fs.pipe(f"{place}/a", b"1")
    fs.mv(f"{place}/a", f"{place}/a")
    assert fs.cat(f"{place}/a") == b"1"


def test_lists_and_patterns_are_moved(fs, place):
    fs.pipe({f"{place}/a": b"1", f"{place}/b": b"2"})
    fs.mkdir(f"{place}/d")
    fs.mv([f"{place}/a"], [f"{place}/d/a"])
    fs.mv(f"{place}/b*", f"{place}/d")
    assert fs.find(place) == [f"{place}/d/a", f"{place}/d/b"]


def test_a_copy_is_a_file_of_its_own(fs, place):
    data = bytes(range(256)) * 10_000
    fs.pipe(f"{place}/a", data)
    fs.cp_file(f"{place}/a", f"{place}/b")
    fs.pipe(f"{place}/a", b"")
    assert fs.cat(f"{place}/b") == data
    with pytest.raises(shutil.SameFileError):
        fs.cp_file(f"{place}/b", f"{place}/b")
    assert fs.cat(f"{place}/b") == data


def test_a_file_may_have_two_names(fs, place):
    fs.pipe(f"{place}/a", b"1")
    fs.link(f"{place}/a", f"{place}/b")
    assert fs.info(f"{place}/b")["nlink"] == 2
    fs.rm(f"{place}/a")
    assert fs.cat(f"{place}/b") == b"1"


def test_mode_bits_are_kept(fs, place):
    fs.touch(f"{place}/a")
    fs.chmod(f"{place}/a", 0o640)
    assert fs.info(f"{place}/a")["mode"] & 0o777 == 0o640


def test_cat_reads_ranges_and_many(fs, place):
    fs.pipe({f"{place}/a": b"0123456789", f"{place}/b": b"b"})
    assert fs.cat_file(f"{place}/a", 2, 5) == b"234"
    assert fs.cat_file(f"{place}/a", -3) == b"789"
    assert fs.cat_file(f"{place}/a", -4, -2) == b"67"
    assert fs.cat([f"{place}/a", f"{place}/b"]) == {f"{place}/a": b"0123456789", f"{place}/b": b"b"}
    ranges = fs.cat_ranges([f"{place}/a", f"{place}/none"], [0, 0], [2, 2])
    assert ranges[0] == b"01" and isinstance(ranges[1], FileNotFoundError)
    assert fs.head(f"{place}/a", 2) == b"01" and fs.tail(f"{place}/a", 2) == b"89"
    assert fs.read_block(f"{place}/a", 3, None) == b"3456789"
    with pytest.raises(IsADirectoryError):
        fs.cat_file(place)


def test_put_and_get_tell_how_far_they_are(fs, place, tmp_path: Path):
    (tmp_path / "in").mkdir()
    data = bytes(9 << 20)
    (tmp_path / "in" / "big").write_bytes(data)
    seen = []

    class Seen(Callback):
        def branched(self, path_1, path_2, **kwargs):
            return Seen()

        def relative_update(self, inc=1):
            seen.append(inc)

    fs.put(str(tmp_path / "in"), f"{place}/there", recursive=True, callback=Seen())
    assert fs.size(f"{place}/there/big") == len(data) and sum(each for each in seen if each > 1) == len(data)
    seen.clear()
    fs.get(f"{place}/there", str(tmp_path / "out"), recursive=True, callback=Seen())
    assert (tmp_path / "out" / "big").read_bytes() == data and sum(each for each in seen if each > 1) == len(data)
    with pytest.raises(FileExistsError):
        fs.put_file(str(tmp_path / "in" / "big"), f"{place}/there/big", mode="create")
