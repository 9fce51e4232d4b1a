"""diskless.open with once=True: read from the front to the back, in a window of 64 MiB, on both Backings."""

from __future__ import annotations

import io
import os
import pickle
import random
import signal

import pytest

import diskless
from diskless.window import Window
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.loader.fetching import loader_pids

MIB = 1 << 20
LARGE = os.urandom(48 * MIB + 5)
LARGER = b"".join((LARGE, LARGE[::-1], LARGE[MIB:], LARGE[:7:-1]))


@pytest.fixture
def server(s3_env):
    with FaultServer({"large.bin": LARGE, "larger.bin": LARGER, "small": b"some", "empty": b""}) as server:
        yield server


def _once(server, key, **options):
    return diskless.open(f"{server.url}/{key}", once=True, storage_options=server.storage_options, **options)


def test_it_is_read_in_a_window(server, backing, either_way):
    before = diskless.usage().held_bytes
    most = 0
    with _once(server, "larger.bin", backing=backing) as file:
        for position in range(0, len(LARGER), MIB):
            assert file.read(MIB) == LARGER[position : position + MIB]
            most = max(most, diskless.usage().held_bytes - before)
        assert file.read(1) == b""
    assert 8 * MIB < most <= 64 * MIB
    assert server.sent_bytes("larger.bin") == len(LARGER)


@pytest.mark.parametrize(("key", "content"), [("small", b"some"), ("empty", b""), ("large.bin", LARGE)])
def test_what_is_smaller_than_the_window(server, key, content):
    with _once(server, key) as file:
        assert file.read() == content


def _late(get: Get) -> Fault:
    """Some answers come late, and some not at once whole: parts arrive in any order."""
    if get.number % 5 == 1:
        return Fault(pause_s=0.005)
    return Fault(close_after=MIB) if get.number % 7 == 3 else Fault()


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_written_over_that_is_still_to_be_read(server, seed):
    """Jumps ahead leave answers on their way, to where later bytes go as well."""
    server.plan = _late
    dice = random.Random(seed)
    with _once(server, "larger.bin") as file:
        position = furthest = 0
        while position < len(LARGER):
            size = dice.choice([10, 100_000, 3 * MIB, 20 * MIB])
            assert file.read(size) == LARGER[position : position + size]
            furthest = max(furthest, position + size)
            step = dice.choice([0, 0, -4 * MIB, MIB // 2, 5 * MIB, 30 * MIB, 60 * MIB])
            position = max(0, furthest - 4 * MIB, position + size + step)
            file.seek(position)


def test_a_loader_that_is_killed_is_replaced(server):
    server.plan = _late
    read = []
    with _once(server, "larger.bin") as file:
        for number in range(20):
            read.append(file.read(5 * MIB))
            if number in (3, 9):
                (loader,) = loader_pids()
                os.kill(loader, signal.SIGKILL)
        read.append(file.read())
    assert b"".join(read) == LARGER


def test_a_range_that_cannot_be_had_is_an_error_and_never_another(server):
    gone = set()

    def plan(get: Get) -> Fault:
        return Fault(status=403, code="AccessDenied") if get.end > 90 * MIB and gone else Fault()

    server.plan = plan
    with _once(server, "larger.bin") as file:
        assert file.read(20 * MIB) == LARGER[: 20 * MIB]
        gone.add(True)
        with pytest.raises(diskless.AccessDenied):
            file.seek(95 * MIB)
            file.read(1)
        gone.clear()
        assert file.read(5 * MIB) == LARGER[95 * MIB : 100 * MIB]


def test_going_back_behind_the_window_is_an_error_that_says_so(server):
    with _once(server, "large.bin") as file:
        file.read(20 * MIB)
        file.seek(0)
        with pytest.raises(io.UnsupportedOperation, match="once=True"):
            file.read(1)
        file.seek(18 * MIB)
        assert file.read(10) == LARGE[18 * MIB : 18 * MIB + 10]
        file.seek(30 * MIB)
        assert file.read(10) == LARGE[30 * MIB : 30 * MIB + 10]
        file.seek(40 * MIB)
        assert file.read() == LARGE[40 * MIB :]


def test_there_is_nothing_that_needs_it_whole(server):
    with _once(server, "large.bin") as file:
        uses = (lambda: file.read_at(0, 5), lambda: file.ask(0, 5), lambda: file.path, file.fileno, file.getbuffer)
        for use in (*uses, file.job.wait):
            with pytest.raises(io.UnsupportedOperation, match="once=True"):
                use()
        with pytest.raises(TypeError, match="once=True"):
            pickle.dumps(file)


def test_what_takes_files_and_paths_takes_it_for_a_file(bucket, s3_env):
    import gzip

    import pandas

    bucket.put("table.csv", b"a,b\n1,2\n")
    bucket.put("text.gz", gzip.compress(b"text"))
    with diskless.open(f"{bucket.url}/table.csv", once=True) as file:
        assert not isinstance(file, os.PathLike) and pandas.read_csv(file).to_dict("list") == {"a": [1], "b": [2]}
    with diskless.open(f"{bucket.url}/text.gz", once=True) as file, gzip.open(file) as text:
        assert text.read() == b"text"


def test_it_is_never_shared(server):
    with _once(server, "large.bin") as first, _once(server, "large.bin") as second:
        assert first.read() == second.read() == LARGE
    with diskless.open(f"{server.url}/large.bin", storage_options=server.storage_options) as file:
        assert file.read() == LARGE


def test_what_is_in_ram_is_read_from_there_and_stays(server):
    with diskless.open(f"{server.url}/large.bin", storage_options=server.storage_options) as held:
        held.job.wait()
        gets = len(server.gets)
        with _once(server, "large.bin") as file:
            assert file.read() == LARGE
            file.seek(0)
            assert file.read(5) == LARGE[:5]
        assert held.read() == LARGE and len(server.gets) == gets


def test_it_needs_no_more_than_its_window_of_a_budget(server):
    with _once(server, "larger.bin", budget="64MiB") as file:
        assert file.read() == LARGER


@pytest.mark.parametrize("seed", range(20))
def test_what_is_asked_for_never_goes_where_something_is_on_its_way(seed):
    """In MiB; nothing arrives but what is waited for. Who asks begins where the last ended, before that, or ahead."""
    dice = random.Random(seed)
    window, on_its_way = Window(), set()

    def wait_for(start: int, end: int) -> None:
        on_its_way.difference_update(range(start // MIB, end // MIB))

    end = 0
    for _ in range(200):
        start = dice.choice([end, end, max(0, end - dice.randrange(30)), end + dice.randrange(1, 90)])
        last = start + dice.randrange(1, 30)
        window.make_way(start * MIB, last * MIB, wait_for)
        asked = set(range(start, last))
        assert not {number % 64 for number in asked - on_its_way} & {number % 64 for number in on_its_way - asked}
        on_its_way.update(asked)
        end = max(end, last)
