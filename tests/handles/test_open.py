"""diskless.open: one object as an open file, on both Backings."""

from __future__ import annotations

import functools
import gc
import io
import mmap
import os
import pickle
import signal
import threading
import time

import pytest

import diskless
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.loader.fetching import loader_pids
from tests.programs import run, until

MIB = 1 << 20
DATA = os.urandom(5 * MIB + 17)
LARGE = os.urandom(48 * MIB + 5)
LARGER = LARGE + LARGE[::-1]


@pytest.fixture
def server(s3_env):
    with FaultServer({"model.bin": DATA, "large.bin": LARGE, "empty": b"", "dir/a": b"a", "dir/b": b"b"}) as server:
        yield server


def _open(server, key, *args, **kwargs):
    return diskless.open(f"{server.url}/{key}", *args, storage_options=server.storage_options, **kwargs)


@pytest.mark.parametrize("load", ["background", "eager", "lazy"])
def test_it_reads_as_a_file_of_pythons(server, backing, load, either_way):
    with _open(server, "model.bin", load=load, backing=backing) as file:
        ours, theirs = file, io.BufferedReader(io.BytesIO(DATA))
        assert isinstance(file, io.BufferedIOBase) and file.readable() and file.seekable() and not file.writable()
        assert file.size == len(DATA)
        for step in (
            lambda f: f.read(10),
            lambda f: f.seek(3 * MIB),
            lambda f: f.read(2 * MIB),
            lambda f: f.seek(-20, os.SEEK_END),
            lambda f: f.read(),
            lambda f: f.read(5),
            lambda f: f.seek(7),
            lambda f: f.read1(100),
            lambda f: f.readline(),
            lambda f: f.tell(),
            lambda f: f.seek(1, os.SEEK_CUR),
            lambda f: f.seek(2 * len(DATA)),
            lambda f: f.read(1),
            lambda f: f.seek(0) or f.read(),
        ):
            assert step(ours) == step(theirs)
        file.seek(5)
        buffer = bytearray(MIB)
        assert file.readinto(buffer) == MIB and buffer == DATA[5 : 5 + MIB]
        assert file.readinto1(buffer) > 0
        file.seek(9)
        assert file.peek(1)[:1] == DATA[9:10] and file.tell() == 9


def test_a_read_waits_only_for_the_bytes_it_asks_for(server, backing):
    """The answers that hold anything but the end never end."""

    def plan(get: Get) -> Fault:
        return Fault(hang_after=1000) if get.start < len(LARGE) - 2 * MIB else Fault()

    server.plan = plan
    with _open(server, "large.bin", load="lazy", backing=backing) as file:
        file.seek(-MIB, os.SEEK_END)
        assert file.read() == LARGE[-MIB:]


def test_who_reads_while_it_streams_does_not_wait_for_the_end(server, backing):
    release = threading.Event()

    def plan(get: Get) -> Fault:
        if get.start >= 40 * MIB:
            release.wait(20)
        return Fault()

    server.plan = plan
    with _open(server, "large.bin", backing=backing) as file:
        assert file.read(20 * MIB) == LARGE[: 20 * MIB]
        assert not release.is_set()
        release.set()
        assert file.read() == LARGE[20 * MIB :]


def test_a_few_ranges_are_fetched_and_not_the_file(server, backing):
    with _open(server, "large.bin", load="lazy", backing=backing) as file:
        for position in (30 * MIB, 10 * MIB, 40 * MIB):
            file.seek(position)
            assert file.read(1000) == LARGE[position : position + 1000]
        time.sleep(0.2)
        assert server.sent_bytes("large.bin") < 4 * MIB
        file.seek(0)
        assert file.read() == LARGE
    assert server.sent_bytes("large.bin") <= len(LARGE) + 4 * MIB


def test_what_was_fetched_is_not_fetched_again(server, backing):
    with _open(server, "large.bin", load="lazy", backing=backing) as file:
        file.seek(30 * MIB)
        file.read(100)
        gets = len(server.gets)
        file.seek(30 * MIB + 50_000)
        file.read(100)
        with _open(server, "large.bin", load="lazy", backing=backing) as other:
            other.seek(30 * MIB)
            assert other.read(100) == LARGE[30 * MIB : 30 * MIB + 100]
        assert len(server.gets) == gets


