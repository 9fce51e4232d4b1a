"""ramcache:: over s3fs and other filesystems."""

from __future__ import annotations

import os
import pickle
import threading
import time

import fsspec
import pytest
from fsspec.asyn import sync
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

import diskless
from diskless import kept
from diskless.cached_filesystem import RamCacheFileSystem
from tests.loader.fault_server import Fault, FaultServer, Get

MIB = 1 << 20
LARGE = os.urandom(24 * MIB + 5)
SMALL = os.urandom(100_000)


@pytest.fixture
def server(s3_env):
    objects = {"large.bin": LARGE, "small.bin": SMALL, "dir/a.txt": b"alpha", "dir/b.txt": b"beta"}
    with FaultServer(objects) as server:
        yield server


@pytest.fixture
def fs(server):
    return fsspec.filesystem(
        "ramcache", target_protocol="s3", target_options=server.s3fs_options, skip_instance_cache=True
    )


def test_a_chained_url_works_right_after_installation(server):
    with fsspec.open(f"ramcache::{server.url}/small.bin", s3=server.s3fs_options) as file:
        assert file.read() == SMALL
    with fsspec.open(f"ramcache::{server.url}/dir/a.txt", "r", s3=server.s3fs_options) as file:
        assert file.read() == "alpha"
    files = fsspec.open_files(f"ramcache::{server.url}/dir/*.txt", s3=server.s3fs_options)
    assert [open_file.path for open_file in files] == ["faulty/dir/a.txt", "faulty/dir/b.txt"]
    with files as opened:
        assert [file.read() for file in opened] == [b"alpha", b"beta"]


def test_a_second_open_asks_nobody(server, fs):
    with fs.open("faulty/large.bin") as file:
        assert file.read() == LARGE
    requests = len(server.gets), server.list_requests, len(server.heads)
    took = []
    for _ in range(5):
        started = time.perf_counter()
        with fs.open("faulty/large.bin") as file:
            took.append(time.perf_counter() - started)
            assert file.read() == LARGE
    with fsspec.open(f"ramcache::{server.url}/large.bin", s3=server.s3fs_options) as file:
        assert file.read(100) == LARGE[:100]
    assert (len(server.gets), server.list_requests, len(server.heads)) == requests
    assert min(took) < 0.01


def test_a_few_ranges_are_fetched_and_kept(server, fs):
    for _ in range(2):
        with fs.open("faulty/large.bin") as file:
            for position in (20 * MIB, 3 * MIB):
                file.seek(position)
                assert file.read(1000) == LARGE[position : position + 1000]
    assert server.sent_bytes("large.bin") == 2 * (256 << 10)
    assert len([get for get in server.gets if get.key == "large.bin"]) == 2


def test_ranges_are_asked_for_together(server, fs):
    waiting = threading.Barrier(3)
    server.plan = lambda get: (waiting.wait(20) and None) or Fault() if get.key == "large.bin" else Fault()
    paths, starts = ["faulty/large.bin"] * 3, [0, 10 * MIB, 20 * MIB]
    ranges = fs.cat_ranges(paths, starts, [start + 1000 for start in starts])
    assert ranges == [LARGE[start : start + 1000] for start in starts]
    assert server.sent_bytes("large.bin") == 3000
    server.plan = lambda get: Fault()
    assert fs.cat_ranges(["faulty/small.bin", "faulty/none"], -5, 99_999, on_error="return")[0] == SMALL[-5:-1]
    assert isinstance(fs.cat_ranges(["faulty/none"], 0, 5)[0], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["faulty/none"], 0, 5, on_error="raise")
    with pytest.raises(ValueError, match="equally many"):
        fs.cat_ranges(["faulty/small.bin"], [0, 1], [5, 6])


