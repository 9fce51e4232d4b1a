"""RamFile: the bytes of one file, written once and then read for as long as anybody holds it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class FileKey(NamedTuple):
    """Which bytes: equal keys are held once. `identity` keeps different stores and credentials apart."""

    identity: str
    key: str
    version: str


class Filler(Protocol):
    """What fetches the bytes of a file."""

    def ask(self, file: RamFile, start: int, end: int) -> None:
        """Fetch a range next. The caller does not hold LOCK."""
        ...


@dataclass(eq=False)
class RamFile:
    """One file's bytes in a Backing: a memfd of the Tree, or a plain file of a Directory.

    `fd` is open for writing until the file is sealed; a Directory closes it then and sets it to -1.
    """

    size_bytes: int
    mtime_ns: int
    fd: int
    staged_path: str | None = None
    gate: int = -1  # of the Tree: where readers wait for the bytes
    key: FileKey | None = None
    # Of a lazy file: what its key will be once all of it is wanted.
    later_key: FileKey | None = None
    # The load that fills it, or has.
    filler: Filler | None = None
    claims: int = 1
    # Whether the outcome is known; `complete` says which.
    settled: bool = False
    complete: bool = False
    # Whether it is complete only when its bytes are what the store has a checksum of.
    verified: bool = False
    # Whether a Mount shows it, though it may not be complete.
    visible: bool = False
    # Fetched when somebody opens it, and perhaps dropped again: what it takes is what it holds at the moment.
    lazy: bool = False
    # In a forked child: it is its parent's to fill, and may be read here when it is.
    inherited: bool = False

    @property
    def held_bytes(self) -> int:
        """Bytes that are in RAM now."""
        return os.fstat(self.fd).st_blocks * 512 if self.fd >= 0 else self.size_bytes
