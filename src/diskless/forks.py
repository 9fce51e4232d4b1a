"""What a fork meets: locks that are held around it, and what a child forgets.

One hook of the interpreter stands for all, since a module that registers its own while another thread forks would have
it run after the fork but not before.
"""

from __future__ import annotations

import logging  # noqa: F401  # has hooks of its own: imported later, they could be added while another thread forks
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack

# Guards every Store, Backing, job and Mount of this process, and what is imported late. Re-entrant, since a signal
# handler may fork; held for bookkeeping only and never while bytes move. A child finds the books in order.
LOCK = threading.RLock()

_locks: list[threading.RLock] = [LOCK]
_in_child: list[Callable[[], None]] = []


def is_held() -> bool:
    """Whether this thread holds LOCK."""
    # As threading.Condition asks; there is no other way.
    return bool(LOCK._is_owned())  # type: ignore[attr-defined]  # not declared


def at_fork(in_child: Callable[[], None], lock: threading.RLock | None = None) -> None:
    """Have `in_child` run in each forked child, and `lock` held around the fork, taken after LOCK."""
    with LOCK:
        _in_child.append(in_child)
        if lock is not None:
            _locks.append(lock)


def _before() -> None:
    for lock in _locks:  # with the first of them nobody adds another
        lock.acquire()


def _in_parent() -> None:
    for lock in reversed(_locks):
        lock.release()


def _forget() -> None:
    with ExitStack() as stack:  # each runs, whatever the others raise
        for lock in _locks:
            stack.callback(lock.release)
        for forget in reversed(_in_child):
            stack.callback(forget)


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_forget)
