"""Filling: which bytes of the files that a load fetches are there, are asked for, or cannot be had."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diskless.errors import DisklessError, again
from diskless.forks import LOCK
from diskless.ram.file import RamFile
from diskless.ram.store import Store

if TYPE_CHECKING:
    from diskless.loader import client
    from diskless.sources import Object

# How often who waits for bytes asks for them again.
_ASK_AGAIN_S = 1.0


class Filling:
    """What readers see of one load's files while those are fetched.

    All is guarded by LOCK, but for what the thread that loads notes here.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.error: BaseException | None = None  # what the load ended with
        # Why files of a lazy load could not be had, by path, until they can.
        self.refusals: dict[str, DisklessError] = {}
        # And ranges of them, in the order of their coming.
        self._refused_ranges: list[tuple[RamFile, int, int, DisklessError]] = []
        self._transfer: client.Job | None = None
        self._work: Sequence[tuple[Object, RamFile]] = ()
        self._numbers: dict[RamFile, int] = {}  # in that; made when asked for

    def begin(self, transfer: client.Job, work: Sequence[tuple[Object, RamFile]]) -> None:
        """From now on `transfer` fills these files, in its order. The caller holds LOCK."""
        self._transfer, self._work, self._numbers = transfer, work, {}
        for _, file in work:
            file.filler = self

    def end(self) -> None:
        """Nothing is fetched any more. The caller holds LOCK."""
        self._transfer = None

    def refuse(self, number: int, error: DisklessError) -> None:
        """Note why a file cannot be had now, by its number in the transfer."""
        self.refusals[self._work[number][0].path] = error
        self._store.notify()

    def refuse_range(self, number: int, start: int, end: int, error: DisklessError) -> None:
        """Note why a range of a file cannot be had now."""
        self._refused_ranges.append((self._work[number][1], start, end, error))
        self._store.notify()

    def wait_for(self, file: RamFile, start: int, end: int, span: tuple[int, int] | None) -> bool:
        """Return when bytes of a file are in place, after asking for those of `span`.

        False where they had to be asked for once more: then what was asked for before may be forgotten as well. Raises
        what the load ended with, or why a lazy file, or its range, cannot be had now. The caller does not hold LOCK.
        """
        with LOCK:
            before, ranges = self._refusal(file), len(self._refused_ranges)
        once = True
        while True:
            if span is not None:
                self.ask(file, *span)
            ask_at = time.monotonic() + _ASK_AGAIN_S
            with LOCK:
                while missing := self.missing(file, start, end):
                    refusal = self._refusal(file)
                    error = self.error or (refusal if refusal is not before else None)
                    error = error or self._refused(file, start, end, ranges)
                    if error is not None:
                        raise again(error)
                    if time.monotonic() >= ask_at:
                        break
                    self._store.wait_for_bytes(_ASK_AGAIN_S)
                else:
                    return once
            # A Loader that replaces a dead one knows nothing of what was asked.
            span, once = (missing[0][0], missing[-1][1]), False

    def missing(self, file: RamFile, start: int, end: int) -> Sequence[tuple[int, int]]:
        """Return which ranges of a file are not in place. The caller holds LOCK."""
        if file.complete:
            return []
        number = self._number(file)
        if self._transfer is None or number is None:
            return [(start, end)]
        return self._transfer.missing(number, start, end)

    def is_dropped(self, file: RamFile, fd: int) -> bool:
        """Whether a lazy file, open as `fd`, was dropped and is still told as complete; no more, soon.

        What is open is not dropped any more. The caller holds LOCK.
        """
        if file.filler is not self or self.missing(file, 0, file.size_bytes):
            return False
        return os.fstat(fd).st_blocks * 512 < file.size_bytes

    def ask(self, file: RamFile, start: int, end: int) -> None:
        """Have a range of a file fetched next, if it is one of these.

        The caller does not hold LOCK: the Loader may have to take other messages first.
        """
        with LOCK:
            transfer, number = self._transfer, self._number(file)
        if transfer is not None and number is not None:
            transfer.ask(number, start, end)

    def _number(self, file: RamFile) -> int | None:
        if not self._numbers:
            self._numbers = {each: number for number, (_, each) in enumerate(self._work)}
        return self._numbers.get(file)

    def _refusal(self, file: RamFile) -> DisklessError | None:
        number = self._number(file)
        return self.refusals.get(self._work[number][0].path) if number is not None else None

    def _refused(self, file: RamFile, start: int, end: int, since: int) -> DisklessError | None:
        """Return why a range was refused that these bytes are of."""
        for of, first, last, error in self._refused_ranges[since:]:
            if of is file and first < end and start < last:
                return error
        return None
