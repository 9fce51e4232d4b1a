"""verify=True: what arrives is compared with what the store says, whatever comes in which order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diskless import native_api as native
from diskless.errors import ChecksumMismatch, InvalidOption, ObjectChanged, TransferError
from diskless.loader.plan import Part
from diskless.loader.verification import Check
from diskless.sources import Object
from diskless.sources.checksums import Checksum
from tests.loader import stored
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.loader.fetching import fetch, listed, loader_pids, targets

MIB = 1 << 20
BIG = os.urandom(20 * MIB + 4321)
# Parts of an upload, which are not those that the Loader fetches.
SIZES = [5 * MIB + 1, 9 * MIB, 6 * MIB + 4320]
each = pytest.mark.parametrize("algorithm", list(stored.ALGORITHMS))


def test_the_sizes_are_those_of_the_object() -> None:
    assert sum(SIZES) == len(BIG)


def _serving(algorithm: str | None, *, parts: bool = False, plan: Callable[[Get], Fault | None] | None = None):
    server = FaultServer({"a/big": BIG, "a/empty": b"", "a/small": b"small"}, plan=plan)
    for key, data in server.objects.items():
        if algorithm is not None:
            sizes = SIZES if key == "a/big" else [len(data)]
            server.part_sizes[key] = sizes
            told = stored.composite(algorithm, data, sizes) if parts else stored.full_object(algorithm, data)
            server.checksums[key] = told
    return server


@each
@pytest.mark.parametrize("parts", [False, True], ids=["full", "composite"])
def test_what_matches_arrives(in_threads, algorithm: str, parts: bool) -> None:
    with _serving(algorithm, parts=parts) as server:
        contents, stats = fetch(server, "a", verify=True)
        assert contents == {"big": BIG, "empty": b"", "small": b"small"}
        assert stats.retries == 0 and sorted(server.heads) == ["a/big", "a/small"]


def test_it_is_so_in_a_process_too() -> None:
    with _serving("CRC64NVME", parts=False) as server:
        assert fetch(server, "a", verify=True)[0]["big"] == BIG


def test_an_etag_of_one_piece_is_an_md5(in_threads) -> None:
    with _serving(None) as server:
        assert fetch(server, "a", verify=True)[0]["big"] == BIG
    with _serving(None, plan=lambda get: Fault(damage=7)) as server, pytest.raises(ChecksumMismatch, match="MD5"):
        fetch(server, "a/big", verify=True)


def test_the_parts_are_asked_for_one_by_one_where_their_list_is_refused(in_threads) -> None:
    with _serving("CRC32C", parts=True) as server:
        server.tells_attributes = False
        assert fetch(server, "a/big", verify=True)[0]["big"] == BIG
        assert len(server.heads) == 1 + len(SIZES)


def test_parts_that_do_not_make_up_the_object_are_named(in_threads) -> None:
    with _serving("CRC32C", parts=True) as server:
        server.part_sizes["a/big"] = SIZES[:-1]
        with pytest.raises(TransferError, match=r"s3://faulty/a/big: its checksum is one of 3 parts, and the store"):
            fetch(server, "a/big", verify=True)


@each
@pytest.mark.parametrize("parts", [False, True], ids=["full", "composite"])
def test_a_damaged_byte_is_fetched_again(in_threads, algorithm: str, parts: bool) -> None:
    """The error was the network's: the second time all is well."""
    damaged: list[int] = []

    def plan(get: Get) -> Fault | None:
        if get.start == 4 * MIB and not damaged:
            damaged.append(get.number)
            return Fault(damage=12345)
        return None

    with _serving(algorithm, parts=parts, plan=plan) as server:
        contents, stats = fetch(server, "a", verify=True)
        assert contents["big"] == BIG and stats.retries == 1
        assert server.sent_bytes("a/big") == 2 * len(BIG)


@each
@pytest.mark.parametrize("parts", [False, True], ids=["full", "composite"])
def test_bytes_that_stay_wrong_are_an_error(either_way, algorithm: str, parts: bool) -> None:
    """It names object, algorithm, what was got and what was expected."""
    with _serving(algorithm, parts=parts, plan=lambda get: Fault(damage=0) if get.start else None) as server:
        expected = server.checksums["a/big"][f"x-amz-checksum-{algorithm.lower()}"]
        seen: list[int] = []
        with listed(server, "a") as (job, objects, files), pytest.raises(ChecksumMismatch) as caught:
            job.fetch(targets(objects, files), on_file=seen.append, verify=True)
        said = str(caught.value)
        assert said.startswith("a/big: ") and f"{algorithm} is " in said and f"should be {expected}" in said
        assert objects.index(next(entry for entry in objects if entry.path == "big")) not in seen
        assert server.sent_bytes("a/big") == 2 * len(BIG)


def test_without_verify_nothing_is_asked_or_compared(in_threads) -> None:
    with _serving("CRC32", plan=lambda get: Fault(damage=0)) as server:
        assert fetch(server, "a/big")[0]["big"] != BIG
        assert server.heads == []


