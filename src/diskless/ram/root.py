"""Root: where ram:// is on a Backing, and the calls by which it is read and written there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol


class Calls(Protocol):
    """Of the module `os`, what a filesystem needs: the module itself, or one with the same functions."""

    def open(self, path: str, flags: int, mode: int = ..., /) -> int: ...

    def write(self, fd: int, data: bytes | memoryview, /) -> int: ...

    def stat(self, path: str | int, /) -> os.stat_result: ...

    def lstat(self, path: str, /) -> os.stat_result: ...

    def listdir(self, path: str, /) -> list[str]: ...

    def readlink(self, path: str, /) -> str: ...

    def mkdir(self, path: str, mode: int = ..., /) -> None: ...

    def rmdir(self, path: str, /) -> None: ...

    def unlink(self, path: str, /) -> None: ...

    def rename(self, source: str, target: str, /) -> None: ...

    def link(self, source: str, target: str, /, *, src_dir_fd: int | None = ...) -> None: ...

    def symlink(self, target: str, path: str, /) -> None: ...

    def chmod(self, path: str, mode: int, /) -> None: ...

    def utime(self, path: str, /) -> None: ...


@dataclass(frozen=True)
class Root:
    """`path` is the directory that ram:// is; what is `hidden` in it is the Backing's own."""

    path: str
    calls: Calls
    hidden: frozenset[str] = frozenset()
