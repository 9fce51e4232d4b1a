"""How many connections a transfer uses: more while that makes it faster, fewer when the store asks for it."""

from __future__ import annotations

import os
import time

# S3 gives a connection some 90 MB/s: eight fill a small machine's network, and thirty-two 25 Gbit/s.
FIRST, MOST = 8, 32
_INTERVAL_S = 0.2
_GROWTH, _GAIN = 1.5, 1.1
# With this share of the processors in use by the Loader, more connections would only take turns.
_BUSY = 0.5
# After more connections were of no use, or the store has asked for fewer, so long nothing is tried.
_CALM_S = 5.0
# Answers that ask for fewer and come so soon after the first were under way then.
_SAME_S = 1.0


class Concurrency:
    """Climbs: each interval that was faster by a tenth than the one before is followed by one with more connections.

    Used by one thread at a time.
    """

    def __init__(self, first: int, most: int) -> None:
        self.connections = min(first, most)
        self._most = most
        self._proven = self.connections  # as many as have shown to be worth it
        self._rate = 0.0  # with those
        self._since = self._cpu_since = 0.0
        self._bytes_since = 0
        self._calm_until = self._slowed_at = 0.0
        self._cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def slow_down(self) -> None:
        """Halve the connections: the store has answered that there are too many requests."""
        now = time.monotonic()
        if now - self._slowed_at < _SAME_S:
            return
        self.connections = self._proven = max(1, self.connections // 2)
        self._since, self._slowed_at, self._calm_until = 0.0, now, now + _CALM_S

    def measure(self, done_bytes: int, *, waiting: int) -> None:
        """Judge the last interval, if one is over, by the bytes written so far; `waiting` parts could be begun."""
        now, cpu = time.monotonic(), time.process_time()
        elapsed, cpu_seconds, arrived = now - self._since, cpu - self._cpu_since, done_bytes - self._bytes_since
        if elapsed < _INTERVAL_S:
            return
        self._since, self._cpu_since, self._bytes_since = now, cpu, done_bytes
        if elapsed > 5 * _INTERVAL_S:  # it has just begun, or stood still
            return
        rate = arrived / elapsed
        if self.connections > self._proven and rate < _GAIN * self._rate:
            self.connections, self._calm_until = self._proven, now + _CALM_S
            return
        self._proven, self._rate = self.connections, rate
        if cpu_seconds < _BUSY * self._cores * elapsed and waiting > self.connections and now >= self._calm_until:
            self.connections = min(self._most, max(self.connections + 1, int(self.connections * _GROWTH)))
