"""What a server or a network may do in the midst of a transfer, and what becomes of it."""

from __future__ import annotations

import os
import threading
import time

import pytest

from diskless.errors import Cancelled, CredentialsError, ObjectChanged, SourceUnavailable, TransferError
from diskless.loader import transfer
from diskless.sources import obstore_client
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.loader.fetching import fetch, listed, targets

MIB = 1 << 20
BIG = os.urandom(20 * MIB)
MODEL = {"config.json": b"{}", "empty": b"", "weights/big.bin": BIG, "weights/small.bin": os.urandom(70_001)}
# The least that obstore hands over, so the most that one broken connection loses.
CHUNK = obstore_client.CHUNK_BYTES


def first(count: int, fault: Fault, key: str = "big"):
    """A plan by which the first `count` answers for `key` fail."""
    seen: list[int] = []

    def plan(get: Get) -> Fault | None:
        if get.key != key or len(seen) >= count:
            return None
        seen.append(get.number)
        return fault

    return plan


def test_every_byte_arrives_and_is_sent_once(either_way) -> None:
    with FaultServer(MODEL) as server:
        contents, stats = fetch(server)
        assert contents == MODEL
        assert [server.sent_bytes(key) for key in MODEL] == [len(data) for data in MODEL.values()]
        assert stats.retries == 0 and stats.loaders_lost == 0


def test_more_objects_than_a_page_than_a_message_and_than_253_descriptors(either_way) -> None:
    objects = {f"many/{number:03}": b"%d" % number for number in range(600)}
    with FaultServer(objects, page_size=250) as server:
        contents, _ = fetch(server, "many")
        assert contents == {key.removeprefix("many/"): data for key, data in objects.items()}
        assert server.list_requests == 1 + 3  # is it an object? then three pages


def test_one_object_is_fetched_in_several_parts_at_once(either_way) -> None:
    together = threading.Barrier(4)

    def plan(get: Get) -> None:
        if get.number < 4:
            together.wait(30)  # breaks unless four requests are under way

    with FaultServer({"big": BIG}, plan=plan) as server:
        assert fetch(server)[0] == {"big": BIG}


def test_a_connection_that_breaks_is_resumed_where_it_broke(either_way) -> None:
    with FaultServer({"big": BIG}, plan=first(3, Fault(close_after=3 * MIB))) as server:
        contents, stats = fetch(server)
        assert contents == {"big": BIG}
        assert stats.retries == 3
        assert server.sent_bytes("big") - len(BIG) <= 3 * CHUNK


def test_connections_that_always_break_still_come_to_the_end(in_threads) -> None:
    """An attempt that got a byte further is no failure in a row."""
    with FaultServer({"big": BIG}, plan=lambda get: Fault(close_after=MIB)) as server:
        contents, stats = fetch(server)
        assert contents == {"big": BIG}
        assert stats.retries > transfer.ATTEMPTS


def test_retries_have_an_end_even_with_progress(in_threads, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "RETRIES", 5)
    with (
        FaultServer({"big": BIG}, plan=lambda get: Fault(close_after=MIB)) as server,
        pytest.raises(TransferError, match="used up"),
    ):
        fetch(server)


def test_a_transfer_of_many_parts_may_have_many_retries(in_threads, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "RETRIES", 10)
    objects = {f"{number:02}": b"%d" % number for number in range(50)}
    seen: set[str] = set()

    def plan(get: Get) -> Fault | None:
        return Fault(status=503) if get.key not in seen and not seen.add(get.key) else None

    with FaultServer(objects, plan=plan) as server:
        contents, stats = fetch(server)
        assert contents == objects and stats.retries == 50


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown"), (429, "TooManyRequests")])
def test_an_overloaded_server_is_asked_again(in_threads, status: int, code: str) -> None:
    with FaultServer({"big": BIG}, plan=first(transfer.ATTEMPTS - 1, Fault(status=status, code=code))) as server:
        contents, stats = fetch(server)
        assert contents == {"big": BIG}
        assert stats.retries == transfer.ATTEMPTS - 1
        assert server.sent_bytes("big") == len(BIG)


def test_a_server_that_stays_overloaded_is_an_error_with_object_offset_and_cause(in_threads) -> None:
    always = Fault(status=503, code="SlowDown")
    with (
        FaultServer({"a/big": BIG}, plan=lambda get: always if get.start > 0 else None) as server,
        pytest.raises(TransferError, match=r"a/big: bytes [1-9]\d* to \d+ of 20971520 .*6 attempts.*503 SlowDown"),
    ):
        fetch(server)


