"""Room: makes place for files that are fetched when they are opened, by dropping others that nobody has open."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from diskless.errors import BudgetExceeded
from diskless.loader.gates import Gates
from diskless.loader.transfer import Transfer, moving
from diskless.ram.budget import buffer_bytes, format_size, memory_limits
from diskless.ram.holes import punch


class Droppable(NamedTuple):
    """A complete file that can be had again. `on_drop` is told that its bytes are gone."""

    fd: int
    size_bytes: int
    mtime_ns: int
    gates: Gates
    gate: int
    on_drop: Callable[[], None]


class LazyFile(NamedTuple):
    """What is fetched when it is opened, or read, and takes so much memory at most; `name` is for errors."""

    fd: int
    size_bytes: int
    name: str


class Room:
    """The RAM that lazy files take, of all jobs of one user's process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Bytes of the lazy files that are here or on their way, and those of them that may be dropped.
        self._taken: dict[tuple[Transfer, int], int] = {}
        self._droppable: dict[tuple[Transfer, int], Droppable] = {}

    def fetch(self, transfer: Transfer, file: int, lazy: LazyFile, most_bytes: int | None) -> None:
        """Have a lazy file fetched, which readers wait for; BudgetExceeded where it does not fit.

        `most_bytes` is what lazy files may take in all, beside the limits of the control groups and the machine.
        """
        with self._lock:
            self._reserve(transfer, file, transfer.waits(file), lazy, most_bytes)
            transfer.hurry({file})

    def fetch_range(
        self, transfer: Transfer, file: int, span: tuple[int, int], lazy: LazyFile, most_bytes: int | None
    ) -> None:
        """Have a range of a lazy file fetched; as `fetch`."""
        with self._lock:
            self._reserve(transfer, file, transfer.waits(file, *span), lazy, most_bytes)
            transfer.ask(file, *span)

    def _reserve(self, transfer: Transfer, file: int, need_bytes: int, lazy: LazyFile, most_bytes: int | None) -> None:
        if not need_bytes:
            return
        # What was given back to the system does not count, and what is there of a file that failed is written over.
        held = min(lazy.size_bytes, os.fstat(lazy.fd).st_blocks * 512 + transfer.unwritten(file))
        more = min(lazy.size_bytes - held, need_bytes)
        self._taken[transfer, file] = held
        if more:
            self._make_room(more, lazy.name, most_bytes)
        self._taken[transfer, file] = held + more

    def complete(self, transfer: Transfer, file: int, droppable: Droppable) -> None:
        """Note that a lazy file is there, and may be dropped."""
        with self._lock:
            self._taken[transfer, file] = droppable.size_bytes
            self._droppable[transfer, file] = droppable

    def forget(self, transfer: Transfer, file: int, fd: int) -> None:
        """Note that a lazy file did not come; what its descriptor `fd` holds of it counts on."""
        with self._lock:
            self._taken[transfer, file] = os.fstat(fd).st_blocks * 512 + transfer.unwritten(file)

    def keep(self, transfer: Transfer) -> None:
        """Drop nothing of a transfer any more."""
        with self._lock:
            for held in [held for held in self._taken if held[0] is transfer]:
                del self._taken[held]
                self._droppable.pop(held, None)

    def _make_room(self, need_bytes: int, name: str, most_bytes: int | None) -> None:
        free, total, limit = self._free(need_bytes, most_bytes)
        if need_bytes <= free:
            return
        for held in sorted(self._droppable, key=lambda held: os.fstat(self._droppable[held].fd).st_atime_ns):
            if self._drop(held):
                free, total, limit = self._free(need_bytes, most_bytes)
                if need_bytes <= free:
                    return
        raise BudgetExceeded(
            f"{name} needs {format_size(need_bytes)} and {format_size(max(0, free))} are free: the limit is "
            f"{limit} ({format_size(total)}), and what was loaded is in use. Close what is open, close other "
            "Mounts, or give the process more memory; the next open tries again"
        )

    def _free(self, need_bytes: int, most_bytes: int | None) -> tuple[int, int, str]:
        """Return what the tightest limit leaves, that limit, and its name."""
        unwritten = sum(transfer.unwritten_bytes for transfer in moving()) + buffer_bytes(need_bytes)
        found = [(limit.free_bytes - unwritten, limit.total_bytes, limit.name) for limit in memory_limits()]
        if most_bytes is not None:
            found.append((most_bytes - sum(self._taken.values()), most_bytes, "what budget= leaves to lazy files"))
        return min(found)

    def _drop(self, held: tuple[Transfer, int]) -> bool:
        """Free the bytes of a file, unless somebody has it open or mapped.

        Who comes from now on waits at the gate. A write lease is granted only while nobody has the file open (fcntl(2),
        F_SETLEASE), and whoever opens it meanwhile looks at the gate again (native/open.cpp).
        """
        file = self._droppable[held]
        file.gates.close(file.gate)
        try:
            # The memfd's own descriptor is none that a lease counts.
            with open(f"/proc/self/fd/{file.fd}", "rb", buffering=0) as alone:
                fcntl.fcntl(alone, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                punch(file.fd, 0, file.size_bytes)
                os.utime(file.fd, ns=(file.mtime_ns, file.mtime_ns))
        except OSError:
            file.gates.settle(file.gate, complete=True)
            return False
        del self._droppable[held], self._taken[held]
        file.on_drop()
        return True


# Of the process that this Loader serves.
room = Room()
