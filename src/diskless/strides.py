"""Strides: what a reader will read next who reads ranges of one length at one distance, such as columns of parquet."""

from __future__ import annotations

from bisect import bisect_left, insort

# Closer ones are what Readahead is for.
_LEAST_DISTANCE_BYTES = 1 << 20
# What may be under way ahead of the reader, as with Readahead.
_MOST_BYTES = 64 << 20
# The last so many reads are looked at.
_MOST_READS = 256


class Strides:
    """Of one reader. pyarrow reads a column of each row group, several columns in turns, and waits for each range.

    Three reads at one distance tell what that is, until three at a lesser one do, since threads read out of order; the
    ranges that follow those already read at that distance are guessed. What was read pays for the first guesses at a
    distance, once, and guesses that come true pay for more: who reads at random has no more fetched in vain than it
    reads.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._starts: list[int] = []  # of reads, sorted
        self._lengths: dict[int, int] = {}
        self._guesses: list[int] = []  # where ranges begin that were asked for and not read yet, sorted
        self._asked: list[int] = []  # the same, read or not
        self._distance = self._inexact = 0
        self._credit = self._unspent = 0  # bytes that may be guessed; bytes read that paid for nothing

    def ahead(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the ranges to ask for now, by who reads from `start` to `end`, away from its last read."""
        length = end - start
        if start in self._lengths or len(self._starts) >= _MOST_READS:
            return []
        guess = _near(self._guesses, start, length // 8)
        if guess is not None:
            self._guesses.remove(guess)
            self._credit += 2 * length
        else:
            self._unspent += length
        insort(self._starts, start)
        self._lengths[start] = length
        if guess is None and self._look(start, length):
            self._credit, self._unspent = self._credit + self._unspent, 0
        self._credit = min(self._credit, _MOST_BYTES)
        return self._guessed() if self._distance else []

    def _look(self, start: int, length: int) -> bool:
        """Find the least distance at which this read and two others lie; return whether it is a new one."""
        slack = length // 8
        alike = [each for each in self._starts if each != start and abs(self._lengths[each] - length) <= slack]
        for other in sorted(alike, key=lambda each: abs(each - start)):
            low, high = min(start, other), max(start, other)
            distance = high - low
            if distance <= length + _LEAST_DISTANCE_BYTES:
                continue
            if self._distance and distance >= self._distance - slack:
                break
            for wanted in (low - distance, high + distance):
                third = _near(alike, wanted, slack)
                if third is not None:
                    self._distance, self._inexact = distance, abs(third - wanted)
                    return True
        return False

    def _guessed(self) -> list[tuple[int, int]]:
        """Return what lies beyond the reads, the nearest to the front first, as far as there is credit."""
        found = []
        for first in self._starts:
            length, step = self._lengths[first], 1
            while (start := first + step * self._distance) < self._size_bytes and step * self._inexact <= length // 8:
                found.append((start, length, step * self._inexact))
                step += 1
        ranges = []
        for start, length, slack in sorted(found):
            if (
                _near(self._starts, start, length // 8) is not None
                or _near(self._asked, start, length // 8) is not None
            ):
                continue
            begin, until = start - slack, min(start + length + slack, self._size_bytes)
            if until - begin > self._credit:
                break
            self._credit -= until - begin
            insort(self._guesses, start)
            insort(self._asked, start)
            ranges.append((begin, until))
        return ranges


def _near(numbers: list[int], wanted: int, slack: int) -> int | None:
    """Return a number of a sorted list that is not farther than `slack` from the one that is wanted."""
    place = bisect_left(numbers, wanted - slack)
    return numbers[place] if place < len(numbers) and numbers[place] <= wanted + slack else None