def test_a_server_that_goes_and_comes_back_is_waited_for(in_threads, monkeypatch) -> None:
    """Gone as a server that is restarted: every connection ends, and new ones are refused for a while."""
    monkeypatch.setattr(transfer, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(transfer, "LONGEST_PAUSE_S", 0.3)
    gone = threading.Event()

    def plan(get: Get) -> Fault | None:
        # The others are hanging in mid-answer when the server goes.
        if gone.is_set():
            return None
        if get.number == 3:
            gone.set()
        return Fault(hang_after=2 * MIB)

    with FaultServer({"big": BIG}, plan=plan) as server:

        def restart() -> None:
            gone.wait()
            server.stop()
            time.sleep(0.2)  # an outage takes time
            server.start()

        outage = threading.Thread(target=restart)
        outage.start()
        contents, stats = fetch(server)
        outage.join()
        assert contents == {"big": BIG}
        assert stats.retries > 4, "nobody tried while the server was gone"
        # The four that were cut lose what obstore had not handed over.
        assert server.sent_bytes("big") - len(BIG) <= 4 * (CHUNK + MIB)


def test_a_server_that_does_not_come_back_is_an_error_with_object_and_offset(in_threads) -> None:
    gone = threading.Event()

    def plan(get: Get) -> Fault | None:
        if get.start == 0:
            gone.set()
        return Fault(hang_after=MIB)

    with FaultServer({"a/big": BIG}, plan=plan) as server:
        leaving = threading.Thread(target=lambda: gone.wait() and server.stop())
        leaving.start()
        with pytest.raises(TransferError, match=r"a/big: bytes \d+ to \d+ of 20971520 could not be fetched"):
            fetch(server)
        leaving.join()


def test_an_answer_that_stalls_is_given_up_and_asked_for_again(in_threads, monkeypatch) -> None:
    monkeypatch.setattr(obstore_client, "_STALL_TIMEOUT", "1s")
    with FaultServer({"big": BIG}, plan=first(1, Fault(hang_after=MIB))) as server:
        contents, stats = fetch(server)
        assert contents == {"big": BIG} and stats.retries == 1


def test_an_answer_that_goes_on_and_on_is_given_up_and_asked_for_again(in_threads, monkeypatch) -> None:
    """A byte now and then: it never stalls, and it never ends."""
    monkeypatch.setattr(obstore_client, "_ANSWER_TIMEOUT", "1s")
    with FaultServer({"big": BIG}, plan=first(1, Fault(piece_bytes=1, pause_s=0.1))) as server:
        contents, stats = fetch(server)
        assert contents == {"big": BIG} and stats.retries == 1


@pytest.mark.parametrize(
    ("limit", "fault"),
    [("_STALL_TIMEOUT", Fault(hang_after=0)), ("_ANSWER_TIMEOUT", Fault(piece_bytes=1, pause_s=0.1))],
)
def test_a_server_that_is_always_too_slow_is_an_error_that_says_so(
    in_threads, monkeypatch, limit: str, fault: Fault
) -> None:
    monkeypatch.setattr(obstore_client, limit, "300ms")
    with (
        FaultServer({"a/big": BIG}, plan=lambda get: fault) as server,
        pytest.raises(TransferError, match=r"a/big: bytes \d+ to \d+ of 20971520 .* in 6 attempts; .*took too long"),
    ):
        fetch(server)


def test_a_body_that_ends_too_early_is_completed(in_threads) -> None:
    with FaultServer({"big": BIG}, plan=first(2, Fault(short_by=MIB + 1))) as server:
        contents, stats = fetch(server)
        assert contents == {"big": BIG} and stats.retries == 2
        assert server.sent_bytes("big") - len(BIG) <= 2 * CHUNK


@pytest.mark.parametrize("extra", [1, 3 * MIB])
@pytest.mark.parametrize("place", ["extra", "extra_before"])
def test_a_body_that_is_too_long_is_not_trusted_and_asked_for_again(in_threads, place: str, extra: int) -> None:
    """Where in it the bytes too many are, nobody knows."""

    def plan(get: Get) -> Fault | None:
        return Fault(**{place: b"x" * extra}) if get.start not in seen and not seen.add(get.start) else None

    seen: set[int] = set()
    with FaultServer({"big": BIG}, plan=plan) as server:
        contents, stats = fetch(server)
        assert contents == {"big": BIG} and stats.retries == 5
        assert all(server.gets[number].start % (4 * MIB) == 0 for number in range(10))


def test_bodies_that_are_always_too_long_are_an_error_that_says_so(in_threads) -> None:
    with (
        FaultServer({"big": BIG}, plan=lambda get: Fault(extra=b"x")) as server,
        listed(server) as (job, objects, files),
    ):
        with pytest.raises(TransferError, match=r"big: bytes .* in 6 attempts.* sent more than bytes \d+ to .*a proxy"):
            job.fetch(targets(objects, files))
        # What came is what was asked for: nothing lies where another part belongs.
        written = os.pread(files[0], len(BIG), 0)
        assert all(mine in (theirs, 0) for mine, theirs in zip(written[:: 4096 + 1], BIG[:: 4096 + 1], strict=False))


def test_a_server_that_ignores_ranges_is_named(in_threads) -> None:
    with (
        FaultServer({"a/big": BIG}, plan=lambda get: Fault(ignores_range=True)) as server,
        pytest.raises(TransferError, match=r"s3://faulty/a/big: the server ignores ranges"),
    ):
        fetch(server)


@pytest.mark.parametrize("where", ["bytes 0-4194303/99", "bytes 1-4194304/20971520", "nonsense"])
def test_bytes_of_another_range_are_never_taken(in_threads, where: str) -> None:
    with (
        FaultServer({"a/big": BIG}, plan=lambda get: Fault(content_range=where)) as server,
        pytest.raises(TransferError, match=r"a/big: bytes .* in 6 attempts.*does a proxy change what passes"),
    ):
        fetch(server)


@pytest.mark.parametrize("where", ["bytes 0-4194303/99", "bytes 1-4194304/20971520", "nonsense"])
def test_another_range_is_asked_for_again(in_threads, where: str) -> None:
    with FaultServer({"a/big": BIG}, plan=first(3, Fault(content_range=where), "a/big")) as server:
        contents, stats = fetch(server)
        assert contents == {"a/big": BIG} and stats.retries == 3


@pytest.mark.parametrize("fault", [Fault(close_after=0, resets=True), Fault(close_after=MIB, resets=True)])
def test_a_connection_that_is_reset_is_made_again(in_threads, fault: Fault) -> None:
    with FaultServer({"big": BIG}, plan=first(3, fault)) as server:
        contents, stats = fetch(server)
        assert contents == {"big": BIG} and stats.retries == 3


def _replaced_after(number: int, **how: bool):
    """A plan by which another object of the same size is there from the GET `number` on."""

    def plan(get: Get) -> Fault:
        if get.number == number:
            server.objects["a/big"] = bytes(len(BIG))
        return Fault(**how)

    server = FaultServer({"a/big": BIG}, plan=plan)
    return server


def test_an_object_that_is_replaced_meanwhile_is_named(either_way) -> None:
    with _replaced_after(2) as server, pytest.raises(ObjectChanged, match=r"s3://faulty/a/big was replaced"):
        fetch(server)


def test_a_server_that_ignores_if_match_mixes_no_versions(either_way) -> None:
    """The new object has the same size, so that only its ETag tells."""
    with (
        _replaced_after(2, ignores_if_match=True) as server,
        pytest.raises(ObjectChanged, match=r"s3://faulty/a/big was replaced"),
    ):
        fetch(server)


def test_an_object_that_is_deleted_meanwhile_is_named(either_way) -> None:
    def plan(get: Get) -> None:
        if get.number == 2:
            del server.objects["a/big"]

    with (
        FaultServer({"a/big": BIG}, plan=plan) as server,
        pytest.raises(ObjectChanged, match=r"s3://faulty/a/big was deleted"),
    ):
        fetch(server)


def test_an_object_that_has_another_size_now_is_named(in_threads) -> None:
    def plan(get: Get) -> Fault:
        server.objects["a/big"] = BIG[:-1]
        return Fault(ignores_if_match=True)

    with (
        FaultServer({"a/big": BIG}, plan=plan) as server,
        pytest.raises(ObjectChanged, match=r"a/big was replaced .*it has 20971519 bytes and had 20971520"),
    ):
        fetch(server)


def test_credentials_that_are_refused_in_mid_transfer_are_an_error_of_credentials(either_way) -> None:
    refused = Fault(status=403, code="ExpiredToken")
    with (
        FaultServer({"a/big": BIG}, plan=lambda get: refused if get.number >= 2 else None) as server,
        pytest.raises(CredentialsError, match="a/big: the credentials are expired"),
    ):
        fetch(server)


def test_one_error_ends_the_other_connections_too(in_threads) -> None:
    """The others are in the midst of answers that never end; the error does not wait for them."""

    def plan(get: Get) -> Fault:
        if get.number < 2:
            return Fault(hang_after=MIB)
        return Fault(status=403, code="AccessDenied")

    with FaultServer({"big": BIG}, plan=plan) as server:
        started = time.monotonic()
        with pytest.raises(PermissionError):
            fetch(server)
        assert time.monotonic() - started < 15, "it waited for the stall timeout of the others"


def test_cancelling_ends_a_transfer_that_hangs(either_way) -> None:
    with FaultServer({"big": BIG}, hang_after=MIB) as server, listed(server) as (job, objects, files):

        def cancel() -> None:
            server.hanging.wait()
            job.cancel()

        cancelling = threading.Thread(target=cancel)
        cancelling.start()
        with pytest.raises(Cancelled, match="s3://faulty"):
            job.fetch(targets(objects, files))
        cancelling.join()


def test_a_server_that_is_not_there_at_all_is_named(in_threads) -> None:
    server = FaultServer({})
    with server:
        pass
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1:\d+ cannot be reached.*AWS_ENDPOINT_URL"):
        fetch(server)


def test_progress_grows_to_the_whole(either_way) -> None:
    seen: list[int] = []
    with FaultServer({"big": BIG}, plan=first(2, Fault(close_after=MIB))) as server:
        fetch(server, on_progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == len(BIG)
