"""Mirror: what a bucket holds for caches, listed once, and fetched file by file when it is opened."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from diskless.errors import BackingUnavailable, BudgetExceeded, DescriptorLimit, InvalidURL, NotFound
from diskless.forks import LOCK
from diskless.terms import Terms

if TYPE_CHECKING:
    from diskless.errors import DisklessError
    from diskless.job import Job
    from diskless.ram.file import RamFile
    from diskless.sources import Object


class Mirror:
    """A lazy load of a prefix whose files have names elsewhere, by their paths below the URL.

    Where it `may_be_empty`, nothing below the URL is no error.
    """

    def __init__(self, terms: Terms, *, may_be_empty: bool = False) -> None:
        from diskless.loader import process

        self.url = terms.spec.display.rstrip("/")
        if terms.spec.filesystem is not None or not process.can_start():
            raise BackingUnavailable(
                f"{self.url} cannot be a mirror here: its files are fetched when they are opened, by a Loader process, "
                f"which {'reads no filesystem of fsspec' if terms.spec.filesystem is not None else 'cannot be started'}"
            )
        self._job: Job | None = terms.join(keep=False, lazy=True)
        try:
            self._job.wait_for_names()
            with LOCK:
                self._job.wait_for_names()  # it may have failed in between
                self._job.shown = True
                for file in self._job.files.values():
                    file.visible = True
            if "" in self._job.files:
                raise InvalidURL(f"{self.url} is an object, and a mirror is a prefix: name the one above it")
        except DescriptorLimit as error:
            self.close()
            raise DescriptorLimit(
                f"{self.url} has too many objects to be a mirror here, each of which takes a descriptor, whether it is "
                f"opened or not: {str(error).partition('. ')[0]}. Raise the limit (`ulimit -Hn`), or name a prefix "
                "with fewer"
            ) from None
        except BaseException as error:
            self.close()
            if not (may_be_empty and isinstance(error, NotFound)):
                raise

    @property
    def files(self) -> Mapping[str, RamFile]:
        """The RAM files, which are filled when they are opened."""
        return self._job.files if self._job is not None else {}

    @property
    def objects(self) -> Mapping[str, Object]:
        """What was listed, by path."""
        return {entry.path: entry for entry in self._job.objects} if self._job is not None else {}

    def names(self) -> dict[int, str]:
        """Return the paths of the files by their inodes."""
        return {os.fstat(file.fd).st_ino: name for name, file in self.files.items()}

    @property
    def refusals(self) -> Mapping[str, DisklessError]:
        """Why files could not be opened, until they can."""
        return self._job.filling.refusals if self._job is not None else {}

    def check_room(self, what: str, names: Collection[str]) -> None:
        """Raise BudgetExceeded where files, by their paths in the mirror, do not fit into RAM together."""
        from diskless.ram.budget import format_size
        from diskless.ram.store import kept_bytes

        job = self._job
        if job is None:
            return
        with LOCK:
            sizes = {name: job.files[name].size_bytes for name in names}
            held = sum(job.files[name].held_bytes for name in names)
            # Others of the mirror may be dropped for them.
            spare = job.store.spare_bytes(None)
            rooms = [] if spare is None else [spare + job.store.droppable_bytes]
            if job.budget_bytes is not None:
                rooms.append(job.budget_bytes - kept_bytes())
        total, room = sum(sizes.values()), min(rooms, default=None)
        if room is None or total <= max(room, held):
            return
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        told = ", ".join(f"{name} ({format_size(sizes[name])})" for name in largest)
        raise BudgetExceeded(
            f"{what} takes {format_size(total)}, {format_size(total - room)} more than there is room for: {told}"
            f"{' and others' if len(sizes) > len(largest) else ''}. Raise budget=, or name fewer repositories; files "
            "that are only opened take turns"
        )

    def close(self) -> None:
        """Let go of what nobody has open or mapped."""
        job, self._job = self._job, None
        if job is not None:
            job.release()
