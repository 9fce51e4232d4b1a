"""A lazy Transfer: what it reports never adds up to a file that is not there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from diskless.errors import BudgetExceeded, ObjectChanged
from diskless.loader import ranges
from diskless.loader.client import _Progress
from diskless.loader.plan import Part
from diskless.loader.transfer import Happened, Transfer
from diskless.sources import Object
from diskless.sources.checksums import Checksum
from tests.loader import stored

PART = 4 << 20
DATA = os.urandom(3 * PART)


@pytest.fixture
def fd() -> Iterator[int]:
    """A RAM file that DATA goes into."""
    fd = os.memfd_create("lazy")
    os.truncate(fd, len(DATA))
    yield fd
    os.close(fd)


class Rounds:
    """A source of one object, and what its user hears. In the first round the middle part fails, when the others have
    arrived; in the second the others wait until the middle one has."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.round = 1
        self.progress = _Progress([len(DATA)])
        self.arrived = {1: threading.Event(), 2: threading.Event()}
        self.done = threading.Event()
        self.complete_at: list[bool] = []  # whether it was told to be complete whenever all parts were reported
        self.told = False
        self.failures: list[BaseException] = []

    def checksum(self, entry: Object) -> Checksum:
        return Checksum("CRC64NVME", stored.ALGORITHMS["CRC64NVME"](DATA))

    def read(self, entry: Object, start: int, end: int) -> Iterator[bytes]:
        middle = start == PART
        bad = self.round == 1 and middle
        if bad:
            assert self.arrived[1].wait(20)
            if self.how == "refused":
                raise ObjectChanged("it was there a moment ago")
        elif self.round == 2 and not middle:
            assert self.arrived[2].wait(20)
        data = DATA[start:end]
        # Two times in the first round, since it is tried again.
        yield data[:-1] + bytes([data[-1] ^ 1]) if bad else data

    def report(self, happened: Happened) -> bool:
        for file in happened.dropped:
            self.progress.there[file] = []
        for part in happened.parts:
            self.progress.add(*part)
        starts = {start for start in range(0, len(DATA), PART) if self._has(start)}
        if self.round == 1 and starts >= {0, 2 * PART}:
            self.arrived[1].set()
        if self.round == 2 and PART in starts:
            self.arrived[2].set()
        if not self.progress.missing(0):
            self.complete_at.append(self.told)
            self.done.set()
        return True

    def _has(self, start: int) -> bool:
        return not ranges.missing(self.progress.there[0], start, min(start + PART, len(DATA)))

    def on_file(self, file: int) -> None:
        self.told = True

    def on_failure(self, file: int, error: BaseException) -> None:
        self.failures.append(error)
        self.done.set()


@pytest.mark.parametrize("how", ["refused", "damaged"])
def test_a_file_that_failed_is_not_complete_when_the_rest_of_it_has_come(how: str, fd: int) -> None:
    rounds = Rounds(how)
    entry = Object("a", "a", len(DATA), None, None, 0)
    transfer = Transfer(
        rounds,
        [(entry, fd)],
        [Part(0, 0, len(DATA))],
        rounds.report,
        lambda error: None,
        rounds.on_file,
        rounds.on_failure,
        verify=how == "damaged",
    )
    transfer.start()
    for number in (1, 2):
        rounds.round = number
        rounds.done.clear()
        transfer.hurry({0})
        assert rounds.done.wait(20)
    assert len(rounds.failures) == 1
    assert rounds.complete_at and all(rounds.complete_at)
    assert os.pread(fd, len(DATA) + 1, 0) == DATA
    transfer.cancel()
    transfer.join()


class Room:
    """There is none when it is looked at first."""

    def __init__(self) -> None:
        self.looks = 0

    def look(self) -> int:
        self.looks += 1
        if self.looks == 1:
            raise BudgetExceeded("other memory was taken")
        return 1 << 30


class Steady:
    """A source of one object that sends it whole, a MiB at a time."""

    def read(self, entry: Object, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, 1 << 20):
            yield DATA[at : min(at + (1 << 20), end)]


def test_room_is_looked_for_again_when_a_refused_file_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, fd: int
) -> None:
    room, settled, refusals = Room(), threading.Event(), list[BaseException]()
    monkeypatch.setattr(Transfer, "_watched", lambda transfer: room)

    def refuse(file: int, error: BaseException) -> None:
        refusals.append(error)
        settled.set()

    entry = Object("a", "a", len(DATA), None, None, 0)
    transfer = Transfer(
        Steady(),
        [(entry, fd)],
        [Part(0, 0, len(DATA))],
        lambda happened: True,
        lambda error: None,
        lambda file: settled.set(),
        refuse,
        most_connections=1,
    )
    transfer.start()
    transfer.hurry({0})
    assert settled.wait(20)
    assert [type(error) for error in refusals] == [BudgetExceeded]
    settled.clear()
    transfer.hurry({0})
    assert settled.wait(20)
    assert len(refusals) == 1 and room.looks > 1
    assert os.pread(fd, len(DATA) + 1, 0) == DATA
    transfer.cancel()
    transfer.join()
