"""Which times a call changes, of which files: the same in a scratch as on a tmpfs."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import diskless

SHM = Path("/dev/shm")
NAMES = [".", "d", "d/e", "f", "h", "s", "d/g"]

CLOCK_REALTIME_COARSE = 5  # of linux/time.h, by which files are stamped


def fails(call: Callable[[str], None], path: str) -> None:
    with pytest.raises(OSError, match=r"File exists|not empty"):
        call(path)


CALLS: dict[str, Callable[[str], object]] = {
    "create": lambda base: os.close(os.open(f"{base}/new", os.O_CREAT | os.O_WRONLY)),
    "open with O_TRUNC": lambda base: os.close(os.open(f"{base}/f", os.O_WRONLY | os.O_TRUNC)),
    "open with O_TMPFILE": lambda base: os.close(os.open(base, os.O_TMPFILE | os.O_RDWR)),
    "write": lambda base: Path(base, "f").write_bytes(b"other"),
    "truncate": lambda base: os.truncate(f"{base}/f", 1),
    "mkdir": lambda base: os.mkdir(f"{base}/new"),
    "mkdir below": lambda base: os.mkdir(f"{base}/d/new"),
    "rmdir": lambda base: os.rmdir(f"{base}/d/e"),
    "unlink": lambda base: os.unlink(f"{base}/f"),
    "unlink of a symlink": lambda base: os.unlink(f"{base}/s"),
    "link": lambda base: os.link(f"{base}/f", f"{base}/d/new"),
    "symlink": lambda base: os.symlink("x", f"{base}/new"),
    "rename": lambda base: os.rename(f"{base}/f", f"{base}/f2"),
    "rename to another directory": lambda base: os.rename(f"{base}/f", f"{base}/d/f"),
    "rename of a directory": lambda base: os.rename(f"{base}/d/e", f"{base}/e"),
    "rename over": lambda base: os.rename(f"{base}/d/g", f"{base}/h"),
    "rename onto the same file": lambda base: os.rename(f"{base}/f", f"{base}/h"),
    "rename of a symlink": lambda base: os.rename(f"{base}/s", f"{base}/d/s"),
    "chmod of a file": lambda base: os.chmod(f"{base}/f", 0o600),
    "chmod of a directory": lambda base: os.chmod(f"{base}/d", 0o700),
    "chown of a file": lambda base: os.chown(f"{base}/f", os.getuid(), -1),
    "chown of a directory": lambda base: os.chown(f"{base}/d", -1, -1),
    "chown of a symlink": lambda base: os.lchown(f"{base}/s", os.getuid(), -1),
    "utime of a file": lambda base: os.utime(f"{base}/f", (1, 2)),
    "utime of a directory": lambda base: os.utime(f"{base}/d", (1, 2)),
    "utime now of a directory": lambda base: os.utime(f"{base}/d"),
    "utime of a symlink": lambda base: os.utime(f"{base}/s", (1, 2), follow_symlinks=False),
    "setxattr of a directory": lambda base: os.setxattr(f"{base}/d", "user.x", b"1"),
    "a mkdir that fails": lambda base: fails(os.mkdir, f"{base}/d"),
    "an rmdir that fails": lambda base: fails(os.rmdir, f"{base}/d"),
    "stat": lambda base: os.stat(f"{base}/f"),
}


def await_tick() -> None:
    """Return when the clock that the kernel stamps files by has passed the present, which the Tree stamps names by.

    It moves in whole ticks of up to 10 ms, and after one it may still be behind the finer clock.
    """
    present = time.clock_gettime_ns(time.CLOCK_REALTIME)
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= present:
        pass


def times(base: str) -> dict[int, tuple[int, int]]:
    """Return the times of changes by inode, which keep their numbers when they get another name."""
    found = {}
    for directory, below, files in os.walk(base):
        for name in (".", *below, *files):
            status = os.lstat(os.path.join(directory, name))
            found[status.st_ino] = (status.st_mtime_ns, status.st_ctime_ns)
    return found


def changed_by(call: Callable[[str], object], base: str) -> list[str]:
    """Say which times of which files the call changes, in words that do not depend on the filesystem."""
    os.makedirs(f"{base}/d/e")
    Path(base, "f").write_bytes(b"text")
    Path(base, "d/g").write_bytes(b"text")
    os.link(f"{base}/f", f"{base}/h")
    os.symlink("f", f"{base}/s")
    held = [os.open(f"{base}/{name}", os.O_RDONLY) for name in ("f", "d/g")]  # also those that lose their last name
    numbers = {os.lstat(f"{base}/{name}").st_ino: name for name in NAMES}
    before = times(base)
    await_tick()
    call(base)
    after = times(base) | {status.st_ino: (status.st_mtime_ns, status.st_ctime_ns) for status in map(os.fstat, held)}
    for fd in held:
        os.close(fd)
    return sorted(
        f"{what} of {name}"
        for number, name in numbers.items()
        for what, old, new in zip(("mtime", "ctime"), before[number], after.get(number, before[number]), strict=True)
        if old != new
    )


@pytest.fixture
def tmpfs() -> Iterator[str]:
    if not SHM.is_dir() or not os.access(SHM, os.W_OK):
        pytest.skip("no /dev/shm to compare with")
    path = tempfile.mkdtemp(dir=SHM)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_changes_the_times_that_it_changes_on_a_tmpfs(name: str, tmpfs: str) -> None:
    expected = changed_by(CALLS[name], f"{tmpfs}/base")
    with diskless.scratch(backing="tree") as path:
        assert changed_by(CALLS[name], f"{path}/base") == expected