def test_the_bytes_are_those_of_a_mount(server, backing):
    with diskless.mount(f"{server.url}/model.bin", storage_options=server.storage_options, backing=backing):
        gets, held = len(server.gets), diskless.usage().held_bytes
        with _open(server, "model.bin", backing=backing) as file:
            assert file.read() == DATA
            assert diskless.usage().held_bytes == held
        with _open(server, "model.bin", backing=backing, load="lazy") as file:
            assert file.read() == DATA
        assert len(server.gets) == gets


def test_a_mount_of_the_same_object_takes_a_lazy_one_over(server, backing):
    with _open(server, "large.bin", load="lazy", backing=backing) as file:
        file.seek(20 * MIB)
        file.read(10)
        options = server.storage_options
        with diskless.mount(f"{server.url}/large.bin", storage_options=options, backing=backing) as path:
            with open(path, "rb") as mounted:
                assert mounted.read() == LARGE
            file.seek(0)
            assert file.read() == LARGE
            assert diskless.usage().held_bytes < 1.5 * len(LARGE)
    assert server.sent_bytes("large.bin") <= len(LARGE) + MIB


def test_as_a_number_a_buffer_and_a_path(server, backing):
    with _open(server, "model.bin", backing=backing) as file:
        file.read(100)
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == DATA
        assert os.pread(file.fileno(), 10, 5) == DATA[5:15]
        buffer = file.getbuffer()
        assert buffer == DATA and buffer.readonly
        with open(file.path, "rb") as again:
            assert again.read() == DATA
        with pytest.raises(io.UnsupportedOperation, match="byte 100"):
            os.fspath(file)
        file.seek(0)
        with open(file, "rb") as named:
            assert named.read() == DATA
        path = file.path
    assert buffer == DATA  # outlives the file
    assert not os.path.exists(path)
    buffer.release()


def test_a_lazy_one_has_a_path_and_is_none(server, backing):
    """zipfile and others would read all of it by that."""
    with _open(server, "model.bin", backing=backing, load="lazy") as file:
        assert not isinstance(file, os.PathLike) and not hasattr(file, "__fspath__")
        with open(file.path, "rb") as named:
            assert named.read() == DATA


def test_descriptors_stand_where_the_reader_does(server):
    with _open(server, "model.bin") as file:
        file.seek(MIB)
        assert os.read(file.fileno(), 10) == DATA[MIB : MIB + 10]


def test_text(server, bucket):
    server.objects["poem.txt"] = "eins\r\nzwei\nüber".encode()
    with _open(server, "poem.txt", "r", encoding="utf-8") as file:
        assert file.readlines() == ["eins\n", "zwei\n", "über"]
    with _open(server, "poem.txt", "rt", encoding="latin-1", newline="") as file:
        assert file.read() == "eins\r\nzwei\nüber".encode().decode("latin-1")


def test_an_empty_object(server, backing):
    for load in ("eager", "background", "lazy"):
        with _open(server, "empty", backing=backing, load=load) as file:
            assert file.read() == b"" and file.read(5) == b"" and file.getbuffer() == b"" and file.fileno() > 0


def test_it_goes_with_libraries(server, backing):
    import numpy as np
    import torch

    value = {"weights": torch.arange(300_000, dtype=torch.float32), "name": "x"}
    stored = io.BytesIO()
    torch.save(value, stored)
    array = io.BytesIO()
    np.save(array, np.arange(100_000))
    server.objects |= {"state.pt": stored.getvalue(), "a.npy": array.getvalue(), "p.pkl": pickle.dumps(DATA)}
    for load in ("background", "lazy"):
        with _open(server, "state.pt", backing=backing, load=load) as file:
            assert torch.equal(torch.load(file)["weights"], value["weights"])
        with _open(server, "a.npy", backing=backing, load=load) as file:
            assert np.array_equal(np.load(file), np.arange(100_000))
        with _open(server, "p.pkl", backing=backing, load=load) as file:
            assert pickle.load(file) == DATA


def test_with_verify_it_is_given_out_when_it_was_compared(server):
    server.checksums["model.bin"] = {}
    with _open(server, "model.bin", verify=True) as file:  # the MD5 that its ETag is
        assert file.read() == DATA
    server.plan = lambda get: Fault(damage=100)
    with pytest.raises(diskless.ChecksumMismatch):
        _open(server, "model.bin", verify=True)


