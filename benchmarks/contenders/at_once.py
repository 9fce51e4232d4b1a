"""Several threads at once, for clients that do one thing at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")


def in_threads(transfer: Callable[[str], _Result], keys: Sequence[str], threads: int) -> list[_Result]:
    """Return what `transfer` gives for each key, with so many threads; in this thread where there is one key."""
    if len(keys) == 1:
        return [transfer(keys[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(transfer, keys))


def by_threads(work: Callable[[], None], threads: int) -> None:
    """Do `work` in so many threads, which share what there is to do; raises the first of their errors."""
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work) for _ in range(threads)]:
            done.result()
