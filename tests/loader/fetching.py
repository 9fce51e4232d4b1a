"""Loads what a server has, as a Mount would, and says what became of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from diskless import sources
from diskless.loader import client
from diskless.sources import Object
from tests.loader.fault_server import FaultServer


@contextmanager
def listed(server: FaultServer, key: str = "") -> Iterator[tuple[client.Job, list[Object], list[int]]]:
    """A job that has listed its objects, these, and an empty RAM file for each."""
    spec = sources.resolve(f"{server.url}/{key}", storage_options=server.storage_options)
    with client.Job(spec) as job:
        objects = list(job.list().objects)
        files = [os.memfd_create(entry.path) for entry in objects]
        try:
            yield job, objects, files
        finally:
            for fd in files:
                os.close(fd)


def targets(objects: Iterable[Object], files: Iterable[int]) -> list[client.Target]:
    return [client.Target(entry, fd) for entry, fd in zip(objects, files, strict=True)]


def fetch(
    server: FaultServer,
    key: str = "",
    on_progress: Callable[[int], None] = lambda done_bytes: None,
    *,
    verify: bool = False,
) -> tuple[dict[str, bytes], client.JobStats]:
    """Return the bytes of every object by path, and what the job counted."""
    with listed(server, key) as (job, objects, files):
        job.fetch(targets(objects, files), on_progress, verify=verify)
        contents = {entry.path: os.pread(fd, os.fstat(fd).st_size, 0) for entry, fd in zip(objects, files, strict=True)}
        return contents, job.stats


def loader_pids(pid: int | None = None) -> list[int]:
    """Return the Loader processes of the process `pid`, this one without it.

    Between the two stands one process that waits (see native/spawn.cpp).
    """
    import psutil

    found = []
    for between in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child.pid for child in between.children() if child.status() != psutil.STATUS_ZOMBIE]
    return found