def test_all_that_reads(server, fs, tmp_path):
    assert sorted(fs.ls("faulty/dir", detail=False)) == ["faulty/dir/a.txt", "faulty/dir/b.txt"]
    assert fs.info("ramcache://faulty/small.bin")["size"] == len(SMALL)
    assert fs.exists("faulty/small.bin") and not fs.exists("faulty/none")
    assert fs.isfile("faulty/small.bin") and fs.isdir("faulty/dir")
    assert fs.glob("faulty/dir/*.txt") == ["faulty/dir/a.txt", "faulty/dir/b.txt"]
    assert fs.find("faulty/dir") == ["faulty/dir/a.txt", "faulty/dir/b.txt"]
    assert fs.du("faulty/dir") == 9 and fs.size("faulty/dir/a.txt") == 5
    assert fs.cat("faulty/dir/a.txt") == b"alpha"
    assert fs.cat(["faulty/dir/a.txt", "faulty/dir/b.txt"]) == {
        "faulty/dir/a.txt": b"alpha",
        "faulty/dir/b.txt": b"beta",
    }
    assert fs.cat_file("faulty/small.bin", 5, 10) == SMALL[5:10] and fs.cat_file("faulty/small.bin", -5) == SMALL[-5:]
    assert fs.head("faulty/small.bin", 10) == SMALL[:10] and fs.tail("faulty/small.bin", 10) == SMALL[-10:]
    fs.get("faulty/dir", str(tmp_path / "got"), recursive=True)
    assert (tmp_path / "got/a.txt").read_bytes() == b"alpha"
    assert fs.read_block("faulty/dir/a.txt", 1, 3) == b"lph"
    assert fs.unstrip_protocol("faulty/x") == "s3://faulty/x"
    assert fs.ukey("faulty/small.bin") == fs.fs.ukey("faulty/small.bin")


def test_an_instance_of_a_callers_own(server):
    import s3fs

    fs = fsspec.filesystem("ramcache", fs=s3fs.S3FileSystem(**server.s3fs_options))
    assert fs.target_protocol == "s3" and fs.cat_file("faulty/small.bin") == SMALL


def test_other_filesystems_beneath(tmp_path, s3_env):
    import zipfile

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/ramcache/x", b"in memory")
    (tmp_path / "f").write_bytes(b"on a disk")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("inner/name", b"zipped")
    for url, expected in (
        ("ramcache::memory://ramcache/x", b"in memory"),
        (f"ramcache::file://{tmp_path}/f", b"on a disk"),
        (f"ramcache::zip://inner/name::file://{tmp_path}/z.zip", b"zipped"),
    ):
        with fsspec.open(url) as file:
            assert file.read() == expected, url
    memory.rm("/ramcache", recursive=True)


def test_one_copy_however_it_is_asked_for(server, fs):
    held = diskless.usage().held_bytes
    with fs.open("faulty/large.bin") as file:
        file.seek(10 * MIB)
        file.read(10)
    options = {"storage_options": server.s3fs_options}
    with diskless.mount(f"{server.url}/large.bin", **options) as path, open(path, "rb") as mounted:
        assert mounted.read() == LARGE
        assert diskless.usage().held_bytes - held == len(LARGE)
        with fs.open("faulty/large.bin") as file, diskless.open(f"{server.url}/large.bin", **options) as ours:
            assert file.read() == ours.read() == LARGE
    assert server.sent_bytes("large.bin") == len(LARGE)
    # The Mount is gone, and the cache keeps what it had.
    with fs.open("faulty/large.bin") as file:
        assert file.read() == LARGE
    assert server.sent_bytes("large.bin") == len(LARGE)
    fs.clear_cache()
    assert diskless.usage().held_bytes == held


def test_a_file_of_a_mount_is_not_fetched_again(server, fs):
    with diskless.mount(server.url, storage_options=server.s3fs_options):
        gets = len(server.gets)
        with fs.open("faulty/large.bin") as file:
            assert file.read() == LARGE
        assert len(server.gets) == gets


def test_check_files_and_expiry(server):
    options = {"target_protocol": "s3", "target_options": server.s3fs_options, "skip_instance_cache": True}
    careless = fsspec.filesystem("ramcache", **options)
    careful = fsspec.filesystem("ramcache", check_files=True, **options)
    assert careless.cat_file("faulty/small.bin") == careful.cat_file("faulty/small.bin") == SMALL
    gets = len(server.gets)
    assert careful.cat_file("faulty/small.bin") == SMALL and len(server.gets) == gets
    server.objects["small.bin"] = b"another"
    assert careless.cat_file("faulty/small.bin") == SMALL
    with careless.open("faulty/small.bin") as old:
        assert careful.cat_file("faulty/small.bin") == b"another"
        assert old.read() == SMALL
    assert careless.cat_file("faulty/small.bin") == b"another"  # which is shared
    expiring = fsspec.filesystem("ramcache", expiry_time=0.05, **options)
    expiring.cat_file("faulty/small.bin")
    server.objects["small.bin"] = b"a third"
    time.sleep(0.06)
    assert expiring.cat_file("faulty/small.bin") == b"a third"


