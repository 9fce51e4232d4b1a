"""Ranges, against a set of bytes."""

from __future__ import annotations

import itertools
import random

from diskless.loader import ranges


def test_they_are_what_a_set_of_bytes_is() -> None:
    chance = random.Random(14)
    for _ in range(300):
        there: list[tuple[int, int]] = []
        held: set[int] = set()
        for _ in range(chance.randrange(12)):
            start = chance.randrange(60)
            end = start + chance.randrange(12)
            ranges.add(there, start, end)
            held.update(range(start, end))
            assert {at for begin, until in there for at in range(begin, until)} == held
            assert all(one[1] < other[0] for one, other in itertools.pairwise(there)), there
        start = chance.randrange(70)
        end = start + chance.randrange(20)
        missing = ranges.missing(there, start, end)
        assert {at for begin, until in missing for at in range(begin, until)} == set(range(start, end)) - held
        assert all(begin < until for begin, until in missing)
