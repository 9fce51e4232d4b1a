"""Pending: which parts of a transfer are still to be fetched, in which order, and what is left of each file."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable

from diskless.loader.concurrency import FIRST
from diskless.loader.plan import Part, plan


class Pending:
    """What is `missing` of files: first nobody has asked for it, then it is queued in parts, then on its way.

    The caller has a lock for all of this.
    """

    def __init__(self, missing: Iterable[Part], most_part_bytes: int) -> None:
        self._most_part_bytes = most_part_bytes
        self._unasked: dict[int, list[Part]] = {}
        for part in missing:
            self._unasked.setdefault(part.file, []).append(part)
        self._queue: deque[Part] = deque()
        # Of each file that was asked for: queued and on their way.
        self._parts_left: Counter[int] = Counter()
        self._bytes_left: Counter[int] = Counter()

    def __len__(self) -> int:
        """How many parts could be begun."""
        return len(self._queue)

    @property
    def unasked(self) -> list[int]:
        """Files of which nobody has asked for all."""
        return list(self._unasked)

    def wants(self, file: int) -> bool:
        """Whether anything of a file is still to come, asked for or not."""
        return file in self._unasked or file in self._parts_left

    def unasked_bytes(self, file: int, start: int, end: int) -> int:
        """Return how many bytes of a range nobody has asked for."""
        asked, _ = _cut(self._unasked.get(file, ()), start, end)
        return sum(part.end - part.start for part in asked)

    def unwritten_bytes(self, file: int | None = None) -> int:
        """Return how many bytes of a file, or of all, were asked for and are still to be written."""
        return sum(self._bytes_left.values()) if file is None else self._bytes_left[file]

    def ask(self, files: Iterable[int], *, first: bool) -> list[Part]:
        """Queue what nobody has asked for of these files, and return those parts."""
        return self._put([part for file in files for part in self._unasked.pop(file, ())], first=first)

    def ask_range(self, file: int, start: int, end: int) -> list[Part]:
        """Put these bytes to the front of the queue, and return the parts of them that were not in it."""
        queued = [part for part in self._queue if part.file == file]
        asked, rest = _cut(queued, start, end)
        if asked:
            self._parts_left[file] += len(asked) + len(rest) - len(queued)
            self._queue = deque([*asked, *rest, *(part for part in self._queue if part.file != file)])
        asked, rest = _cut(self._unasked.pop(file, []), start, end)
        if rest:
            self._unasked[file] = rest
        return self._put(asked, first=True)

    def hurry(self, files: Collection[int]) -> list[Part]:
        """Put these files to the front of the queue, and return the parts of them that were not in it."""
        first = [part for part in self._queue if part.file in files]
        self._queue = deque(first + [part for part in self._queue if part.file not in files])
        return self.ask(files, first=True)

    def take(self) -> Part | None:
        """Return the part to fetch next, if there is one."""
        return self._queue.popleft() if self._queue else None

    def wrote(self, file: int, size_bytes: int) -> None:
        """Note that so many bytes are in place, or that so many were not right, where they are below 0."""
        self._bytes_left[file] -= size_bytes

    def give_up(self, file: int) -> None:
        """Take what is queued of a file out."""
        queue = deque(part for part in self._queue if part.file != file)
        self._parts_left[file] -= len(self._queue) - len(queue)
        self._queue = queue

    def end(self, part: Part) -> bool:
        """Note that nothing more comes of a part; whether it was the last of its file that was asked for."""
        self._parts_left[part.file] -= 1
        if self._parts_left[part.file] > 0:
            return False
        del self._parts_left[part.file], self._bytes_left[part.file]
        return True

    def begin_again(self, file: int, size_bytes: int) -> None:
        """All of a file is missing, and nobody has asked for it."""
        self._unasked[file] = [Part(file, 0, size_bytes)]

    def _put(self, missing: list[Part], *, first: bool) -> list[Part]:
        parts = plan(missing, FIRST, self._most_part_bytes)
        for part in parts:
            self._parts_left[part.file] += 1
            self._bytes_left[part.file] += part.end - part.start
        self._queue = deque([*parts, *self._queue] if first else [*self._queue, *parts])
        return parts


def _cut(parts: Iterable[Part], start: int, end: int) -> tuple[list[Part], list[Part]]:
    """Return what of the parts lies between `start` and `end`, and what does not."""
    inside, outside = [], []
    for part in parts:
        first, last = max(part.start, start), min(part.end, end)
        if first >= last:
            outside.append(part)
            continue
        inside.append(part._replace(start=first, end=last))
        outside += [part._replace(end=first)] if part.start < first else []
        outside += [part._replace(start=last)] if last < part.end else []
    return inside, outside
