"""What opens files and directories by URL or by a filesystem, through ramcache::: each library itself."""

from __future__ import annotations

import json

import fsspec
import numpy as np
import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

from tests.loader.fault_server import FaultServer
from tests.sources.stub_server import Answer, Asked, StubServer

ARRAY = np.arange(300_000, dtype=np.float32).reshape(300, 1000)


@pytest.fixture
def server(s3_env):
    with FaultServer({}) as server:
        yield server


@pytest.fixture
def directory(bucket):
    for key, data in (("a.txt", b"alpha"), ("b.txt", b"beta"), ("sub/c.txt", b"gamma")):
        bucket.put(f"dir/{key}", data)
    return f"{bucket.url}/dir"


# It says so of every protocol that is not on its own list.
@pytest.mark.filterwarnings("ignore:UPath 'ramcache' filesystem not explicitly implemented")
def test_universal_pathlib_takes_chained_urls(directory, moto):
    upath = pytest.importorskip("upath")
    path = upath.UPath(f"ramcache::{directory}", s3=moto)
    beneath = upath.UPath(path.path, protocol="ramcache", target_protocol="s3", target_options=moto)
    for found in (path, beneath):
        assert type(found.fs).__name__ == "RamCacheFileSystem"
        assert sorted(each.name for each in found.iterdir()) == ["a.txt", "b.txt", "sub"]
        assert sorted(each.name for each in found.glob("*.txt")) == ["a.txt", "b.txt"]
        assert sorted(each.name for each in found.rglob("*.txt")) == ["a.txt", "b.txt", "c.txt"]
        assert (found / "sub" / "c.txt").read_bytes() == b"gamma" and (found / "a.txt").read_text() == "alpha"
        assert found.is_dir() and (found / "a.txt").is_file() and not (found / "none").exists()
        assert (found / "sub/c.txt").parent.parent.joinpath("b.txt").stat().st_size == 4
        with (found / "b.txt").open("rb") as file:
            assert file.read() == b"beta"


def test_fsspec_opens_many(directory, moto):
    with fsspec.open_files(f"ramcache::{directory}/*.txt", "rt", s3=moto) as files:
        assert [file.read() for file in files] == ["alpha", "beta"]
    with fsspec.open_files([f"ramcache::{directory}/{key}" for key in ("b.txt", "sub/c.txt")], s3=moto) as files:
        assert [file.read() for file in files] == [b"beta", b"gamma"]
    local = fsspec.open_local
    with pytest.raises(ValueError, match="local_file"):
        local(f"ramcache::{directory}/a.txt", s3=moto)


def test_a_mapper(directory, moto):
    mapper = fsspec.get_mapper(f"ramcache::{directory}", s3=moto)
    assert sorted(mapper) == ["a.txt", "b.txt", "sub/c.txt"] and len(mapper) == 3 and "none" not in mapper
    assert mapper["sub/c.txt"] == b"gamma"
    assert mapper.getitems(["a.txt", "none"], on_error="omit") == {"a.txt": b"alpha"}
    with pytest.raises(KeyError):
        mapper["none"]
    with pytest.raises(OSError, match="only reads"):
        mapper["new"] = b"x"


def test_a_generic_filesystem_copies_into_another(tmp_path, s3_env, monkeypatch):
    """Over `file`: it calls filesystems from the loop that s3fs has, which then cannot be asked for what a path is."""
    from fsspec import generic

    monkeypatch.setattr(generic, "_generic_fs", {})
    generic.set_generic_fs("ramcache", target_protocol="file")
    generic.set_generic_fs("memory")
    (tmp_path / "a.txt").write_bytes(b"alpha")
    (tmp_path / "b.txt").write_bytes(b"beta")
    into = ["memory://generic/a.txt", "memory://generic/b.txt"]
    fs = generic.GenericFileSystem(default_method="generic")
    fs.copy([f"ramcache://{tmp_path}/{name}" for name in ("a.txt", "b.txt")], into, on_error="raise")
    memory = fsspec.filesystem("memory")
    assert [memory.cat_file(path) for path in into] == [b"alpha", b"beta"]
    memory.rm("/generic", recursive=True)


