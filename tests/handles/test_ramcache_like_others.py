"""ramcache:: where other filesystems of fsspec are asked the same: what they say, it says."""

from __future__ import annotations

import pickle
import urllib.request

import fsspec
import numpy as np
import pytest
from fsspec.implementations.dirfs import DirFileSystem

import diskless


@pytest.fixture
def root(bucket):
    """Where they find a few objects."""
    for key, data in (("small.bin", b"0123456789"), ("dir/a.txt", b"alpha")):
        bucket.put(key, data)
    return bucket.url.removeprefix("s3://")


@pytest.fixture
def theirs(moto):
    import s3fs

    return s3fs.S3FileSystem(**moto, skip_instance_cache=True)


@pytest.fixture
def fs(moto):
    return fsspec.filesystem("ramcache", target_protocol="s3", target_options=moto, skip_instance_cache=True)


def test_a_mapper_has_no_value_for_a_directory(root, fs, theirs):
    for mapper in (theirs.get_mapper(root), fs.get_mapper(root)):
        assert mapper.get("dir") is None and mapper.get("none") is None
        assert mapper["dir/a.txt"] == b"alpha"
        assert mapper.getitems(["dir", "none", "dir/a.txt"], on_error="omit") == {"dir/a.txt": b"alpha"}


def test_a_directory_is_no_file(root, fs, moto):
    for read in (lambda: fs.cat_file(f"{root}/dir"), lambda: fs.open(f"{root}/dir")):
        with pytest.raises(IsADirectoryError, match="is no object but a prefix"):
            read()
    assert isinstance(fs.cat_ranges([f"{root}/dir"], 0, 1)[0], IsADirectoryError)
    url = f"s3://{root}/dir"
    with (
        diskless.mount(url, storage_options=moto),
        pytest.raises(diskless.IsAPrefix, match="is no object but a prefix") as caught,
    ):
        diskless.open(url, storage_options=moto)
    assert isinstance(caught.value, diskless.InvalidURL)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is diskless.IsAPrefix and str(again) == str(caught.value)


def test_a_range_of_a_file_that_does_not_fit_as_a_whole(bucket, root, moto):
    bucket.put("3MiB", bytes(3 << 20))
    fs = fsspec.filesystem("ramcache", target_protocol="s3", target_options=moto, budget="1MiB")
    assert fs.cat_file(f"{root}/3MiB", 0, 10) == bytes(10)
    with fs.open(f"{root}/3MiB") as file, pytest.raises(diskless.BudgetExceeded):
        file.read()
    fs.clear_cache()


@pytest.mark.parametrize("name", ["simplecache", "filecache", "blockcache"])
def test_a_cache_on_a_disk_is_refused(root, moto, theirs, tmp_path, name):
    """Wherever in a chain it is, and however it came there."""
    there = {"s3": moto, name: {"cache_storage": str(tmp_path)}}
    kind = type("Other", (fsspec.get_filesystem_class(name),), {"protocol": "other"})
    for make in (
        lambda: fsspec.open(f"ramcache::{name}::s3://{root}/small.bin", **there),
        lambda: fsspec.open(f"ramcache::zip://a::{name}::s3://{root}/small.bin", **there),
        lambda: fsspec.filesystem("ramcache", fs=fsspec.filesystem(name, fs=theirs, cache_storage=str(tmp_path))),
        lambda: fsspec.filesystem("ramcache", fs=kind(fs=theirs, cache_storage=str(tmp_path))),
        lambda: fsspec.filesystem("ramcache", fs=DirFileSystem(root, kind(fs=theirs, cache_storage=str(tmp_path)))),
    ):
        with pytest.raises(diskless.InvalidURL, match=r"cache:: keeps its copy on a disk; leave it out"):
            make()


def test_ranges_in_numbers_of_numpy(bucket, root, fs, theirs):
    data = bytes(range(256)) * (24 << 12)
    bucket.put("large.bin", data)
    path, near, far = f"{root}/large.bin", np.int64(20 << 20), np.int64((20 << 20) + 5)
    for each in (theirs, fs):
        assert each.cat_ranges([path] * 2, near, far) == [data[near:far]] * 2
        assert each.cat_ranges([path] * 2, np.array([near, 0]), np.array([far, 3])) == [data[near:far], data[:3]]
        assert each.cat_file(path, start=near - 1, end=far) == data[near - 1 : far]
    fs.clear_cache()


def test_modes(root, fs):
    for mode in ("q", "", "b", "brb", "rr", "rw", "rbt", "rb++"):
        with pytest.raises(ValueError, match="makes no sense"):
            fs.open(f"{root}/small.bin", mode)
    for mode in ("w", "ab", "xb", "r+b", "rb+", "w+"):
        with pytest.raises(OSError, match="only reads"):
            fs.open(f"{root}/small.bin", mode)
    for mode, expected in (("rb", b"0123456789"), ("br", b"0123456789"), ("r", "0123456789"), ("rt", "0123456789")):
        with fs.open(f"{root}/small.bin", mode) as file:
            assert file.read() == expected


def test_a_signed_url_is_that_of_the_filesystem_beneath(root, fs):
    with urllib.request.urlopen(fs.sign(f"ramcache://{root}/small.bin", expiration=60)) as answer:
        assert answer.read() == b"0123456789"
    with pytest.raises(NotImplementedError):
        fsspec.filesystem("ramcache", target_protocol="memory").sign("/x")


def test_over_a_filesystem_of_pyarrow(tmp_path):
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import LocalFileSystem

    (tmp_path / "file").write_bytes(b"0123456789")
    fs = fsspec.filesystem("ramcache", fs=ArrowFSWrapper(LocalFileSystem()))
    assert fs.cat_file(str(tmp_path / "file")) == b"0123456789"
    with pytest.raises(diskless.InvalidURL, match="simplecache:: keeps its copy on a disk"):
        fsspec.filesystem("ramcache", fs=fsspec.filesystem("simplecache", fs=ArrowFSWrapper(LocalFileSystem())))
