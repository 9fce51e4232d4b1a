"""How ram:// names things, and what it says of them."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import PurePosixPath

import fsspec
import pytest

import diskless
from diskless.filesystem import RamFileSystem


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("ram://x", "/diskless/x"),
        ("x", "/diskless/x"),
        ("/x", "/diskless/x"),
        ("/diskless/x", "/diskless/x"),
        ("ram:///diskless/x", "/diskless/x"),
        ("ram:///x", "/diskless/x"),
        ("ram://diskless/x", "/diskless/diskless/x"),
        ("/diskless/diskless/x", "/diskless/diskless/x"),
        ("/disklessly", "/diskless/disklessly"),
        ("ram://", "/diskless"),
        ("", "/diskless"),
        ("/", "/diskless"),
        ("/diskless", "/diskless"),
        ("/diskless/", "/diskless"),
        ("ram://a//b/./c/", "/diskless/a/b/c"),
        ("ram://a/../b", "/diskless/b"),
        ("/diskless/a/..", "/diskless"),
        ("//diskless//x", "/diskless/diskless/x"),
        (PurePosixPath("/diskless/a"), "/diskless/a"),
        ("ram://a b/é?*", "/diskless/a b/é?*"),
    ],
)
def test_every_spelling_has_one_name(given, name):
    assert RamFileSystem._strip_protocol(given) == name
    assert RamFileSystem._strip_protocol(name) == name


@pytest.mark.parametrize("given", ["ram://..", "ram://../etc", "/diskless/../etc", "a/../../b", "ram:///../x"])
def test_no_name_leads_out(fs, given):
    with pytest.raises(diskless.InvalidURL, match="leads out of ram://"):
        fs.ls(given)
    with pytest.raises(ValueError):
        fs.open(given, "wb")


def test_a_nul_is_refused(fs):
    for attempt in (fs.ls, fs.info, fs.mkdir, fs.rm, fs.touch, fs.cat):
        with pytest.raises(diskless.InvalidURL, match="NUL"):
            attempt("ram://a\0b")


def test_a_path_is_a_string(fs):
    with pytest.raises(TypeError, match="bytes"):
        fs.info(b"ram://x")


def test_a_name_becomes_a_url_and_back(fs):
    for name in ("/diskless/a/b", "/diskless", "/diskless/diskless/x"):
        assert fs._strip_protocol(fs.unstrip_protocol(name)) == name
    assert fs.unstrip_protocol("/diskless/a") == "ram://a"
    assert fs.unstrip_protocol("ram://a") == "ram://a"
    assert fs.unstrip_protocol("/diskless") == "ram://"


def test_a_parent_is_never_above_the_root(fs):
    assert fs._parent("ram://a/b") == "/diskless/a"
    assert fs._parent("ram://a") == "/diskless"
    assert fs._parent("ram://") == "/diskless"


def test_fsspec_finds_it_by_its_protocol():
    assert fsspec.get_filesystem_class("ram") is RamFileSystem


def test_url_functions_of_fsspec_work(tree_fs, place):
    url = tree_fs.unstrip_protocol(place)
    with fsspec.open(f"{url}/a.txt", "w") as file:
        file.write("text")
    assert [each.path for each in fsspec.open_files(f"{url}/*.txt")] == [f"{place}/a.txt"]
    found, path = fsspec.url_to_fs(f"{url}/a.txt")
    assert isinstance(found, RamFileSystem) and path == f"{place}/a.txt"
    mapper = fsspec.get_mapper(url)
    mapper["b/c"] = b"value"
    assert set(mapper) == {"a.txt", "b/c"} and mapper["b/c"] == b"value"
    with fsspec.open(f"simplecache::{url}/a.txt") as file:
        assert file.read() == b"text"


def test_info_says_what_stat_does(fs, place):
    fs.pipe(f"{place}/a", b"12345")
    before = time.time()
    found = fs.info(f"{place}/a")
    assert found == fs.ls(f"{place}/a")[0] == fs.ls(place)[0]
    assert (found["name"], found["size"], found["type"]) == (f"{place}/a", 5, "file")
    assert (found["islink"], found["nlink"], found["uid"]) == (False, 1, os.getuid())
    assert found["mode"] & 0o777 == 0o666 & ~_umask()
    assert abs(found["mtime"] - before) < 5 and abs(found["created"] - before) < 5
    assert fs.modified(f"{place}/a").timestamp() == pytest.approx(found["mtime"], abs=1e-5)
    assert fs.created(f"{place}/a").utcoffset().total_seconds() == 0
    with fs.open(f"{place}/a", "rb") as file:
        assert os.fstat(file.fileno()).st_ino == found["ino"]
    assert fs.info(place)["type"] == "directory"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_changed_umask_counts_at_once(fs, place):
    before = os.umask(0o077)
    try:
        fs.touch(f"{place}/mine")
        os.umask(0)
        fs.touch(f"{place}/everybodys")
    finally:
        os.umask(before)
    assert fs.info(f"{place}/mine")["mode"] & 0o777 == 0o600
    assert fs.info(f"{place}/everybodys")["mode"] & 0o777 == 0o666


def test_what_changes_has_another_checksum(fs, place):
    path, seen = f"{place}/a", set()
    for number in range(50):
        fs.pipe(path, b"%02d" % number)
        seen.add((fs.checksum(path), fs.ukey(path)))
    assert len(seen) == 50
    assert fs.checksum(path) == fs.checksum(path)


def test_walk_find_glob_and_du(fs, place):
    for name, data in {"a.txt": b"1", "d/b.txt": b"22", "d/e/c.bin": b"333"}.items():
        fs.pipe(f"{place}/{name}", data)
    assert fs.find(place) == [f"{place}/{name}" for name in ("a.txt", "d/b.txt", "d/e/c.bin")]
    assert list(fs.walk(f"{place}/d")) == [(f"{place}/d", ["e"], ["b.txt"]), (f"{place}/d/e", [], ["c.bin"])]
    assert fs.glob(f"{place}/**/*.txt") == [f"{place}/a.txt", f"{place}/d/b.txt"]
    assert fs.glob(f"ram:/{place.removeprefix('/diskless')}/d/?.txt") == [f"{place}/d/b.txt"]
    assert fs.du(place) == 6 and fs.du(place, total=False)[f"{place}/d/e/c.bin"] == 3
    assert fs.isdir(f"{place}/d") and fs.isfile(f"{place}/a.txt") and not fs.exists(f"{place}/none")
    assert place in fs.glob("ram://test-*")


def test_many_names_are_listed(fs, place):
    for number in range(300):
        fs.touch(f"{place}/{number}")
    assert sorted(map(int, (name.rpartition("/")[2] for name in fs.ls(place, detail=False)))) == list(range(300))


def test_a_symlink_is_followed_but_not_by_walk(fs, place):
    fs.pipe(f"{place}/d/a", b"12")
    fs.symlink(f"{place}/d", f"{place}/to_d")
    fs.symlink(f"{place}/d/a", f"{place}/to_a")
    fs.symlink(f"{place}/none", f"{place}/to_none")
    assert fs.cat(f"{place}/to_d/a") == fs.cat(f"{place}/to_a") == b"12"
    found = fs.info(f"{place}/to_a")
    assert (found["islink"], found["destination"], found["size"]) == (True, f"{place}/d/a", 2)
    assert fs.info(f"{place}/to_d")["type"] == "directory" and fs.islink(f"{place}/to_d")
    assert not fs.exists(f"{place}/to_none") and fs.lexists(f"{place}/to_none")
    with pytest.raises(FileNotFoundError):
        fs.info(f"{place}/to_none")
    assert {each["name"] for each in fs.ls(place)} == {f"{place}/{name}" for name in ("d", "to_d", "to_a", "to_none")}
    assert f"{place}/to_d/a" not in fs.find(place)
    fs.rm(f"{place}/to_d", recursive=True)
    assert fs.exists(f"{place}/d/a")


def test_what_is_not_there_is_an_error(fs, place):
    for attempt in (fs.info, fs.ls, fs.cat, fs.rm, fs.rm_file, fs.rmdir, fs.created, fs.modified, fs.checksum):
        with pytest.raises(FileNotFoundError):
            attempt(f"{place}/none")
    with pytest.raises(FileNotFoundError):
        fs.rm(f"{place}/none", recursive=True)
    with pytest.raises(FileNotFoundError):
        fs.cp_file(f"{place}/none", f"{place}/other")
    with pytest.raises(FileNotFoundError):
        fs.mv(f"{place}/none", f"{place}/other")
    assert fs.glob(f"{place}/none*") == [] and fs.find(f"{place}/none") == []


def test_a_name_that_is_too_long_is_an_error(fs, place):
    with pytest.raises(OSError, match="too long"):
        fs.touch(f"{place}/{'n' * 256}")


def test_the_filesystem_is_not_sent_elsewhere(fs):
    with pytest.raises(TypeError, match="in the memory of this process"):
        pickle.dumps(fs)


def test_what_a_directory_keeps_for_itself_is_not_shown(fs):
    assert not {"/diskless/.lock", "/diskless/.staging"} & set(fs.ls("ram://", detail=False))
    if fs._hidden:
        assert not fs.exists("ram://.staging")
        with pytest.raises(FileNotFoundError, match="of its own"):
            fs.rm("ram://.staging", recursive=True)


def test_two_filesystems_are_told_apart(fs):
    others = {RamFileSystem(backing=backing).fsid for backing in ("tree", "directory:/dev/shm/diskless-other")}
    assert len(others) == 2 and fs.fsid.startswith("ram-")


def test_a_backing_that_makes_no_sense_is_refused():
    with pytest.raises(diskless.InvalidOption):
        RamFileSystem(backing="disk")
