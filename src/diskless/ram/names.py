"""Names: which paths of a Backing show which RAM file, counted, since several Mounts may show one path."""

from __future__ import annotations

import itertools
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
    count: int


class Names:
    """The names of one Backing. Callers hold the store's lock."""

    def __init__(self, namer: Namer) -> None:
        self._namer = namer
        self._names: dict[str, _Name] = {}

    def accept(self, base: str, files: Mapping[str, RamFile]) -> bool:
        """Whether these names can be shown: none of them shows other bytes already.

        `files` are absolute paths below the directory `base`.
        """
        for path, file in self._wanted(base, files).items():
            name = self._names.get(path)
            if name is not None and name.file is not file:
                return False
        return True

    def show(self, base: str, files: Mapping[str, RamFile]) -> None:
        """Make all names visible, or none: what was made is undone when one fails.

        One fails where ram:// has something there, which is only known when it is tried.
        """
        done: list[str] = []
        try:
            for path, file in self._wanted(base, files).items():
                self._add(path, file)
                done.append(path)
        except BaseException:
            for path in reversed(done):
                self._drop(path)
            raise

    def hide(self, base: str, files: Mapping[str, RamFile]) -> None:
        """Undo one `show`."""
        for path in reversed(self._wanted(base, files)):
            self._drop(path)

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

    def _add(self, path: str, file: RamFile | None) -> None:
        name = self._names.get(path)
        if name is None:
            if file is None:
                self._namer.make_directory(path)
            else:
                self._namer.link(path, file)
            name = self._names[path] = _Name(file, 0)
        name.count += 1

    def _drop(self, path: str) -> None:
        name = self._names[path]
        name.count -= 1
        if name.count == 0:
            del self._names[path]
            if name.file is None:
                self._namer.remove_directory(path)
            else:
                self._namer.unlink(path)
