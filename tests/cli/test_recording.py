"""The series that a picture of a load is drawn from."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time

import pytest

from diskless.cli.recording import Recording
from diskless.events import PartFetched, Retried


def _recording(parts: int, connections: int = 8) -> Recording:
    recording, began_s = Recording(), time.monotonic()
    random.seed(parts)
    now = [began_s] * connections
    for number in range(parts):
        lane = number % connections
        ended_s = now[lane] + random.uniform(0.001, 0.01)
        recording.add(PartFetched(f"{number // 100}", number * 1000, number * 1000 + 1000, lane, now[lane], ended_s, 1))
        now[lane] = ended_s
    return recording


@pytest.mark.parametrize("parts", [0, 1, 2, 2999, 20_000])
def test_bars_hold_all_parts_and_are_few(parts: int) -> None:
    bars = _recording(parts).bars()
    assert sum(bar.parts for bar in bars) == parts
    assert sum(bar.size_bytes for bar in bars) == 1000 * parts
    assert len(bars) <= min(parts, 3008)
    assert len(bars) == parts or len(bars) > 1000
    for first, second in itertools.pairwise(bars):
        assert first.connection < second.connection or first.ended_s <= second.began_s + 1e-9


@pytest.mark.parametrize("parts", [1, 500])
def test_the_throughput_of_a_short_load_adds_up_to_its_bytes(parts: int) -> None:
    recording = _recording(parts)
    (_, first), *points = recording.throughput()
    width_s = max(part.ended_s for part in recording.parts) / len(points)
    assert first == points[0][1]
    assert sum(rate for _, rate in points) * width_s == pytest.approx(1000 * parts, rel=0.01)


# In a process of its own: what other tests have left in this one may be freed meanwhile.
SAMPLES = """
from diskless.cli.recording import Recording
recording = Recording()
recording.sample(0)
ballast = bytearray(b"x" * (64 << 20))
recording.sample(7)
before, after = recording.samples
assert after.process_bytes - before.process_bytes >= len(ballast) * 0.9
assert recording.peak_bytes == after.process_bytes and after.done_bytes == 7
"""


def test_a_sample_has_the_memory_of_this_process() -> None:
    subprocess.run([sys.executable, "-c", SAMPLES], check=True)


def test_a_retry_is_counted_from_the_beginning() -> None:
    recording = Recording()
    recording.add(Retried("a", 0, 10, 0, time.monotonic() + 2, "why"))
    assert recording.retries[0].at_s == pytest.approx(2, abs=0.1)