def test_clearing(server, fs):
    held = diskless.usage().held_bytes
    fs.cat_file("faulty/small.bin")
    fs.cat_file("faulty/large.bin", 0, 10)
    with fs.open("faulty/small.bin") as file:
        fs.pop_from_cache("faulty/small.bin")
        assert file.read() == SMALL
    fs.clear_cache()
    assert diskless.usage().held_bytes == held
    assert fs.cat_file("faulty/small.bin") == SMALL


def test_what_is_kept_makes_room(server, fs):
    """In a budget that holds one of the large files."""
    server.objects |= {f"large{number}.bin": LARGE for number in range(3)}
    budget = {"budget": f"{len(LARGE) + 4 * MIB}"}
    small = fsspec.filesystem("ramcache", target_protocol="s3", target_options=server.s3fs_options, **budget)
    for number in range(3):
        assert small.cat_file(f"faulty/large{number}.bin") == LARGE
    with small.open("faulty/large2.bin") as held:
        held.read()
        with pytest.raises(MemoryError), small.open("faulty/large1.bin") as file:
            file.read()
    with diskless.mount(f"{server.url}/large1.bin", storage_options=server.s3fs_options, **budget) as path:
        assert os.path.getsize(path) == len(LARGE)


def test_verify_gives_nothing_out_unverified(server):
    fs = fsspec.filesystem("ramcache", target_protocol="s3", target_options=server.s3fs_options, verify=True)
    assert fs.cat_file("faulty/large.bin", 10, 20) == LARGE[10:20]
    assert server.sent_bytes("large.bin") == len(LARGE)
    server.plan = lambda get: Fault(damage=3)
    with pytest.raises(diskless.ChecksumMismatch):
        fs.open("faulty/small.bin")


def test_threads_read_one_file(server, fs):
    wrong = []

    def work(number: int) -> None:
        with fs.open("faulty/large.bin") as file:
            for position in range(number * 100_000, len(LARGE), 4 * MIB):
                file.seek(position)
                if file.read(5000) != LARGE[position : position + 5000]:
                    wrong.append(position)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_failure_is_raised_and_not_kept(server, fs):
    def plan(get: Get) -> Fault:
        return Fault(status=403, code="AccessDenied")

    server.plan = plan
    with pytest.raises(PermissionError):
        fs.cat_file("faulty/large.bin", 0, 10)
    server.plan = lambda get: Fault()
    assert fs.cat_file("faulty/large.bin", 0, 10) == LARGE[:10]


def test_an_object_replaced_between_two_ranges(server, fs):
    with fs.open("faulty/large.bin") as file:
        assert file.read(5) == LARGE[:5]
        server.objects["large.bin"] = LARGE[::-1]
        file.seek(20 * MIB)
        with pytest.raises(diskless.ObjectChanged):
            file.read(5)
    assert fs.cat_file("faulty/large.bin", 0, 5) == LARGE[::-1][:5]


