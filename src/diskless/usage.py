"""What diskless holds in this process, and what is left."""

from __future__ import annotations

from dataclasses import dataclass

from diskless.forks import LOCK
from diskless.ram.backing import chosen
from diskless.ram.budget import memory_limits
from diskless.ram.store import stores


@dataclass(frozen=True)
class Usage:
    """Memory of this process's Mounts, prefetches and scratches, in bytes. All count as shared memory (``Shmem``).

    `held_bytes` are in RAM for Mounts and prefetches, `droppable_bytes` of them of lazy files, which go when room is
    needed and nobody has them open; `reserved_bytes` are still to come. `scratch_bytes` are of files in scratches and
    in ``ram://``, which is ``/diskless`` itself. `free_bytes` is what the tightest of the control groups and the
    machine leaves beside what is reserved, of `limit_bytes`; `limit` names it. All three are None where nothing tells.
    """

    files: int
    held_bytes: int
    droppable_bytes: int
    reserved_bytes: int
    scratch_bytes: int
    free_bytes: int | None
    limit_bytes: int | None
    limit: str | None


def usage() -> Usage:
    """Return what diskless holds in this process at the moment, and what the tightest limit leaves.

    Example:
        >>> import diskless
        >>> diskless.usage().held_bytes
        0
    """
    with LOCK:
        here = stores()
        reserved = sum(store.promised_bytes for store in here)
        limits = [limit for store in here if store.files for limit in store.backing.limits()] or memory_limits()
        tightest = min(limits, key=lambda limit: limit.free_bytes, default=None)
        return Usage(
            files=sum(store.files for store in here),
            held_bytes=sum(store.held_bytes for store in here) - reserved,
            droppable_bytes=sum(store.droppable_bytes for store in here),
            reserved_bytes=reserved,
            scratch_bytes=sum(backing.scratch_bytes() for backing in chosen()),
            free_bytes=max(0, tightest.free_bytes - reserved) if tightest else None,
            limit_bytes=tightest.total_bytes if tightest else None,
            limit=tightest.name if tightest else None,
        )
