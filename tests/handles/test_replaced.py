"""Objects that are replaced while they are read: who has one open is told, and who loads it anew gets what is there."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

import diskless
from tests.loader.fault_server import FaultServer
from tests.programs import until

MIB = 1 << 20
OLD, NEW = os.urandom(24 * MIB), os.urandom(25 * MIB)
FAR = 20 * MIB


@pytest.fixture
def server(s3_env):
    with FaultServer({"m/large.bin": OLD, "m/small.bin": b"small"}) as server:
        yield server


@pytest.fixture(params=["by ourselves", "by s3fs"])
def fs(server, request):
    import s3fs

    class Theirs(s3fs.S3FileSystem):
        """What we do not read by ourselves."""

    options = {"target_protocol": "s3", "target_options": server.s3fs_options}
    given = options if request.param == "by ourselves" else {"fs": Theirs(**server.s3fs_options)}
    fs = fsspec.filesystem("ramcache", skip_instance_cache=True, **given)
    fs.ls("faulty/m")
    yield fs
    fs.clear_cache()


def test_the_next_who_opens_it_gets_the_new_version(server, fs):
    held = diskless.usage().held_bytes
    with fs.open("faulty/m/large.bin") as file:
        assert file.read(5) == OLD[:5]
        server.objects["m/large.bin"] = NEW
        for _ in range(2):
            with pytest.raises(diskless.ObjectChanged):
                file.read_at(FAR, FAR + 5)
        assert fs.cat_file("faulty/m/large.bin", FAR, FAR + 5) == NEW[FAR : FAR + 5]
        with pytest.raises(diskless.ObjectChanged):
            file.read_at(FAR, FAR + 5)
        assert file.read_at(0, 5) == OLD[:5]
    # The old one is kept no more.
    assert diskless.usage().held_bytes - held < 4 * MIB
    assert fs.cat_file("faulty/m/large.bin") == NEW
    assert diskless.usage().held_bytes - held == len(NEW)


def test_one_that_was_deleted_is_not_found_and_then_there_again(server, fs):
    assert fs.cat_file("faulty/m/large.bin", 0, 5) == OLD[:5]
    del server.objects["m/large.bin"]
    with pytest.raises(diskless.ObjectChanged):
        fs.cat_file("faulty/m/large.bin", FAR, FAR + 5)
    with pytest.raises(FileNotFoundError):
        fs.cat_file("faulty/m/large.bin", FAR, FAR + 5)
    server.objects["m/large.bin"] = NEW
    assert fs.cat_file("faulty/m/large.bin", FAR, FAR + 5) == NEW[FAR : FAR + 5]


def test_who_opens_it_while_others_have_the_old_one(server):
    url, options = f"{server.url}/m/large.bin", {"storage_options": server.storage_options, "load": "lazy"}
    with diskless.open(url, **options) as old:
        assert old.read(5) == OLD[:5]
        server.objects["m/large.bin"] = NEW
        with diskless.open(url, **options) as joined, pytest.raises(diskless.ObjectChanged):
            joined.read_at(FAR, FAR + 5)
        with diskless.open(url, **options) as new:
            assert new.read_at(FAR, FAR + 5) == NEW[FAR : FAR + 5]
            assert new.read() == NEW


def test_the_next_lazy_mount_shows_the_new_version(server):
    def mount() -> diskless.Mount:
        return diskless.mount(f"{server.url}/m", load="lazy", storage_options=server.storage_options)

    with mount() as before:
        old = diskless.mounts()[-1]
        server.objects["m/large.bin"] = NEW
        with pytest.raises(OSError):
            Path(before, "large.bin").read_bytes()
        until(lambda: "large.bin" in old.refusals)
        with mount() as after:
            assert Path(after, "large.bin").read_bytes() == NEW
            with pytest.raises(OSError):
                Path(before, "large.bin").read_bytes()
            assert Path(before, "small.bin").read_bytes() == b"small"


def test_a_path_shows_what_the_file_reads(server):
    options = {"target_protocol": "s3", "target_options": server.s3fs_options}
    fs = fsspec.filesystem("ramcache", check_files=True, skip_instance_cache=True, **options)
    with fs.open("faulty/m/small.bin") as first:
        assert first.read() == b"small"
        server.objects["m/small.bin"] = b"another"
        with fs.open("faulty/m/small.bin") as second:
            with pytest.raises(diskless.ObjectChanged, match=r"small\.bin was loaded anew .*: close it"):
                _ = first.path
            assert diskless.mounts() == []
            assert Path(second.path).read_bytes() == second.read() == b"another"
        first.seek(0)
        assert first.read() == b"small"
    fs.clear_cache()


def test_a_path_of_what_was_loaded_anew_and_is_the_same(server):
    with diskless.open(f"{server.url}/m/small.bin", storage_options=server.storage_options) as file:
        file.job.wait()
        file.job.set_aside()
        assert Path(file.path).read_bytes() == file.read() == b"small"
