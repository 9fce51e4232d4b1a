"""Kept: the loads that `ramcache::` holds on to when nobody reads them, until their memory is needed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from diskless.forks import LOCK

# A file that is there in part has a thread and a connection, which a complete one has not.
_MOST_PARTIAL = 32


class Load(Protocol):
    """What a Job is here."""

    mounts: int
    kept: bool

    @property
    def request(self) -> Hashable: ...

    @property
    def settled(self) -> bool: ...

    @property
    def failed(self) -> bool: ...

    def is_current(self) -> bool: ...

    def set_aside(self) -> None: ...

    def leave(self) -> None: ...


@dataclass
class Kept:
    """A load and when it was listed, on the clock of `time.monotonic`."""

    job: Load
    listed_at_s: float


# The least recently used first. Guarded by LOCK.
_kept: OrderedDict[Hashable, Kept] = OrderedDict()


def keep(job: Load) -> Kept:
    """Hold on to a load that somebody reads now, or note that it was used again.

    The caller does not hold LOCK: another load may be let go of, whose thread needs it to end.
    """
    with LOCK:
        kept = _kept.get(job.request)
        if kept is None or kept.job is not job:
            kept = Kept(job, time.monotonic())
            job.kept = True
            _kept[job.request] = kept
        _kept.move_to_end(job.request)
        partial = [each for each in _kept.values() if not each.job.settled and each.job.mounts == 0]
    for each in partial[:-_MOST_PARTIAL]:
        drop(each.job)
    return kept


def find(request: Hashable) -> Kept | None:
    """Return what is kept of an equal request."""
    with LOCK:
        return _kept.get(request)


def drop(job: Load) -> None:
    """Let go of a load; who reads it keeps it until then."""
    with LOCK:
        kept = _kept.get(job.request)
        if kept is not None and kept.job is job:
            del _kept[job.request]
        job.kept = False
    job.leave()


def drop_one() -> bool:
    """Let go of the load that was not used for longest and that nobody reads; False where there is none."""
    with LOCK:
        unused = next((kept.job for kept in _kept.values() if kept.job.mounts == 0), None)
    if unused is None:
        return False
    drop(unused)
    return True


def drop_all(jobs: set[Load]) -> None:
    """Let go of these loads, as far as they are kept."""
    for job in jobs:
        drop(job)
