"""What a load tells a program while it goes on: events, and the counts of `stats`."""

from __future__ import annotations

import logging
import os
import time

import pytest

import diskless
from diskless import Dropped, FileComplete, InvalidOption, PartFetched, Retried
from tests.loader.fault_server import Fault, FaultServer, Get

MIB = 1 << 20
OBJECTS = {"m/config.json": b"{}", "m/empty": b"", "m/model.bin": os.urandom(12 * MIB)}


def test_every_part_and_every_file_is_told(either_way) -> None:
    events: list[diskless.Event] = []
    with FaultServer(OBJECTS) as server:
        before = time.monotonic()
        options = server.storage_options
        with diskless.mount(f"{server.url}/m", storage_options=options, on_event=events.append):
            after = time.monotonic()
    parts = [event for event in events if isinstance(event, PartFetched)]
    for name in ("config.json", "model.bin"):
        ranges = sorted((part.start, part.end) for part in parts if part.path == name)
        assert [end for _, end in ranges][:-1] == [start for start, _ in ranges][1:]
        assert (ranges[0][0], ranges[-1][1]) == (0, len(OBJECTS[f"m/{name}"]))
    assert all(before < part.began_s <= part.ended_s < after and part.attempts == 1 for part in parts)
    for one in parts:
        for other in parts:
            if one is not other and one.connection == other.connection:
                assert one.ended_s <= other.began_s or other.ended_s <= one.began_s
    complete = [event for event in events if isinstance(event, FileComplete)]
    assert sorted(complete) == sorted(FileComplete(key[2:], len(data)) for key, data in OBJECTS.items())
    assert len(parts) + len(complete) == len(events)


def test_a_retry_is_told_with_its_range_and_cause_and_counted(either_way) -> None:
    def plan(get: Get) -> Fault | None:
        return Fault(close_after=MIB) if get.key == "m/model.bin" and get.start == 0 else None

    events: list[diskless.Event] = []
    with FaultServer(OBJECTS, plan=plan) as server:
        job = diskless.prefetch(f"{server.url}/m", storage_options=server.storage_options, on_event=events.append)
        job.wait()
        stats = job.stats
        job.close()
    (retried,) = (event for event in events if isinstance(event, Retried))
    assert retried.path == "model.bin" and 0 < retried.start <= MIB and retried.cause
    (again,) = (event for event in events if isinstance(event, PartFetched) and event.attempts > 1)
    assert (again.path, again.start, again.attempts, again.connection) == ("model.bin", 0, 2, retried.connection)
    assert again.began_s < retried.at_s < again.ended_s
    assert stats.retries == 1


def test_many_events_come_in_messages_that_fit(either_way) -> None:
    """Each once, though the socket may be full while they are told."""
    objects = {f"{'long' * 40}/{number:04}": b"x" for number in range(600)}
    events: list[diskless.Event] = []

    def slowly(event: diskless.Event) -> None:
        events.append(event)
        time.sleep(0.0002)

    with FaultServer(objects) as server:
        diskless.mount(server.url, storage_options=server.storage_options, on_event=slowly).close()
    assert sorted(event.path for event in events if isinstance(event, PartFetched)) == sorted(objects)
    assert sorted(event.path for event in events if isinstance(event, FileComplete)) == sorted(objects)


def test_a_hook_that_raises_is_logged_once_and_ends_nothing(caplog) -> None:
    def raises(event: diskless.Event) -> None:
        raise ValueError("mine")

    with FaultServer(OBJECTS) as server, caplog.at_level(logging.ERROR, "diskless"):
        options = server.storage_options
        with diskless.mount(f"{server.url}/m", storage_options=options, on_event=raises) as path:
            assert open(f"{path}/model.bin", "rb").read() == OBJECTS["m/model.bin"]
    (record,) = caplog.records
    assert "on_event=" in record.message and record.exc_info is not None and "mine" in str(record.exc_info[1])


def test_what_is_no_function_is_refused_before_anything_is_asked() -> None:
    for door in (diskless.mount, diskless.prefetch):
        with FaultServer(OBJECTS) as server:
            with pytest.raises(InvalidOption, match="on_event= is a function"):
                door(server.url, storage_options=server.storage_options, on_event="print")
            assert server.list_requests == 0


def test_a_lazy_mount_tells_what_was_opened_and_dropped() -> None:
    objects = {f"z/{number}": os.urandom(2 * MIB) for number in range(3)}
    events: list[diskless.Event] = []
    with FaultServer(objects) as server:
        mount = diskless.mount(
            f"{server.url}/z",
            storage_options=server.storage_options,
            load="lazy",
            budget="4MiB",
            backing="tree",
            on_event=events.append,
        )
        with mount as path:
            for number in range(3):
                assert open(f"{path}/{number}", "rb").read() == objects[f"z/{number}"]
            end = time.monotonic() + 10
            while mount.stats.fetched_bytes < 6 * MIB and time.monotonic() < end:
                time.sleep(0.01)
            assert mount.stats.eta_s is None and mount.stats.complete_files == 2
    assert Dropped("0", 2 * MIB) in events
    assert [event.path for event in events if isinstance(event, FileComplete)] == ["0", "1", "2"]


def test_stats_say_how_far_it_is_and_how_long_the_rest_takes() -> None:
    def plan(get: Get) -> Fault | None:
        return Fault(hang_after=0) if get.start >= 8 * MIB else None

    with FaultServer(OBJECTS, plan=plan) as server:
        job = diskless.prefetch(f"{server.url}/m", storage_options=server.storage_options)
        end = time.monotonic() + 20
        while job.stats.fetched_bytes < 8 * MIB + 2 or job.stats.complete_files < 2:
            assert time.monotonic() < end, job.stats
            time.sleep(0.01)
        stats = job.stats
        assert (stats.files, stats.complete_files, stats.size_bytes) == (3, 2, 12 * MIB + 2)
        assert stats.eta_s is not None and stats.rate_bytes_per_s > 0
        assert stats.eta_s * stats.rate_bytes_per_s == pytest.approx(4 * MIB)
        server.plan = lambda get: None
        server.stop()
        server.start()
        job.wait()
        stats = job.stats
        assert (stats.complete_files, stats.fetched_bytes, stats.eta_s) == (3, 12 * MIB + 2, 0.0)
        assert stats.rate_bytes_per_s == pytest.approx(stats.fetched_bytes / stats.seconds)
        assert stats.retries >= 1
        job.close()