def test_zarr(server, faulty, tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    group = zarr.open_group(tmp_path / "z", mode="w")
    group.create_array("chunked", data=ARRAY, chunks=(100, 500))
    group.create_array("sharded", data=ARRAY, chunks=(50, 100), shards=(150, 500))
    group.attrs["of"] = "numbers"
    for path in (tmp_path / "z").rglob("*"):
        if path.is_file():
            server.objects[f"z/{path.relative_to(tmp_path / 'z')}"] = path.read_bytes()

    fs = fsspec.filesystem("ramcache", target_protocol="s3", target_options=faulty)
    wrapped = AsyncFileSystemWrapper(fs, asynchronous=True)
    for opened in (
        zarr.open_group(f"ramcache::{server.url}/z", storage_options={"s3": faulty}, mode="r"),
        zarr.open_group(zarr.storage.FsspecStore(wrapped, read_only=True, path="faulty/z"), mode="r"),
    ):
        assert opened.attrs["of"] == "numbers"
        arrays = opened["chunked"], opened["sharded"]
        assert np.array_equal(arrays[0][120:130, 400:600], ARRAY[120:130, 400:600])
        assert np.array_equal(arrays[1][149:151, 50:150], ARRAY[149:151, 50:150])
        assert np.array_equal(arrays[0][:], ARRAY) and np.array_equal(arrays[1][:], ARRAY)
        asked = len(server.gets), len(server.heads), server.list_requests
        assert np.array_equal(arrays[0][:], ARRAY) and np.array_equal(arrays[1][:], ARRAY)
        assert (len(server.gets), len(server.heads), server.list_requests) == asked


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_checkpoint_of_torch_distributed(bucket, moto):
    torch = pytest.importorskip("torch")
    checkpoint = pytest.importorskip("torch.distributed.checkpoint")
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter

    def state(value):
        return {"weights": torch.from_numpy(value.copy()), "bias": torch.from_numpy(value[0].copy()), "step": 7}

    checkpoint.save(state(ARRAY), storage_writer=FsspecWriter(f"{bucket.url}/step7", **moto), no_dist=True)
    loaded = state(np.zeros_like(ARRAY)) | {"step": 0}
    reader = FsspecReader(f"ramcache::{bucket.url}/step7", s3=moto)
    checkpoint.load(loaded, storage_reader=reader, no_dist=True)
    assert np.array_equal(loaded["weights"].numpy(), ARRAY) and np.array_equal(loaded["bias"].numpy(), ARRAY[0])
    assert loaded["step"] == 7


class _Hub:
    """Answers what huggingface_hub asks of one repository."""

    def __init__(self, files):
        self.files = files

    def entry(self, path):
        if path in self.files:
            return {"type": "file", "path": path, "size": len(self.files[path]), "oid": f"{len(path):040x}"}
        return {"type": "directory", "path": path, "oid": "d" * 40}

    def __call__(self, asked: Asked) -> Answer:
        answer = {"id": "org/repo", "sha": "a" * 40, "siblings": []}
        if "/resolve/" in asked.path:
            data = self.files[asked.path.partition("/resolve/main/")[2]]
            first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
            where = {"etag": '"1"', "content-range": f"bytes {first}-{last}/{len(data)}"}
            return Answer(206, data[first : last + 1], where)
        if "/tree/main" in asked.path:
            below = asked.path.partition("/tree/main")[2].strip("/")
            known = {*self.files, *(path.rpartition("/")[0] for path in self.files if "/" in path)}
            answer = [self.entry(path) for path in sorted(known) if path.rpartition("/")[0] == below]
        return Answer(200, json.dumps(answer).encode(), {"content-type": "application/json"})


def test_a_repository_of_hugging_face():
    hub = pytest.importorskip("huggingface_hub")
    data = np.random.default_rng(7).bytes(12 << 20)
    answer = _Hub({"config.json": b'{"layers": 2}', "deep/weights.bin": data})
    with StubServer(answer) as stub:
        beneath = hub.HfFileSystem(endpoint=stub.url, token=False, skip_instance_cache=True)
        fs = fsspec.filesystem("ramcache", fs=beneath, skip_instance_cache=True)
        assert fs.ls("org/repo", detail=False) == ["org/repo/config.json", "org/repo/deep"]
        assert fs.isdir("hf://org/repo/deep") and not fs.exists("org/repo/none")
        with fs.open("org/repo/config.json") as file:
            assert json.load(file) == {"layers": 2}
        for _ in range(2):
            assert fs.cat_file("org/repo/deep/weights.bin", 5_000_000, 5_000_010) == data[5_000_000:5_000_010]
        for _ in range(2):
            with fs.open("org/repo/deep/weights.bin") as file:
                assert file.read() == data
        ranges = [
            asked.headers["range"] for asked in stub.asked if asked.path.endswith("/resolve/main/deep/weights.bin")
        ]
    sizes = [1 + int(last) - int(first) for first, last in (text[6:].split("-") for text in ranges)]
    assert sum(sizes) == len(data)
