"""Ranges: which bytes of a file are there, as sorted pairs of start and end (exclusive) that do not touch."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def add(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    """Note that the bytes from `start` to `end` are there, perhaps once more."""
    first = bisect_left(ranges, start, key=lambda each: each[1])  # the first that reaches `start`
    last = bisect_right(ranges, end, key=lambda each: each[0])
    if first < last:
        start, end = min(start, ranges[first][0]), max(end, ranges[last - 1][1])
    if start < end:
        ranges[first:last] = [(start, end)]


def missing(ranges: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return the ranges between `start` and `end` that are not there."""
    if not ranges:  # of each file of a transfer that begins
        return [(start, end)] if start < end else []
    found: list[tuple[int, int]] = []
    at = start
    for begin, until in ranges[bisect_right(ranges, start, key=lambda each: each[1]) :]:
        if begin >= end:
            break
        if begin > at:
            found.append((at, begin))
        at = max(at, until)
    if at < end:
        found.append((at, end))
    return found
