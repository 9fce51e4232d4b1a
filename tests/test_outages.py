"""A server that goes in mid-transfer, with the Loader as the process that it is: it comes back, or it does not."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import diskless
from diskless.loader import process
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.programs import until

MIB = 1 << 20
BIG = os.urandom(20 * MIB)


@contextmanager
def _leaving(back_after_s: float | None) -> Iterator[FaultServer]:
    """A server that goes, with all its connections, when `a/small` and four halves of answers are said; it may come
    back."""
    go = threading.Event()

    def plan(get: Get) -> Fault | None:
        if go.is_set():
            return None
        if get.number == 3:
            go.set()
        return Fault(hang_after=2 * MIB)

    def leave() -> None:
        go.wait()
        until(lambda: any(get.sent for get in server.gets if get.key == "a/small"))
        server.stop()
        if back_after_s is not None:
            time.sleep(back_after_s)  # an outage takes time
            server.start()

    with FaultServer({"a/big": BIG, "a/small": b"s"}, plan=plan) as server:
        leaving = threading.Thread(target=leave)
        leaving.start()
        yield server
        leaving.join()


def test_a_server_that_comes_back_is_waited_for_and_asked_for_what_is_missing(backing) -> None:
    with (
        _leaving(back_after_s=0.3) as server,
        diskless.mount(f"{server.url}/a", storage_options=server.storage_options, backing=backing) as path,
    ):
        assert Path(path, "big").read_bytes() == BIG and Path(path, "small").read_bytes() == b"s"
        assert not process.in_process()
        # Only what the broken connections had not delivered yet was sent twice.
        assert len(BIG) <= server.sent_bytes("a/big") <= len(BIG) + 4 * 3 * MIB


def test_a_server_that_does_not_come_back_is_an_error_with_object_and_offset(backing) -> None:
    with _leaving(back_after_s=None) as server:
        options = {"storage_options": server.storage_options, "backing": backing}
        with pytest.raises(diskless.TransferError) as caught:
            diskless.mount(f"{server.url}/a", **options)
        assert isinstance(caught.value, OSError) and not process.in_process()
        said = re.fullmatch(
            r"a/big: bytes (\d+) to (\d+) of 20971520 could not be fetched in 6 attempts; the last cause: (.*)",
            str(caught.value),
        )
        assert said is not None, caught.value
        assert 0 <= int(said[1]) < int(said[2]) <= len(BIG) and "a/big" in said[3]
        assert diskless.mounts() == []
        # What failed does not stand in the way once the server is there again.
        server.start()
        with diskless.mount(f"{server.url}/a", **options) as path:
            assert Path(path, "big").read_bytes() == BIG
