"""Stats: the counts of one load, and the Meter that keeps its rate."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

# The rate is that of so many seconds before.
_WINDOW_S = 3.0


@dataclass(frozen=True)
class Stats:
    """What a load did so far. Sizes are bytes, times seconds.

    Of `files`, `complete_files` have all their bytes in RAM. Of `size_bytes`, what all files have, `fetched_bytes` came
    over the network for this load; the rest was there already, or another load fetches it. `rate_bytes_per_s` is that
    of the last three seconds, and when all is done that of the whole; `eta_s` is how long the rest takes at that rate:
    None where nobody knows, as of a lazy load. `retries` are requests that failed and were made again,
    `refetched_bytes` what was fetched again after a Loader died, as `loaders_lost` did. `refused` are the keys that
    cannot be files, each with the reason.
    """

    files: int = 0
    complete_files: int = 0
    size_bytes: int = 0
    fetched_bytes: int = 0
    seconds: float = 0.0
    rate_bytes_per_s: float = 0.0
    eta_s: float | None = None
    retries: int = 0
    refetched_bytes: int = 0
    loaders_lost: int = 0
    backing: str = ""
    refused: tuple[tuple[str, str], ...] = ()


class Meter:
    """The rate at which a number of bytes grows."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def rate(self, done_bytes: int) -> float:
        """Note that so many are done; return bytes per second, of the last seconds."""
        now = time.monotonic()
        self._seen.append((now, done_bytes))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _WINDOW_S:
            self._seen.popleft()
        since, before = self._seen[0]
        return max(0, done_bytes - before) / (now - since) if now > since else 0.0
