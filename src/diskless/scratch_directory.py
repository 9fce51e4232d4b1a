"""Scratch: an empty directory in RAM that may be written."""

from __future__ import annotations

import os
from types import TracebackType

from diskless.errors import MountPathError
from diskless.ram import LOCK, Backing, choose, parse_size


class Scratch:
    """A read-write RAM directory, until `close`. Made by `scratch`; a context manager that yields the path.

    A forked child has a copy of the names as they were and shares the bytes of the files; closing it there changes
    nothing in the parent.
    """

    def __init__(self, backing: Backing, path: str) -> None:
        self._backing = backing
        self._path = path
        self._closed = False

    @property
    def path(self) -> str:
        """The absolute path of the directory."""
        return self._path

    @property
    def closed(self) -> bool:
        """Whether the directory is gone."""
        return self._closed

    def close(self) -> None:
        """Remove the directory with everything in it; files that are open or mapped go on working.

        Closing twice does nothing.
        """
        with LOCK:
            if self._closed:
                return
            self._closed = True
            self._backing.remove_scratch(self._path)

    def __enter__(self) -> str:
        return self._path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __fspath__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"<diskless.Scratch at {self._path}{' closed' if self._closed else ''}>"


def scratch(
    *,
    at: str | os.PathLike[str] | None = None,
    backing: str = "auto",
    budget: int | str | None = None,
) -> Scratch:
    """Make an empty directory in RAM that everything in this process, Python and native code, can write to.

    It behaves as a tmpfs that is mounted there, but needs no mount, no rights and no disk. Other processes do not see
    it; with ``backing="directory:/dev/shm"`` it is a plain directory, which they do.

    Args:
        at: an absolute path (``~`` is expanded) to have it at, instead of ``/diskless/scratch/<n>``. What the disk has
            there is hidden while the scratch is open, untouched, and back afterwards. Missing directories above it
            appear, too. Within another scratch the inner one wins, and they are closed in any order. Needs the Tree.
        backing: ``"auto"``, ``"tree"`` or ``"directory:<path>"``; ``"auto"`` asks DISKLESS_BACKING first. With a
            directory it is a fresh one below that path.
        budget: how large the directory says that it is, such as ``"4GiB"``; without it, as large as the memory that
            there is.

    Returns:
        The open Scratch: use it in a ``with`` statement, which yields the path, or take `.path` and call `.close()`.

    Raises:
        MountPathError: `at` is relative, cannot be shadowed, or lies inside a read-only Mount.
        InvalidOption: `backing` or `budget` make no sense.
        BackingUnavailable: the Backing cannot work on this system.

    Example:
        >>> import diskless, os
        >>> with diskless.scratch() as path:
        ...     with open(os.path.join(path, "notes.txt"), "w") as file:
        ...         _ = file.write("in RAM")
        ...     os.listdir(path)
        ['notes.txt']
    """
    place = os.fspath(at) if at is not None else None
    if place is not None and not isinstance(place, str):
        raise MountPathError("at= is a str path, not bytes")
    budget_bytes = parse_size(budget)
    chosen = choose(backing)
    with LOCK:
        return Scratch(chosen, chosen.make_scratch(place, budget_bytes))