def test_a_connection_that_breaks_is_resumed_with_its_checksum(in_threads) -> None:
    with _serving("CRC64NVME", plan=lambda get: Fault(close_after=2 * MIB)) as server:
        contents, stats = fetch(server, "a", verify=True)
        assert contents["big"] == BIG and stats.retries > 3


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "SHA256"])
def test_what_a_killed_loader_had_fetched_is_read_again(algorithm: str) -> None:
    """A damaged part among it, too: its checksum is computed from the RAM file, and the file fetched again."""
    killed = threading.Event()

    def plan(get: Get) -> Fault | None:
        if get.key == "a/big" and get.start == 16 * MIB and not killed.is_set():
            return Fault(hang_after=MIB)
        return Fault(damage=5) if get.start == 4 * MIB and not killed.is_set() else None

    def kill(done_bytes: int) -> None:
        if done_bytes >= 16 * MIB and not killed.is_set():
            killed.set()
            (pid,) = loader_pids()
            os.kill(pid, signal.SIGKILL)

    with _serving(algorithm, plan=plan) as server:
        contents, stats = fetch(server, "a/big", kill, verify=True)
        # A part that the killed one had no time to tell of was fetched again anyway.
        assert killed.is_set() and stats.loaders_lost == 1 and stats.retries <= 1
        assert contents["big"] == BIG


@pytest.mark.parametrize("why", ["kms", "customer", "parts"])
def test_an_object_without_a_checksum_is_named(in_threads, why: str) -> None:
    with _serving(None) as server:
        server.checksums["a/big"] = {
            "kms": {"x-amz-server-side-encryption": "aws:kms"},
            "customer": {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
            "parts": {"ETag": '"0123456789abcdef0123456789abcdef-3"'},
        }[why]
        words = {"kms": "a key of KMS", "customer": "a key of the customer", "parts": "uploaded in parts"}[why]
        with pytest.raises(InvalidOption, match=rf"no checksum for s3://faulty/a/big, and its ETag .*{words}"):
            fetch(server, "a", verify=True)


def test_an_object_that_was_replaced_before_its_checksum_was_asked_for(in_threads) -> None:
    with _serving("CRC32C") as server, listed(server, "a/big") as (job, objects, files):
        server.objects["a/big"] = BIG[::-1]
        with pytest.raises(ObjectChanged, match=r"s3://faulty/a/big was replaced"):
            job.fetch(targets(objects, files), verify=True)


def test_without_the_native_library_only_zlib_and_hashlib_compute(in_threads, monkeypatch) -> None:
    monkeypatch.setattr(native, "has_checksums", lambda: False)
    for algorithm in ("CRC32", "SHA1"):
        for parts in (False, True):
            with _serving(algorithm, parts=parts) as server:
                assert fetch(server, "a", verify=True)[0]["big"] == BIG
    with _serving("CRC32C") as server, pytest.raises(InvalidOption, match=r"checksum CRC32C, which only .* native"):
        fetch(server, "a", verify=True)


def test_files_that_are_there_are_compared(either_way) -> None:
    with _serving("CRC64NVME") as server, listed(server, "a") as (job, objects, files):
        job.fetch(targets(objects, files))
        assert job.mismatches(targets(objects, files)) == []
        (number,) = (number for number, entry in enumerate(objects) if entry.path == "big")
        os.pwrite(files[number], b"another", 12 * MIB)
        assert job.mismatches(targets(objects, files)) == [number]


@settings(deadline=None)  # the machine may be busy
@given(
    data=st.binary(min_size=1, max_size=300),
    algorithm=st.sampled_from(list(stored.ALGORITHMS)),
    random=st.randoms(use_true_random=False),
    cut=st.integers(1, 100),
    composite=st.booleans(),
    before=st.integers(0, 3),
)
def test_parts_in_any_order_and_chunks_of_any_size(data, algorithm, random, cut, composite, before) -> None:
    """Also where some parts were in place before."""
    size = len(data)
    digest = stored.ALGORITHMS[algorithm]
    ends = sorted({*random.sample(range(1, size + 1), min(size, 3)), size})
    expected = Checksum(algorithm, digest(data))
    if composite:
        pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        expected = Checksum(algorithm, digest(b"".join(map(digest, pieces))), tuple(ends))
    parts = [Part(0, start, min(start + cut, size)) for start in range(0, size, cut)]
    random.shuffle(parts)
    there, missing = parts[:before], parts[before:]
    fd = os.memfd_create("checked")
    try:
        os.truncate(fd, size)
        for part in there:
            os.pwrite(fd, data[part.start : part.end], part.start)
        check = Check(Object("k", "k", size, None, None, 0), expected, fd, missing, lambda: None)
        for part in missing:
            arriving, position = check.begin(part.start), part.start
            while position < part.end:
                chunk = data[position : min(part.end, position + random.randint(1, 40))]
                os.pwrite(fd, chunk, position)
                arriving.feed(chunk)
                position += len(chunk)
            check.add(part, arriving.pieces)
        assert check.result() == expected.digest
        assert check.got(check.result()) == expected.shown
    finally:
        os.close(fd)