def test_it_is_read_only(server, fs, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    for change in (
        lambda: fs.open("faulty/new", "wb"),
        lambda: fs.open("faulty/small.bin", "ab"),
        lambda: fs.pipe_file("faulty/new", b"x"),
        lambda: fs.pipe({"faulty/new": b"x"}),
        lambda: fs.put(str(tmp_path / "f"), "faulty/new"),
        lambda: fs.rm("faulty/small.bin"),
        lambda: fs.rm_file("faulty/small.bin"),
        lambda: fs.mv("faulty/small.bin", "faulty/other"),
        lambda: fs.cp_file("faulty/small.bin", "faulty/other"),
        lambda: fs.mkdir("faulty/new"),
        lambda: fs.makedirs("faulty/new"),
        lambda: fs.touch("faulty/new"),
    ):
        with pytest.raises(OSError, match="only reads"):
            change()
    assert sorted(server.objects) == ["dir/a.txt", "dir/b.txt", "large.bin", "small.bin"]


def test_options_that_make_no_sense(server):
    for option in ({"cache_storage": "/tmp/x"}, {"cache_mapper": None}, {"compression": "gzip"}, {"cache_check": 5}):
        with pytest.raises(diskless.InvalidOption, match=next(iter(option))):
            fsspec.filesystem("ramcache", target_protocol="s3", **option)
    with pytest.raises(diskless.InvalidOption, match=r"anon=.*s3=\{"):
        fsspec.open(f"ramcache::{server.url}/x", anon=True)
    for wrong in ({}, {"target_protocol": "s3", "fs": fsspec.filesystem("memory")}):
        with pytest.raises(ValueError, match="target_protocol"):
            RamCacheFileSystem(skip_instance_cache=True, **wrong)
    with pytest.raises(ValueError, match="nothing-like"):
        fsspec.open("ramcache::nothing-like://x/y")
    fs = fsspec.filesystem("ramcache", target_protocol="s3", target_options=server.s3fs_options, same_names=True)
    assert fs.cat_file("faulty/small.bin") == SMALL


def test_pickling(server, fs):
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat_file("faulty/small.bin") == SMALL
    with fs.open("faulty/small.bin") as file:
        file.seek(50)
        copy = pickle.loads(pickle.dumps(file))
    with copy:
        assert copy.read(5) == SMALL[50:55]
    of = pickle.loads(pickle.dumps(fsspec.open(f"ramcache::{server.url}/small.bin", s3=server.s3fs_options)))
    with of as file:
        assert file.read() == SMALL


def test_after_a_fork(server, fs):
    fs.cat_file("faulty/small.bin")
    fs.cat_file("faulty/large.bin", 0, 10)
    fs.ls("faulty")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            fs.invalidate_cache()
            read = [fs.cat_file("faulty/small.bin") == SMALL, fs.cat_file("faulty/large.bin", MIB, MIB + 9)]
            listed = fs.ls("faulty/dir", detail=False)
            status = 0 if read == [True, LARGE[MIB : MIB + 9]] and len(listed) == 2 else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert fs.cat_file("faulty/large.bin", 5, 9) == LARGE[5:9]


def test_those_who_want_it_asynchronous(server, fs):
    wrapped = AsyncFileSystemWrapper(fs, asynchronous=True)

    async def read() -> bytes:
        return await wrapped._cat_file("faulty/small.bin")

    loop = fsspec.asyn.get_loop()
    assert sync(loop, read) == SMALL


def test_few_partial_files_are_kept_open(server, fs, monkeypatch):
    monkeypatch.setattr(kept, "_MOST_PARTIAL", 2)
    server.objects |= {f"part{number}": LARGE for number in range(5)}
    for number in range(5):
        fs.cat_file(f"faulty/part{number}", 0, 10)
    assert len([each for each in kept._kept.values() if not each.settled]) <= 3


def test_who_mounts_or_opens_gets_what_the_store_has_now(server, fs):
    """What nobody but the cache holds is asked for; what is the same still is not fetched again."""
    assert fs.cat_file("faulty/small.bin") == SMALL
    options = {"storage_options": server.s3fs_options}
    with diskless.open(f"{server.url}/small.bin", **options) as file:
        assert file.read() == SMALL
    assert len(server.gets) == 1
    server.objects["small.bin"] = b"another"
    with diskless.mount(f"{server.url}/small.bin", **options) as path, open(path, "rb") as mounted:
        assert mounted.read() == b"another"
    fs.clear_cache()
    fs.cat_file("faulty/small.bin")
    server.objects["small.bin"] = b"a third"
    job = diskless.prefetch(f"{server.url}/small.bin", **options)
    job.wait()
    with diskless.mount(f"{server.url}/small.bin", **options) as path, open(path, "rb") as mounted:
        assert mounted.read() == b"a third"
    job.close()


def test_files_of_a_prefetch_are_checked_too(server):
    job = diskless.prefetch(f"{server.url}/small.bin", storage_options=server.s3fs_options)
    job.wait()
    server.objects["small.bin"] = b"another"
    careful = fsspec.filesystem("ramcache", target_protocol="s3", target_options=server.s3fs_options, check_files=True)
    assert careful.cat_file("faulty/small.bin") == b"another"
    job.close()


def test_ranges_of_many_files(server, fs):
    server.objects |= {f"many/{number}": SMALL for number in range(100)}
    paths = [f"faulty/many/{number}" for number in range(100)] * 2
    assert fs.cat_ranges(paths, 5, 9) == [SMALL[5:9]] * 200


def test_a_load_that_was_set_aside_is_not_kept_again(server, fs):
    with fs.open("faulty/small.bin") as file:
        file.job.set_aside()
        kept.drop_all([file.job])
        kept.keep(file.job)
        assert kept.find(file.job.request) is None
        fs.cat_file("faulty/small.bin")
        newer = kept.find(file.job.request)
        kept.keep(file.job)
        assert kept.find(file.job.request) is newer is not None


def test_a_signed_url_is_not_shown(s3_env):
    fs = fsspec.filesystem("ramcache", target_protocol="https")
    with pytest.raises(OSError) as caught:
        fs.rm_file("https://host/x?X-Amz-Signature=abcdef")
    assert "abcdef" not in str(caught.value) and "only reads" in str(caught.value)
