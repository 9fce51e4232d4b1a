"""Readers who read ranges at one distance, such as columns of parquet, have the next of them fetched ahead."""

from __future__ import annotations

import os
import random

import fsspec
import pytest

from diskless.strides import Strides
from tests.loader.fault_server import FaultServer

MIB = 1 << 20
KIB = 1 << 10
DATA = os.urandom(48 * MIB)
COLUMN = 300 * KIB
# Row groups of 4 MiB, two columns of each.
COLUMNS = [group * 4 * MIB + offset for group in range(12) for offset in (0, 1_800_000)]


@pytest.fixture
def server(s3_env):
    with FaultServer({"table.bin": DATA}) as server:
        yield server


@pytest.fixture
def file(server):
    fs = fsspec.filesystem(
        "ramcache", target_protocol="s3", target_options=server.s3fs_options, skip_instance_cache=True
    )
    with fs.open("faulty/table.bin") as file:
        yield file


def read(file, start):
    file.seek(start)
    assert file.read(COLUMN) == DATA[start : start + COLUMN]


def asked(server):
    return sum(get.end - get.start for get in server.gets)


def test_columns_are_fetched_once_and_nothing_else(server, file):
    for start in COLUMNS:
        read(file, start)
    assert asked(server) <= len(COLUMNS) * (COLUMN + 256 * KIB)


def test_what_follows_at_the_same_distance_is_there_before_it_is_read(server, file):
    for start in COLUMNS[:6]:
        read(file, start)
    # What a reader has not come to yet is waited for by another.
    ahead = COLUMNS[6]
    assert file.read_at(ahead, ahead + COLUMN) == DATA[ahead : ahead + COLUMN]
    assert [get for get in server.gets if get.start < ahead + COLUMN and ahead < get.end] == [
        get for get in server.gets if get.start == ahead
    ]


def test_guesses_follow_in_any_order_of_threads():
    strides, guessed = Strides(48 * MIB), set()
    order = [COLUMNS[n] for n in (0, 5, 1, 2, 4, 3)]
    for start in order:
        guessed |= {begin for begin, _ in strides.ahead(start, start + COLUMN)}
    for start in COLUMNS[6:]:
        assert start in guessed
        guessed |= {begin for begin, _ in strides.ahead(start, start + COLUMN)}
    assert guessed <= set(COLUMNS)


def test_row_groups_of_nearly_one_length_are_guessed_with_a_margin():
    strides = Strides(48 * MIB)
    starts = [0, 4 * MIB, 8 * MIB + 900]
    ranges = [each for start in starts for each in strides.ahead(start, start + COLUMN)]
    assert ranges
    first, last = ranges[0]
    assert first <= 12 * MIB + 1800 and 12 * MIB + 900 + COLUMN <= last <= 12 * MIB + 1800 + COLUMN + 4 * KIB


def test_who_reads_at_random_has_no_more_fetched_in_vain_than_it_reads():
    draw = random.Random(3)
    for _ in range(50):
        strides, guesses, read_bytes, guessed_bytes, hits = Strides(1024 * MIB), set(), 0, 0, 0
        for _ in range(60):
            start = draw.randrange(1000) * MIB
            hits += start in guesses
            read_bytes += COLUMN
            for begin, until in strides.ahead(start, start + COLUMN):
                guesses.add(begin)
                guessed_bytes += until - begin
        assert guessed_bytes <= read_bytes + 2 * hits * COLUMN
