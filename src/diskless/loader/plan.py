"""Which ranges are fetched, in which order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

# Large enough that a request's overhead vanishes, small enough that a retry costs little and the last connections
# to finish do so together.
MOST_BYTES = 32 << 20
LEAST_BYTES = 4 << 20
PARTS_PER_CONNECTION = 4


class Part(NamedTuple):
    """A range of one file: `end` is exclusive."""

    file: int
    start: int
    end: int


def plan(missing: Iterable[Part], connections: int, most_bytes: int = MOST_BYTES) -> list[Part]:
    """Cut the missing ranges into parts: small ones first, so that configurations come before weights, which follow in
    the order of the listing.

    A part is between 4 and 32 MiB, or `most_bytes`: with few bytes in all, every connection still gets some.
    """
    ranges = sorted(missing, key=lambda part: (min(part.end - part.start, MOST_BYTES), part.file, part.start))
    total_bytes = sum(part.end - part.start for part in ranges)
    size = total_bytes // (connections * PARTS_PER_CONNECTION)
    size = max(LEAST_BYTES, min(most_bytes, size))
    return [
        Part(whole.file, start, min(start + size, whole.end))
        for whole in ranges
        for start in range(whole.start, whole.end, size)
    ]
