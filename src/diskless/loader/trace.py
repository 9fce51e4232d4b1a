"""Trace: what became of each part of a transfer and when, noted where somebody watches it (see diskless/events.py)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from diskless.errors import redact
from diskless.loader.plan import Part

# Of one retry's cause, which travels in a message.
_CAUSE_CHARACTERS = 300

# ("part", file, start, end, connection, began_s, ended_s, attempts) or
# ("retry", file, start, end, connection, at_s, cause)
Entry = tuple[object, ...]


class Trace:
    """Notes what the threads of one transfer do. Times are those of CLOCK_MONOTONIC."""

    def __init__(self, note: Callable[[Entry], None]) -> None:
        self._note = note
        # Guards the numbers of the connections, by the threads that have them.
        self._lock = threading.Lock()
        self._numbers: dict[int | None, int] = {}

    def begin(self, part: Part) -> TracedPart:
        """Note that this thread begins to fetch a part."""
        return TracedPart(self._note, part, self._connection())

    def retry_file(self, file: int, size_bytes: int, cause: str) -> None:
        """Note that all of a file is fetched again."""
        self._note(("retry", file, 0, size_bytes, self._connection(), time.monotonic(), cause))

    def _connection(self) -> int:
        """Return the number of this thread's connection: the least that no living thread has."""
        me = threading.get_ident()
        with self._lock:
            if me not in self._numbers:
                living = {thread.ident for thread in threading.enumerate()}
                self._numbers = {thread: number for thread, number in self._numbers.items() if thread in living}
                taken = set(self._numbers.values())
                self._numbers[me] = next(number for number in range(len(taken) + 1) if number not in taken)
            return self._numbers[me]


class TracedPart:
    """A part on its way."""

    def __init__(self, note: Callable[[Entry], None], part: Part, connection: int) -> None:
        self._note = note
        self._part = part
        self._connection = connection
        self._began_s = time.monotonic()
        self._attempts = 1

    def retry(self, position: int, cause: BaseException) -> None:
        """Note that the part is asked for again from `position` on."""
        self._attempts += 1
        file, _, end = self._part
        words = redact(str(cause))[:_CAUSE_CHARACTERS]
        self._note(("retry", file, position, end, self._connection, time.monotonic(), words))

    def end(self) -> None:
        """Note that the part is in place."""
        self._note(("part", *self._part, self._connection, self._began_s, time.monotonic(), self._attempts))
