"""Names: which paths of a Backing show which RAM file, counted, since several Mounts may show one path."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from diskless.ram.file import RamFile


class Namer(Protocol):
    """What a Backing does to make names real; every path is absolute."""

    def link(self, path: str, file: RamFile) -> None: ...

    def unlink(self, path: str) -> None: ...

    def make_directory(self, path: str) -> None: ...

    def remove_directory(self, path: str) -> None: ...


def in_turn(name: str) -> Iterator[str]:
    """Yield the names to try where each may be taken by something else: ``s3``, ``s3~2``, ``s3~3``, …"""
    yield name
    for number in itertools.count(2):
        yield f"{name}~{number}"


@dataclass
class _Name:
    file: RamFile | None  # None: a directory
    count: int = 0
    children: int = 0  # the names right in the directory


class Names:
    """The names of one Backing. Callers hold the store's lock."""

    def __init__(self, namer: Namer) -> None:
        self._namer = namer
        self._names: dict[str, _Name] = {}
        # The names of each `show` that is not undone, by its place, where several may show the same.
        self._shown: dict[str, list[list[str]]] = {}

    def accept(self, base: str, place: str, files: Mapping[str, RamFile]) -> bool:
        """Whether these names can be shown, and every place then has its own names and no others.

        `files` are absolute paths, `place` or below it, and `place` is below the directory `base`. They are refused
        where a name shows other bytes already, where `place` has a name that is not among them, and where they would
        add a name to a place that shows already, be it around this one or in it.
        """
        wanted = self._wanted(base, files)
        full: set[str] = set()  # directories that show as a place, or in one
        known: Counter[str] = Counter()  # names that are there, by directory
        for path, file in wanted.items():
            parent = path.rpartition("/")[0]
            name = self._names.get(path)
            if name is None:
                if parent in full:
                    return False
            elif name.file is not file:
                return False
            else:
                known[parent] += 1
            if file is None and (parent in full or path in self._shown):
                full.add(path)
        return all(
            self._names[path].children == known[path]
            for path in wanted
            if path in self._names and (path == place or path.startswith(f"{place}/"))
        )

    def show(self, base: str, place: str, files: Mapping[str, RamFile]) -> None:
        """Make all names visible, or none: what was made is undone when one fails.

        One fails where ram:// has something there, which is only known when it is tried.
        """
        made: list[str] = []
        self._shown.setdefault(place, []).append(made)
        try:
            for path, file in self._wanted(base, files).items():
                try:
                    if path not in self._names:
                        self._make(path, file)
                except OSError:
                    raise
                except BaseException:  # Ctrl-C is raised when the call that made the name has returned
                    self._count(path, file)
                    made.append(path)
                    raise
                self._count(path, file)
                made.append(path)
        except BaseException:
            self.hide(place)
            raise

    def hide(self, place: str) -> None:
        """Undo the last `show` at that place."""
        shown = self._shown[place]
        made = shown[-1]
        del shown[-1]
        if not shown:
            del self._shown[place]
        try:
            self._drop_all(made)
        finally:
            self._drop_all(made)  # those that are left where Ctrl-C has come between two of them

    def _wanted(self, base: str, files: Mapping[str, RamFile]) -> dict[str, RamFile | None]:
        """Return every name, parents before children."""
        wanted: dict[str, RamFile | None] = {}

        def add_directory(path: str) -> None:
            if len(path) > len(base) and path not in wanted:
                add_directory(path.rpartition("/")[0])
                wanted[path] = None

        for path, file in files.items():
            add_directory(path.rpartition("/")[0])
            wanted[path] = file
        return wanted

    def _make(self, path: str, file: RamFile | None) -> None:
        if file is None:
            self._namer.make_directory(path)
        else:
            self._namer.link(path, file)

    def _count(self, path: str, file: RamFile | None) -> None:
        name = self._names.get(path)
        if name is None:
            name = self._names[path] = _Name(file)
            if parent := self._parent(path):
                parent.children += 1
        name.count += 1

    def _drop_all(self, made: list[str]) -> None:
        while made:
            self._drop(made[-1])
            del made[-1]

    def _drop(self, path: str) -> None:
        name, parent = self._names[path], self._parent(path)
        if name.count == 1:
            with contextlib.suppress(FileNotFoundError):  # it is gone where Ctrl-C came right after that
                if name.file is None:
                    self._namer.remove_directory(path)
                else:
                    self._namer.unlink(path)
            del self._names[path]
            if parent:
                parent.children -= 1
        name.count -= 1

    def _parent(self, path: str) -> _Name | None:
        return self._names.get(path.rpartition("/")[0])
