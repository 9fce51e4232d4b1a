"""What is seen of a file, in words in which two filesystems can agree: no inode numbers, no clock readings."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

# Explicit times are set before this (2001), so every later one was the clock's.
EXPLICIT_BEFORE_NS = 10**18
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
}


def name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


@dataclass
class Clock:
    """Tells times before the last mark from times after it. Both worlds share one."""

    mark_ns: int = 2**62

    def set(self) -> None:
        """Mark a moment: all that happened is before it, all that will happen after it."""
        # Files get the coarse clock's time, which lags by up to a tick, or a finer one if the last was looked at
        # (Linux 6.13): so one tick to be past all finer ones, one to mark, and one to be past the mark.
        self._next_tick()
        self.mark_ns = self._next_tick()
        self._next_tick()

    def _next_tick(self) -> int:
        coarse = 5  # CLOCK_REALTIME_COARSE
        start = time.clock_gettime_ns(coarse)
        while (now := time.clock_gettime_ns(coarse)) == start:
            pass
        return now

    def describe(self, ns: int) -> int | str:
        if ns < EXPLICIT_BEFORE_NS:
            return ns
        return "after the mark" if ns > self.mark_ns else "before the mark"


@dataclass(frozen=True)
class Seen:
    """A stat result as far as it has to agree."""

    kind: str
    mode: str
    nlink: int
    uid: int
    gid: int
    size: int | None
    blocks: int | None
    mtime: int | str
    ctime: int | str
    atime: int | str | None

    def difference(self, other: Seen) -> str:
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__}
        return ", ".join(f"{name} {ours!r} != {theirs!r}" for name, (ours, theirs) in pairs.items() if ours != theirs)


def seen(status: os.stat_result, clock: Clock) -> Seen:
    """Describe a stat result.

    Not compared: a directory's size (20 bytes an entry on tmpfs, on no other filesystem), and whether atime is before
    or after the mark (a tmpfs is mounted relatime, a memfd is not, and either is right).
    """
    kind = KINDS.get(stat.S_IFMT(status.st_mode), oct(status.st_mode))
    atime = status.st_atime_ns
    return Seen(
        kind=kind,
        mode=oct(stat.S_IMODE(status.st_mode)),
        nlink=status.st_nlink,
        uid=status.st_uid,
        gid=status.st_gid,
        size=None if kind == "directory" else status.st_size,
        blocks=status.st_blocks if kind == "file" else None,
        mtime=clock.describe(status.st_mtime_ns),
        ctime=clock.describe(status.st_ctime_ns),
        atime=None if kind != "file" else atime if atime < EXPLICIT_BEFORE_NS else "recent",
    )


@dataclass
class Snapshot:
    """A whole tree: what stands at every path below it."""

    entries: dict[bytes, object] = field(default_factory=dict)

    def difference(self, other: Snapshot) -> str | None:
        """The first path at which two differ, and how."""
        for path in sorted(self.entries.keys() | other.entries.keys()):
            ours, theirs = self.entries.get(path, "nothing"), other.entries.get(path, "nothing")
            if ours == theirs:
                continue
            if isinstance(ours, tuple) and isinstance(theirs, tuple) and isinstance(ours[0], Seen):
                told = ours[0].difference(theirs[0]) if ours[0] != theirs[0] else f"{ours[1:]!r} != {theirs[1:]!r}"
                return f"{path!r}: {told}"
            return f"{path!r}: {ours!r} != {theirs!r}"
        return None


def contents(path: bytes, size: int) -> str:
    """A digest of the file's first and last bytes, enough for what these tests write."""
    with open(path, "rb") as file:
        digest = hashlib.md5(file.read(100_000), usedforsecurity=False)
        if size > 100_000:
            file.seek(-100_000, os.SEEK_END)
            digest.update(file.read())
    return digest.hexdigest()[:8]


def look(root: bytes, clock: Clock, say: object) -> Snapshot:
    """Describe every path at and below `root`; `say` maps a symlink's target to what both worlds call it."""
    snapshot, links = Snapshot(), {}
    for path in _walk(root):
        short = path[len(root) :] or b"/"
        try:
            status = os.lstat(path)
            first = links.setdefault((status.st_dev, status.st_ino), short)
            what = seen(status, clock)
            inside: object = None
            if what.kind == "file":
                inside = contents(path, status.st_size)
            elif what.kind == "symlink":
                inside = say(os.readlink(path))  # type: ignore[operator]
            snapshot.entries[short] = (what, inside, first, _xattrs(path))
        except OSError as error:
            snapshot.entries[short] = name_of(error)
    return snapshot


def _xattrs(path: bytes) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}


def _walk(path: bytes) -> Iterator[bytes]:
    yield path
    try:
        status = os.lstat(path)
        names = sorted(os.listdir(path)) if stat.S_ISDIR(status.st_mode) else []
    except OSError:
        return
    for name in names:
        yield from _walk(path + b"/" + name)
