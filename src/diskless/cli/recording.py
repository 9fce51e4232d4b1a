"""Recording: what was seen of one load, and the series that a picture of it is drawn from."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from diskless.cli import process_tree
from diskless.events import Event, PartFetched, Retried

# More are drawn as fewer, each for several parts that follow each other.
_MOST_BARS = 3000
# Of a throughput curve; below so many samples it is computed from the parts.
_BINS, _FEW_SAMPLES = 120, 20
# After so long it is looked so often which processes there are; in between only at their memory.
_PROCESSES_S = 1.0


class Sample(NamedTuple):
    """One look: the bytes in place, and what the processes hold beside RAM files; None where that cannot be read."""

    at_s: float
    done_bytes: int
    process_bytes: int | None


class Bar(NamedTuple):
    """Parts that one connection fetched one after the other; mostly a single one."""

    connection: int
    began_s: float
    ended_s: float
    size_bytes: int
    parts: int
    retries: int
    path: str
    start: int


class Recording:
    """Events and samples of one load. Times are seconds since it began."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.parts: list[PartFetched] = []
        self.retries: list[Retried] = []
        self._began_s = time.monotonic()
        self._processes: list[int] = []
        self._looked_s = 0.0

    def add(self, event: Event) -> None:
        """Note an event; called by the thread that loads."""
        if isinstance(event, PartFetched):
            began_s, ended_s = event.began_s - self._began_s, event.ended_s - self._began_s
            self.parts.append(event._replace(began_s=began_s, ended_s=ended_s))
        elif isinstance(event, Retried):
            self.retries.append(event._replace(at_s=event.at_s - self._began_s))

    def sample(self, done_bytes: int) -> None:
        """Look at the processes' memory, and note it beside the bytes in place."""
        now = time.monotonic()
        if now - self._began_s < _PROCESSES_S or now - self._looked_s > _PROCESSES_S:
            self._processes, self._looked_s = [os.getpid(), *process_tree.descendants(os.getpid())], now
        process_bytes = process_tree.resident_bytes(self._processes) or None
        self.samples.append(Sample(now - self._began_s, done_bytes, process_bytes))

    @property
    def peak_bytes(self) -> int | None:
        """The most that all processes held beside the RAM files."""
        return max((sample.process_bytes for sample in self.samples if sample.process_bytes), default=None)

    def bars(self) -> list[Bar]:
        """Return the parts as bars, a few thousand at most."""
        parts = sorted(self.parts, key=lambda part: (part.connection, part.began_s))
        connections = len({part.connection for part in parts})
        window_s = 0.0
        if len(parts) > _MOST_BARS:
            # Two neighbours cannot both be shorter.
            window_s = 2 * connections * max(part.ended_s for part in parts) / _MOST_BARS
        bars: list[Bar] = []
        for part in parts:
            one = _bar(part)
            last = bars[-1] if bars else None
            if last and last.connection == one.connection and one.ended_s - last.began_s < window_s:
                bars[-1] = last._replace(
                    ended_s=max(last.ended_s, one.ended_s),
                    size_bytes=last.size_bytes + one.size_bytes,
                    parts=last.parts + 1,
                    retries=last.retries + one.retries,
                )
            else:
                bars.append(one)
        return bars

    def throughput(self) -> list[tuple[float, float]]:
        """Return (time, bytes per second): of the samples, or, of a short load, as if each part came evenly."""
        if len(self.samples) >= _FEW_SAMPLES:
            return _growth([(sample.at_s, sample.done_bytes) for sample in self.samples])
        end_s = max((part.ended_s for part in self.parts), default=0.0)
        if end_s <= 0:
            return []
        width_s, bins = end_s / _BINS, [0.0] * _BINS
        for part in self.parts:
            rate = (part.end - part.start) / max(part.ended_s - part.began_s, 1e-9)
            first, last = int(part.began_s / width_s), int(part.ended_s / width_s)
            for number in range(max(0, first), min(last, _BINS - 1) + 1):
                overlap_s = min(part.ended_s, (number + 1) * width_s) - max(part.began_s, number * width_s)
                bins[number] += rate * max(0.0, overlap_s) / width_s
        return [(0.0, bins[0]), *(((number + 0.5) * width_s, rate) for number, rate in enumerate(bins))]

    def slowest(self, count: int) -> list[PartFetched]:
        """Return the parts that took longest."""
        return sorted(self.parts, key=lambda part: part.began_s - part.ended_s)[:count]


def _bar(part: PartFetched) -> Bar:
    size_bytes = part.end - part.start
    return Bar(part.connection, part.began_s, part.ended_s, size_bytes, 1, part.attempts - 1, part.path, part.start)


def _growth(counts: Iterable[tuple[float, int]]) -> list[tuple[float, float]]:
    """Return the rate of growth at each time, over the last two steps, for it to be smooth."""
    seen = list(counts)
    rates = [(seen[0][0], 0.0)]
    for number in range(1, len(seen)):
        (since_s, before), (now_s, after) = seen[max(0, number - 2)], seen[number]
        rates.append((now_s, max(0, after - before) / max(now_s - since_s, 1e-9)))
    return rates
