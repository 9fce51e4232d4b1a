"""Stream: a DIR* read a little at a time while names come and go."""

from __future__ import annotations

import os

from tests.filesystem.oracle.libc import Libc


class Stream:
    """A directory stream, and which of its names have been there since it was opened or rewound.

    The order of names is free, and so is whether a name that came or went meanwhile is seen. One that stayed must be
    seen exactly once.
    """

    def __init__(self, libc: Libc, path: bytes) -> None:
        self.libc = libc
        self.pointer = libc.opendir(path)
        self.stayed: set[tuple[bytes, int]] = set()
        self.read: list[bytes] = []
        self.rewind(anew=True)

    def _names(self) -> set[tuple[bytes, int]]:
        """What the directory holds now, by a description of its own so that the stream's position stays.

        With the inode: a name that another file was renamed to may be seen twice, or not.
        """
        fd = int(self.libc._libc.dirfd(self.pointer))
        try:
            mine = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        except OSError:
            return set()
        try:
            with os.scandir(mine) as entries:
                return {(os.fsencode(each.name), each.inode()) for each in entries}
        finally:
            os.close(mine)

    def rewind(self, anew: bool = False) -> None:
        if not anew:
            self.libc.rewinddir(self.pointer)
        self.stayed, self.read = self._names(), []

    def settle(self) -> None:
        """To be called after every operation: forgets the names that are gone."""
        self.stayed &= self._names()

    def next(self, count: int) -> str:
        """Read some names; says what is wrong with what was read so far."""
        for _ in range(count):
            name = self.libc.readdir(self.pointer)
            if name is not None:
                self.read.append(name)
                continue
            if missed := {name for name, _ in self.stayed} - set(self.read):
                return f"at the end, without {sorted(missed)}"
            break
        twice = sorted({name for name, _ in self.stayed if self.read.count(name) > 1})
        return f"{twice} twice" if twice else "right"

    @staticmethod
    def seek_back(libc: Libc, path: bytes, position: int) -> tuple[int, bool]:
        """Read all, go back to where `position` entries had been read, read on: how many, and if the same came."""
        stream = libc.opendir(path)
        try:
            for _ in range(position):
                libc.readdir(stream)
            place = libc.telldir(stream)
            first = _rest(libc, stream)
            libc.seekdir(stream, place)
            again = _rest(libc, stream)
            libc.rewinddir(stream)
            return len(first), first == again and len(_rest(libc, stream)) >= len(first)
        finally:
            libc.closedir(stream)


def _rest(libc: Libc, stream: int) -> list[bytes]:
    names = []
    while (name := libc.readdir(stream)) is not None:
        names.append(name)
    return names
