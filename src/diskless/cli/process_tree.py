"""Everything a process started: finding it, waiting for it, and what the kernel counted for it.

A Loader is no child that its user can see, so it would escape `wait` and whoever adds up children. A *subreaper*
(prctl(2), PR_SET_CHILD_SUBREAPER) inherits the orphans of all its descendants; and to a process that waits for a child
the kernel adds what the child read and wrote (proc(5), /proc/pid/io). So the growth of our own counters, once all are
gone, is what they wrote: all of them, measured, whatever they did in between.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.005


def adopt_orphans(adopt: bool) -> None:
    """Let orphans among this process's descendants become its children, or no longer. Does nothing but on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def written_bytes() -> int | None:
    """Return the bytes that this process and the children it waited for caused to be written to a disk.

    That is write_bytes less cancelled_write_bytes (proc(5)); None where the kernel does not count.
    """
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    counters = {name: int(value) for name, _, value in (line.partition(":") for line in lines)}
    if "write_bytes" not in counters:
        return None
    return counters["write_bytes"] - counters.get("cancelled_write_bytes", 0)


def descendants(root: int, without: Collection[int] = ()) -> list[int]:
    """Return the pids below `root`, leaving out those in `without` and what is below them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc") if sys.platform == "linux" else ():
        if entry.isdigit():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):  # it ended meanwhile
                continue
            children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    waiting = [root]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in without:
                found.append(pid)
                waiting.append(pid)
    return found


def end_all(without: Collection[int] = (), patience_s: float = 5.0) -> None:
    """Wait until this process has no descendants left but those in `without`; after `patience_s` they are killed."""
    deadline = time.monotonic() + patience_s
    while left := descendants(os.getpid(), without):
        for pid in left:
            if time.monotonic() > deadline:
                _kill(pid)
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue  # a child of a child: its parent waits for it, or it becomes ours
        time.sleep(_POLL_S)


def resident_bytes(pids: Collection[int]) -> int:
    """Return what the processes hold in RAM, without shared memory: RAM files are counted once, by their size."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssFile:")))
    return total


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
