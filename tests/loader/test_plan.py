"""Which ranges are fetched: every missing byte once, small files first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from diskless.loader.plan import LEAST_BYTES, MOST_BYTES, Part, plan

MIB = 1 << 20

# Files with holes: lengths of what is missing and what is there, in turn.
lengths = st.lists(st.integers(1, 300 * MIB), max_size=6)
holes = st.lists(lengths, max_size=8)


def _missing(files: list[list[int]]) -> list[Part]:
    found = []
    for number, file in enumerate(files):
        position = 0
        for turn, length in enumerate(file):
            if turn % 2 == 0:
                found.append(Part(number, position, position + length))
            position += length
    return found


@given(holes, st.integers(1, 32))
def test_every_missing_byte_is_in_one_part(files: list[list[int]], connections: int) -> None:
    missing = _missing(files)
    joined: list[Part] = []
    for part in sorted(plan(missing, connections)):
        assert part.start < part.end
        if joined and joined[-1].file == part.file and joined[-1].end == part.start:
            joined[-1] = Part(part.file, joined[-1].start, part.end)
        else:
            joined.append(part)
    assert joined == sorted(missing)


@given(holes, st.integers(1, 32))
def test_parts_are_between_4_and_32_mib_where_the_range_is(files: list[list[int]], connections: int) -> None:
    parts = plan(_missing(files), connections)
    assert all(part.end - part.start <= MOST_BYTES for part in parts)
    ends = {(part.file, part.end) for part in _missing(files)}
    assert all(part.end - part.start >= LEAST_BYTES or (part.file, part.end) in ends for part in parts)


def test_small_files_come_before_large_ones() -> None:
    parts = plan([Part(0, 0, 500 * MIB), Part(1, 0, 100), Part(2, 0, 20 * MIB), Part(3, 0, 2)], 8)
    order = list(dict.fromkeys(part.file for part in parts))
    assert order == [3, 1, 2, 0]


def test_large_files_come_in_the_order_of_the_listing() -> None:
    parts = plan([Part(0, 0, 500 * MIB), Part(1, 0, 90 * MIB), Part(2, 0, 700 * MIB), Part(3, 0, 600 * MIB)], 8)
    assert list(dict.fromkeys(part.file for part in parts)) == [0, 1, 2, 3]


def test_a_large_file_is_shared_by_all_connections() -> None:
    assert len(plan([Part(0, 0, 64 * MIB)], 8)) >= 8


def test_nothing_missing_is_no_part() -> None:
    assert plan([], 8) == []
