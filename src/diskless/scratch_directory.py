"""Scratch: an empty directory in RAM that may be written."""

from __future__ import annotations

import os
from types import TracebackType

from diskless.errors import MountPathError
from diskless.forks import LOCK
from diskless.ram.backing import Backing, choose
from diskless.ram.budget import parse_size


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

        Whoever has its working directory in it stands in a removed directory from then on: nothing can be found or
        made by a relative path until it changes to another one. Closing twice does nothing.
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

    The write that crosses `budget`, or what the control groups and the machine leave (of which a part is kept back for
    everything else: a 64th of the memory, 64 MiB at most), fails with ENOSPC, and a longer one before it is cut short,
    as on a tmpfs: a write past a control group's limit would end the process. ``statvfs`` shows the room that is left.
    What counts, in pages of 4 KiB, is the memory that files take, those included that have no name any more and are
    open or mapped in this process. It is looked at

    * when something is written by ``write``, ``pwrite``, ``writev``, ``pwritev``, ``copy_file_range``, ``sendfile``,
      ``splice``, ``dprintf``, by a C or C++ stream, and when ``fallocate`` reserves it. A hole costs nothing.
    * when a file is mapped shared and writable: the holes in what is mapped count from then on, since a store asks
      nobody, until they are unmapped; also when a file that is mapped beyond its end is made longer by ``ftruncate``.

    It is not looked at when a page of a hole is read through a mapping (which takes the page, and counts once taken);
    when libc writes to a stream that was opened for something else before (``freopen``, standard output after
    ``dup2``) or in a mode with ``,ccs=``; by system calls that are made without libc, and io_uring. C streams on a
    scratch are for bytes: the functions for wide characters fail on them. Threads at the limit may cross it by a
    write each. A budget is this process's: what a forked child writes to files of its own counts for the child, the
    memory that there is for all.

    Args:
        at: an absolute path (``~`` is expanded) to have it at, instead of ``/diskless/scratch/<n>``. What the disk has
            there is hidden while the scratch is open, untouched, and back afterwards. Missing directories above it
            appear, too. Within another scratch the inner one wins, and they are closed in any order. Needs the Tree.
        backing: ``"auto"``, ``"tree"`` or ``"directory:<path>"``; ``"auto"`` asks DISKLESS_BACKING first. With a
            directory it is a fresh one below that path.
        budget: how many bytes its files may take, such as ``"4GiB"``; without it, as many as the control groups and
            the machine leave.

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
