"""Kept: the loads that `ramcache::` holds on to when nobody reads them, until their memory is needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Protocol

from diskless.forks import LOCK

# A file that is there in part has a thread and a connection, which a complete one has not.
_MOST_PARTIAL = 32


class Load(Protocol):
    """What a Job is here."""

    mounts: int
    kept: bool
    aside: bool

    @property
    def request(self) -> Hashable: ...

    @property
    def settled(self) -> bool: ...

    def leave(self) -> None: ...


# The least recently used first; of equal requests one. Guarded by LOCK. Who calls the functions below does not hold it:
# a load may be let go of, whose thread needs it to end.
_kept: OrderedDict[Hashable, Load] = OrderedDict()


def keep(job: Load) -> None:
    """Hold on to a load that somebody reads now, or note that it was used again; not where a newer one took over."""
    with LOCK:
        if job.aside:
            return
        before = _kept.get(job.request)
        job.kept = True
        _kept[job.request] = job
        _kept.move_to_end(job.request)
        partial = [each for each in _kept.values() if not each.settled and each.mounts == 0]
    drop_all([*partial[:-_MOST_PARTIAL], *([before] if before is not None and before is not job else [])])


def find(request: Hashable) -> Load | None:
    """Return what is kept of an equal request."""
    with LOCK:
        return _kept.get(request)


def drop_all(jobs: Iterable[Load]) -> None:
    """Let go of these loads, as far as they are kept; who reads one has it until then."""
    for job in jobs:
        with LOCK:
            if _kept.get(job.request) is job:
                del _kept[job.request]
            job.kept = False
        job.leave()


def drop_one() -> bool:
    """Let go of the load that was not used for longest and that nobody reads; False where there is none."""
    with LOCK:
        unused = next((job for job in _kept.values() if job.mounts == 0), None)
    if unused is None:
        return False
    drop_all([unused])
    return True
