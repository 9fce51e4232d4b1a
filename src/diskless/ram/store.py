"""Store: the RAM files of one Backing, each version of an object held once however often it is asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diskless.errors import DescriptorLimit
from diskless.forks import LOCK, at_fork
from diskless.ram import budget
from diskless.ram.backing import Backing
from diskless.ram.file import FileKey, RamFile

# Descriptors left for the rest of the program when the limit is near.
_SPARE_DESCRIPTORS = 64
# What the Loader takes, as measured, for obstore and its threads.
_LOADER_BYTES = 16 << 20

_stores: list[Store] = []


@dataclass(frozen=True)
class Wanted:
    """A file to be held. A `key` of None is never shared."""

    key: FileKey | None
    size_bytes: int
    mtime_ns: int


class Store:
    """RAM files by key, with a count of who claims each. Callers hold LOCK."""

    def __init__(self, backing: Backing) -> None:
        self.backing = backing
        self._shared: dict[FileKey, RamFile] = {}
        self._files: set[RamFile] = set()
        # What each claim has to fill.
        self._filling: list[list[RamFile]] = []
        self._settling = threading.Condition(LOCK)

    @property
    def held_bytes(self) -> int:
        """Bytes reserved or filled; of lazy files, those that are here now."""
        return sum(file.held_bytes if file.lazy else file.size_bytes for file in self._files)

    @property
    def promised_bytes(self) -> int:
        """Bytes reserved and not yet written: holes of files that are being filled."""
        return sum(
            max(0, file.size_bytes - file.held_bytes) for file in self._files if not file.settled and not file.lazy
        )

    @property
    def files(self) -> int:
        """How many files are held, or on their way, or waiting to be opened."""
        return len(self._files)

    @property
    def droppable_bytes(self) -> int:
        """Bytes of lazy files that are here now."""
        return sum(file.held_bytes for file in self._files if file.lazy)

    @property
    def kept_bytes(self) -> int:
        """Bytes reserved or filled that cannot be dropped."""
        return sum(file.size_bytes for file in self._files if not file.lazy)

    @property
    def buffer_bytes(self) -> int:
        """What the transfers that are under way may take beside their files."""
        self._filling = [files for files in self._filling if not all(file.settled for file in files)]
        return sum(budget.buffer_bytes(sum(file.size_bytes for file in files)) for files in self._filling)

    def claim(
        self, wanted: Sequence[Wanted], budget_bytes: int | None, *, lazy: bool = False
    ) -> tuple[list[RamFile], list[int]]:
        """Return a RamFile for each wanted one, and the positions of those which the caller must fill.

        The others are complete, or being filled by another job: `wait` for them. With `lazy`, those to fill
        take nothing yet, and are not shared. Raises BudgetExceeded or DescriptorLimit with nothing taken.
        """
        found = [self._shared.get(want.key) if want.key is not None else None for want in wanted]
        missing = [position for position, file in enumerate(found) if file is None]
        self._check_budget(sum(wanted[position].size_bytes for position in missing if not lazy), budget_bytes)
        _check_descriptors(len(missing), self.backing)
        files: list[RamFile] = []
        mine: list[int] = []
        try:
            for position, want in enumerate(wanted):
                file = self._shared.get(want.key) if want.key is not None else None
                if file is None:
                    file = self.backing.allocate(want.size_bytes, want.mtime_ns)
                    file.lazy = lazy and want.size_bytes > 0
                    self._files.add(file)
                    if file.lazy:
                        file.later_key = want.key
                    else:
                        self._share(file, want.key)
                    mine.append(position)
                else:
                    file.claims += 1
                files.append(file)
        except BaseException:
            self.release(files)
            raise
        self._filling.append([files[position] for position in mine])
        return files, mine

    def wait(self, file: RamFile, timeout_s: float) -> bool:
        """Wait until a file is settled; returns False when it is not in time. LOCK is given away meanwhile."""
        with LOCK:
            return self._settling.wait_for(lambda: file.settled, timeout_s)

    def wait_for_bytes(self, timeout_s: float) -> None:
        """Wait until something has come for one of the files, or `timeout_s` is over. LOCK is given away meanwhile."""
        self._settling.wait(timeout_s)

    def notify(self) -> None:
        """Wake those who wait for bytes: some came, or none will."""
        with LOCK:
            self._settling.notify_all()

    def keep(self, files: Iterable[RamFile], budget_bytes: int | None) -> None:
        """Make files that were lazy such as are fetched and kept; raises BudgetExceeded with nothing changed."""
        lazy = [file for file in files if file.lazy]
        self._check_budget(sum(max(0, file.size_bytes - file.held_bytes) for file in lazy), budget_bytes)
        for file in lazy:
            file.lazy = False
            self._share(file, file.later_key)

    def _share(self, file: RamFile, key: FileKey | None) -> None:
        """Let others claim a file by its key, unless another one has it."""
        if key is not None and key not in self._shared:
            file.key = key
            self._shared[key] = file

    def settle(self, file: RamFile, *, complete: bool) -> None:
        """Record that a file is completely written, or that it never will be."""
        if file.settled:
            return
        if file.key is not None and not complete:
            del self._shared[file.key]
            file.key = None
        if not file.inherited:
            file.complete = complete
            self.backing.settle(file)
        file.settled = True
        self._settling.notify_all()

    def unshare(self, file: RamFile) -> None:
        """Let nobody else claim a file: its bytes are not what its key says."""
        if file.key is not None:
            del self._shared[file.key]
            file.key = None

    def release(self, files: Iterable[RamFile]) -> None:
        """Give up one claim on each file; the last one frees its bytes."""
        for file in files:
            file.claims -= 1
            if file.claims == 0:
                self.settle(file, complete=False)
                if file.key is not None:
                    del self._shared[file.key]
                self._files.remove(file)
                self.backing.discard(file)

    def _check_budget(self, need_bytes: int, budget_bytes: int | None) -> None:
        if need_bytes:
            held = sum(store.held_bytes for store in _stores)
            promised = sum(store.promised_bytes for store in _stores)
            buffers = _LOADER_BYTES + budget.buffer_bytes(need_bytes) + sum(store.buffer_bytes for store in _stores)
            budget.check(need_bytes, held, promised, self.backing.limits(), budget_bytes, buffers)

    def spare_bytes(self, budget_bytes: int | None) -> int | None:
        """Return what is left beside all that is reserved; None where nothing tells."""
        promised = sum(store.promised_bytes for store in _stores)
        left = [limit.free_bytes - promised for limit in self.backing.limits()]
        if budget_bytes is not None:
            left.append(budget_bytes - kept_bytes())
        return min(left, default=None)

    def abandon(self) -> None:
        """In a forked child: drop what only the parent would complete, but for what is visible and can be waited for.

        Nothing is shared any more that the parent may remove.
        """
        for file in [file for file in self._files if not file.settled]:
            file.inherited = True
            self.settle(file, complete=False)
            if not file.visible:
                self._files.remove(file)
                self.backing.discard(file)
        if not self.backing.survives_fork:
            for file in self._shared.values():
                file.key = None
            self._shared.clear()


def store_of(backing: Backing) -> Store:
    """Return the Store of a Backing."""
    with LOCK:
        for store in _stores:
            if store.backing is backing:
                return store
        store = Store(backing)
        _stores.append(store)
        return store


def stores() -> list[Store]:
    """Return the Stores of this process. The caller holds LOCK."""
    return list(_stores)


def kept_bytes() -> int:
    """Return the bytes that the RAM files of this process take or have reserved, without those that may be dropped."""
    return sum(store.kept_bytes for store in _stores)


def _check_descriptors(files: int, backing: Backing) -> None:
    """Raise the soft descriptor limit when it is needed, or raise DescriptorLimit (getrlimit(2), RLIMIT_NOFILE)."""
    import resource

    try:
        in_use = len(os.listdir("/proc/self/fd"))
    except OSError:
        in_use = 256
    # A Directory's files are open only while they are filled, but all of one job are.
    need = in_use + files + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or need <= soft:
        return
    if hard != resource.RLIM_INFINITY and need > hard:
        raise DescriptorLimit(
            f"{files} files need {files} descriptors beside the {in_use} in use, and this process may have {hard} "
            "(RLIMIT_NOFILE). Nothing was fetched. Raise the limit (`ulimit -Hn`), or choose fewer files with "
            "allow_patterns="
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def _abandon() -> None:
    for store in _stores:
        store.abandon()


at_fork(_abandon)