def test_a_transfer_that_fails_raises_its_own_error(server, backing, in_threads):
    server.plan = lambda get: Fault(status=500, code="InternalError") if get.start else Fault()
    for load in ("background", "lazy"):
        with _open(server, "large.bin", backing=backing, load=load) as file, pytest.raises(diskless.DisklessError):
            file.seek(40 * MIB)
            file.read()


def test_an_object_that_is_replaced_between_two_ranges_is_an_error(server, backing):
    with _open(server, "large.bin", load="lazy", backing=backing) as file:
        assert file.read(10) == LARGE[:10]
        server.objects["large.bin"] = LARGE[::-1]
        file.seek(20 * MIB)
        with pytest.raises(diskless.ObjectChanged, match="replaced"):
            file.read(10)


def test_what_fits_is_read_though_the_rest_does_not(server):
    """Who has read on for long would be given the rest of the file."""
    server.objects["larger.bin"] = LARGER
    with _open(server, "larger.bin", load="lazy", budget="40MiB") as file:
        for position in range(0, 30 * MIB, 64 << 10):
            assert file.read(64 << 10) == LARGER[position : position + (64 << 10)]
        file.seek(90 * MIB)
        assert file.read(10) == LARGER[90 * MIB : 90 * MIB + 10]
        file.seek(40 * MIB)
        with pytest.raises(diskless.BudgetExceeded):
            file.read(30 * MIB)
        file.seek(5)
        assert file.read(10) == LARGER[5:15]


def test_threads_share_a_file(server, backing):
    errors = []
    with _open(server, "large.bin", load="lazy", backing=backing) as file:

        def work(number: int) -> None:
            with _open(server, "large.bin", load="lazy", backing=backing) as own:
                for position in range(number * MIB, 48 * MIB, 8 * MIB):
                    own.seek(position)
                    if own.read(MIB) != LARGE[position : position + MIB]:
                        errors.append(position)
            if len(file.read(1000)) != 1000:
                errors.append("short")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert file.tell() == 8000
    assert errors == []


def test_a_prefix_is_refused_by_name(server):
    for key in ("dir", "dir/"):
        with pytest.raises(diskless.InvalidURL, match="prefix"):
            _open(server, key)
    assert server.gets == []
    mounted = diskless.mount(f"{server.url}/dir", storage_options=server.storage_options)
    with mounted, pytest.raises(diskless.InvalidURL, match="prefix"):
        _open(server, "dir")
    with pytest.raises(diskless.NotFound):
        _open(server, "nothing")


@pytest.mark.parametrize("mode", ["", "rw", "rr", "rbt", "w+", "r+b", "a", "ab", "b", None, "U", "xx", "wx"])
def test_modes_that_make_no_sense(server, mode):
    with pytest.raises(ValueError, match="mode="):
        _open(server, "model.bin", mode)


def test_other_bad_arguments(server):
    with pytest.raises(ValueError, match="text"):
        _open(server, "model.bin", "rb", encoding="utf-8")
    with pytest.raises(diskless.InvalidOption, match="load="):
        _open(server, "model.bin", load="never")
    with pytest.raises(diskless.InvalidOption, match="once="):
        _open(server, "model.bin", once=1)
    with pytest.raises(diskless.InvalidOption, match="choose one"):
        _open(server, "model.bin", once=True, verify=True)


def test_positions_that_make_no_sense(server):
    with _open(server, "model.bin") as file:
        with pytest.raises(ValueError):
            file.seek(-1)
        with pytest.raises((ValueError, OSError)):
            file.seek(-len(DATA) - 1, os.SEEK_END)
        with pytest.raises((ValueError, io.UnsupportedOperation)):
            file.seek(0, 99)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            file.truncate()


def test_closing_twice_and_use_after_close(server, backing):
    before = diskless.usage()
    file = _open(server, "model.bin", backing=backing)
    file.close()
    file.close()
    assert file.closed
    for use in (file.read, file.fileno, file.getbuffer, lambda: file.path, lambda: os.fspath(file), file.tell):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert diskless.usage().held_bytes == before.held_bytes and diskless.usage().files == before.files


