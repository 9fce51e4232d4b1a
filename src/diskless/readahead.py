"""Readahead: how far beyond what a reader asks for is fetched, from how it has read so far."""

from __future__ import annotations

# A request costs as long as so many bytes take on one connection.
_LEAST_BYTES = 256 << 10
# What a file buffers: no more than one small read fetches.
BUFFER_BYTES = 128 << 10
# Who reads on is given eight connections' work, in parts of 4 MiB, twice over.
_MOST_BYTES = 64 << 20
# What is fetched beyond is kept up to that in steps of a part.
_STEP_BYTES = 4 << 20
# A file no larger is fetched as a whole: it is one request.
SMALL_BYTES = 4 << 20
# Between two reads that follow each other there may be as much: a header, an alignment.
_GAP_BYTES = 1 << 20


class Readahead:
    """Of one reader. A first read, or one elsewhere, is fetched with little beyond it, so that who wants a few ranges
    gets those and not the file. Reads that follow each other double what is fetched beyond them, up to 64 MiB; who
    reads on is then taken to want the rest of the file, too. With `most_bytes` it is never more than that.
    """

    def __init__(self, size_bytes: int, most_bytes: int | None = None) -> None:
        self._size_bytes = size_bytes
        self._most_bytes = most_bytes or _MOST_BYTES
        self._bounded = most_bytes is not None
        self._read_to = -1  # by the last read
        self._beyond = 0
        self._begin = self._until = 0  # what was asked for around it

    def forget(self) -> None:
        """What was asked for may not come: the next read asks for all that it wants."""
        self._until = self._begin

    def bound(self) -> None:
        """There is no room for the rest of the file: no more than so much is fetched beyond a read from now on."""
        self._bounded = True
        self.forget()

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the range that is to be asked for now, by who reads from `start` to `end`; None for nothing."""
        follows = self._read_to >= 0 and 0 <= start - self._read_to <= _GAP_BYTES
        self._read_to = end
        if self._begin <= start <= self._until + (_GAP_BYTES if follows else 0):
            if end + self._beyond - min(self._beyond // 2, _STEP_BYTES) <= self._until:
                return None
            if follows:
                self._beyond = min(self._most_bytes, max(2 * self._beyond, 2 * (end - start), _LEAST_BYTES))
        else:
            self._begin = self._until = start
            self._beyond = 0
        # With what a buffer takes behind the read, lest that be a request of its own.
        first, last = self._until, max(end + BUFFER_BYTES, start + _LEAST_BYTES) + self._beyond
        if self._size_bytes <= SMALL_BYTES:
            self._begin = first = 0
            last = self._size_bytes
        if self._beyond == self._most_bytes and not self._bounded:
            last = self._size_bytes
        self._until = min(last, self._size_bytes)
        return (first, self._until) if first < self._until else None
