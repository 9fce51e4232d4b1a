"""ram:// with several threads, in a forked child, at the limit of its room, and for those that want it async."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
import time
import traceback
import uuid
from collections.abc import Iterator

import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem

import diskless
from diskless import native_api as native
from diskless.filesystem import RamFileSystem
from tests.fsspec_door.conftest import DIRECTORY


@pytest.fixture
def small(tree_fs: RamFileSystem) -> Iterator[str]:
    """A scratch of 1 MiB, with nothing redirected."""
    path = f"/diskless/small-{uuid.uuid4().hex[:12]}"
    native.scratch_add(path, 0o1777, 1 << 20)
    yield path
    native.scratch_remove(path)


def test_what_finds_no_room_is_an_error(tree_fs, small):
    tree_fs.pipe(f"{small}/a", bytes(900 << 10))
    with pytest.raises(OSError) as caught:
        tree_fs.pipe(f"{small}/b", bytes(900 << 10))
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as caught:
        tree_fs.cp_file(f"{small}/a", f"{small}/c")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as caught, tree_fs.transaction:
        tree_fs.pipe(f"{small}/d", bytes(900 << 10))
    assert caught.value.errno == errno.ENOSPC and not tree_fs.exists(f"{small}/d")
    tree_fs.rm([f"{small}/a", f"{small}/b", f"{small}/c"])
    tree_fs.pipe(f"{small}/e", bytes(900 << 10))
    assert native.patched_slots() == 0


def test_a_write_of_many_pages_fills_the_room_to_the_last(tree_fs, small):
    with tree_fs.open(f"{small}/a", "wb") as file:
        raw = file.raw
        written = 0
        with pytest.raises(OSError) as caught:
            while True:
                written += raw.write(bytes(300_000))
        assert caught.value.errno == errno.ENOSPC and written == 1 << 20


def _in_child(work) -> int:
    """Run `work` in a forked child and return its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_has_the_names_as_they_were(tree_fs, place):
    tree_fs.pipe({f"{place}/a": b"1", f"{place}/b": b"2"})

    def work() -> None:
        for fs in (tree_fs, RamFileSystem(backing="tree")):
            assert fs.cat(f"{place}/a") == b"1"
        tree_fs.rm(f"{place}/a")
        tree_fs.pipe(f"{place}/c", b"3")
        with tree_fs.open(f"{place}/b", "r+b") as file:
            file.write(b"by the child")

    assert _in_child(work) == 0
    assert tree_fs.find(place) == [f"{place}/a", f"{place}/b"]
    assert tree_fs.cat(f"{place}/b") == b"by the child"


def test_a_forked_child_shares_a_directory():
    fs = RamFileSystem(backing=DIRECTORY)
    fs.pipe("ram://forked/a", b"1")

    def work() -> None:
        again = RamFileSystem(backing=DIRECTORY)
        assert again.cat("ram://forked/a") == b"1"
        again.pipe("ram://forked/b", b"2")

    assert _in_child(work) == 0
    assert fs.cat("ram://forked/b") == b"2"
    fs.rm("ram://forked", recursive=True)


def test_a_child_is_forked_while_others_write(tree_fs, place):
    stop = threading.Event()

    def write(number: int) -> None:
        while not stop.is_set():
            tree_fs.pipe(f"{place}/{number}", b"x")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert _in_child(lambda: tree_fs.pipe(f"{place}/child", b"y")) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not tree_fs.exists(f"{place}/child")


def test_threads_make_and_remove_at_once(fs, place):
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(30):
                fs.pipe(f"{place}/shared/{step}/{number}", b"%d" % number)
                assert fs.cat(f"{place}/shared/{step}/{number}") == b"%d" % number
                fs.find(f"{place}/shared")
                fs.rm(f"{place}/shared/{step}/{number}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(fs.ls(f"{place}/shared")) == 30 and fs.find(place) == []


def test_paths_and_ram_change_names_at_once(tree_fs, place):
    """Mounts and scratches come and go meanwhile, so that calls are redirected and not."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def change() -> None:
        try:
            while not stop.is_set():
                tree_fs.pipe(f"{place}/a", b"1")
                assert tree_fs.cat(f"{place}/a") == b"1"
                tree_fs.mv(f"{place}/a", f"{place}/b")
                tree_fs.rm(f"{place}/b")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=change)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 1
    while time.monotonic() < until:
        with diskless.scratch(backing="tree") as path:
            open(f"{path}/x", "w").close()
            os.listdir(place)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_signal_handlers_run_between_calls(fs, place):
    caught: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: caught.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        for number in range(200):
            fs.pipe(f"{place}/{number % 10}", bytes(100_000))
            assert fs.size(f"{place}/{number % 10}") == 100_000
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught


def test_it_is_wrapped_for_those_that_want_it_async(fs, place):
    async def use() -> None:
        wrapped = AsyncFileSystemWrapper(fs, asynchronous=True)
        await wrapped._pipe({f"{place}/zarr.json": b"{}", f"{place}/c/0/0": b"chunk"})
        assert await wrapped._cat_file(f"{place}/c/0/0", start=1, end=3) == b"hu"
        assert await wrapped._cat([f"{place}/zarr.json"]) == {f"{place}/zarr.json": b"{}"}
        assert await wrapped._find(place) == [f"{place}/c/0/0", f"{place}/zarr.json"]
        assert await wrapped._exists(f"{place}/c/0/0") and not await wrapped._exists(f"{place}/c/1/0")
        await wrapped._rm(f"{place}/c", recursive=True)

    asyncio.run(use())
    assert fs.find(place) == [f"{place}/zarr.json"]


def test_a_part_of_it_is_a_filesystem(fs, place):
    part = DirFileSystem(path=place, fs=fs)
    part.pipe("a/b", b"1")
    assert part.find("") == ["a/b"] and fs.cat(f"{place}/a/b") == b"1"