def test_a_file_that_is_forgotten_is_closed(server):
    file = _open(server, "model.bin")
    file.cycle = file
    file.read(1)
    wrapped = _open(server, "model.bin", "r", encoding="latin-1")
    wrapped.read(1)
    held = diskless.usage().files
    del file
    with diskless.forks.LOCK:  # as whoever happens to collect may
        gc.collect()
        del wrapped  # whose end closes the file
    until = time.monotonic() + 10
    while diskless.usage().files == held and time.monotonic() < until:
        time.sleep(0.01)
    assert diskless.usage().files == held - 1


def test_pickling_opens_it_again(server):
    with _open(server, "model.bin") as file:
        file.seek(100)
        copy = pickle.loads(pickle.dumps(file))
    with copy:
        assert copy.read(10) == DATA[100:110]


def test_a_forked_child_reads_what_was_complete_and_is_told_of_what_was_not(server):
    with _open(server, "model.bin", load="eager") as file, _open(server, "large.bin", load="lazy") as lazy:
        lazy.read(1)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status += file.read() != DATA
                lazy.seek(40 * MIB)
                try:
                    lazy.read(1)
                except diskless.DisklessError as error:
                    status = 0 if status == 1 and "parent" in str(error) else 3
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert lazy.read(3) == LARGE[1:4]


def test_a_loader_that_dies_is_replaced(server):
    with _open(server, "large.bin", load="lazy") as file:
        file.read(10)
        for pid in loader_pids():
            os.kill(pid, signal.SIGKILL)
        file.seek(30 * MIB)
        assert file.read(100) == LARGE[30 * MIB : 30 * MIB + 100]


def test_the_buffer_is_no_larger_than_what_a_read_fetches():
    from diskless import readahead

    assert readahead.BUFFER_BYTES <= readahead._LEAST_BYTES


@pytest.mark.parametrize("load", ["background", "lazy"])
def test_a_method_outlives_its_file(server, backing, load):
    """As that of a file on a disk does: `open(path).read()`, or what keeps `file.read` alone."""
    assert _open(server, "model.bin", load=load, backing=backing).read() == DATA
    blocks = iter(functools.partial(_open(server, "model.bin", load=load, backing=backing).read, MIB), b"")
    assert b"".join(blocks) == DATA
    del blocks
    gc.collect()
    until(lambda: diskless.usage().files == 0)


def test_what_unpickles_from_a_file_that_nobody_has(bucket, s3_env):
    bucket.put("p", pickle.dumps({"a": 1}))
    assert pickle.Unpickler(diskless.open(f"{bucket.url}/p")).load() == {"a": 1}


def test_a_file_has_no_position_after_a_read_that_failed(server, backing):
    """What was in its buffer is lost: reading on would skip it."""
    gone = {"large.bin"}
    server.plan = lambda get: Fault(status=403, code="AccessDenied") if get.start >= 20 * MIB and gone else Fault()
    with _open(server, "large.bin", load="lazy", backing=backing) as file:
        assert file.read(10) == LARGE[:10]
        with pytest.raises(diskless.AccessDenied):
            file.read(30 * MIB)
        for fails in (file.tell, file.read, lambda: file.read(10), lambda: file.seek(1, os.SEEK_CUR)):
            with pytest.raises(OSError, match=r"no position since a read of it failed.*seek"):
                fails()
        gone.clear()
        file.seek(10)
        assert file.read(30 * MIB) == LARGE[10 : 10 + 30 * MIB]


def test_text_tells_its_mode(bucket, s3_env):
    for mode in ("w", "xt"):
        with diskless.open(f"{bucket.url}/{mode}", mode) as file:
            assert file.mode == mode
    with diskless.open(f"{bucket.url}/w", "r") as file:
        assert file.mode == "r"


def test_flushing_what_is_closed(server):
    file = _open(server, "model.bin")
    file.flush()
    file.close()
    with pytest.raises(ValueError, match="closed file"):
        file.flush()


def test_its_path_in_a_forked_child(server, backing):
    code = """
    import json, os, sys
    import diskless
    with diskless.open(f"{sys.argv[1]}/model.bin", storage_options=json.loads(sys.argv[2])) as file:
        file.job.wait()
        if child := os.fork():
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        with open(file.path, "rb") as opened:
            print(len(opened.read()))
    """
    assert run(server, code, backing=backing) == [str(len(DATA))]
