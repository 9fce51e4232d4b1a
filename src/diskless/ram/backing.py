"""Backing: where RAM files live and get their names."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Protocol

from diskless import native_api as native
from diskless.errors import BackingUnavailable, InvalidOption
from diskless.ram.budget import Limit
from diskless.ram.file import RamFile
from diskless.ram.root import Root

_log = logging.getLogger("diskless")
# The Backings in use, by name. Guarded by LOCK, which callers of `choose` hold.
_chosen: dict[str, Backing] = {}


class Backing(Protocol):
    """What the Tree and the Directory both do. Callers hold the store's lock."""

    @property
    def name(self) -> str:
        """What `backing=` calls it."""
        ...

    @property
    def survives_fork(self) -> bool:
        """Whether a forked child keeps complete files whatever its parent does."""
        ...

    def limits(self) -> list[Limit]:
        """What bounds the bytes that can be held here."""
        ...

    def allocate(self, size_bytes: int, mtime_ns: int) -> RamFile:
        """Make an invisible file of that size (a hole) that can be written through its `fd`."""
        ...

    def settle(self, file: RamFile) -> None:
        """Make a file immutable that is complete; let whoever waits for it read it, or know that it will not be."""
        ...

    def discard(self, file: RamFile) -> None:
        """Let go of a file's bytes; who has it open or mapped keeps them."""
        ...

    def check_at(self, at: str) -> str:
        """Return the absolute path that `at=` means, or raise MountPathError."""
        ...

    def show(self, place: str, at: str | None, files: Mapping[str, RamFile]) -> str:
        """Make files visible together and return the path of `place`, such as ``s3/bucket/prefix``.

        `files` are named relative to `place`; the name ``""`` means that `place` itself is the file. With `at`, they
        show there instead.
        """
        ...

    def hide(self, path: str, files: Mapping[str, RamFile]) -> None:
        """Undo one `show` that returned `path`."""
        ...

    def make_scratch(self, at: str | None, budget_bytes: int | None) -> str:
        """Make an empty directory that may be written and return its path: `at`, or one of its own."""
        ...

    def remove_scratch(self, path: str) -> None:
        """Undo the `make_scratch` that returned `path`, with everything in the directory."""
        ...

    def scratch_bytes(self) -> int:
        """Return what the files of all scratches and of ram:// take."""
        ...

    def root(self) -> Root:
        """Return where ram:// is, until this process ends."""
        ...


def chosen() -> list[Backing]:
    """Return the Backings in use. The caller holds LOCK."""
    return list(_chosen.values())


def choose(backing: str) -> Backing:
    """Return the Backing that `backing=` or, for ``"auto"``, the environment variable DISKLESS_BACKING names.

    ``"auto"`` and ``"tree"`` are the Tree; ``"directory:/dev/shm/models"`` puts plain files below that directory.
    Raises BackingUnavailable where the Tree cannot work (nothing ever falls back to a disk by itself), InvalidOption
    for any other word.
    """
    if not isinstance(backing, str):
        raise InvalidOption(f"backing= is a string such as 'tree', not {type(backing).__name__}")
    asked, source = backing, "backing="
    if backing == "auto" and os.environ.get("DISKLESS_BACKING"):
        asked, source = os.environ["DISKLESS_BACKING"], "DISKLESS_BACKING="
    name = "tree" if asked == "auto" else asked
    if name in _chosen:
        return _chosen[name]
    if name == "tree":
        from diskless.ram.tree import Tree

        reason = native.unavailable()
        if reason is not None:
            raise BackingUnavailable(
                f"paths in RAM cannot be served here: {reason}. Use backing='directory:<a directory in RAM, such as "
                "/dev/shm/models>' or set DISKLESS_BACKING=directory:<path>; plain files are then put there."
            )
        found: Backing = Tree()
    elif asked.startswith("directory:") and asked.removeprefix("directory:"):
        from diskless.ram.directory import Directory

        found = Directory(asked.removeprefix("directory:"))
    else:
        raise InvalidOption(f"{source}{asked!r} is none of 'auto', 'tree', 'directory:<path>'")
    _chosen[name] = found
    _log.info("backing: %s (%s%s)", found.name, source, asked)
    return found
