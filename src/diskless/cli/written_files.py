"""Which files on a disk are written to, by name: noted where Python opens them, and seen where native code does."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path

# File systems that keep their files in RAM or have none (magic numbers of statfs(2) are not in Python's os).
_NOT_ON_A_DISK = {
    "cgroup", "cgroup2", "debugfs", "devpts", "devtmpfs", "hugetlbfs", "mqueue", "proc", "ramfs", "sysfs", "tmpfs",
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def watch_own() -> list[str]:
    """Note from now on every path that Python code in this process opens for writing; return the growing list."""
    paths: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or len(arguments) != 3:
            return
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING and isinstance(path, (str, bytes)):
            paths.append(os.path.abspath(os.fsdecode(path)))

    sys.addaudithook(hook)
    return paths


def open_for_writing(pids: Collection[int]) -> set[str]:
    """Return the regular files that the processes have open for writing at this moment."""
    paths: set[str] = set()
    for pid in pids:
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for number in numbers:
            try:
                path = os.readlink(f"/proc/{pid}/fd/{number}")
                flags = Path(f"/proc/{pid}/fdinfo/{number}").read_text().partition("flags:")[2].split()[0]
            except (OSError, IndexError):
                continue
            if path.startswith("/") and int(flags, 8) & (os.O_WRONLY | os.O_RDWR):
                paths.add(path)
    return paths


def accessed_since(moment: float) -> int:
    """Return how many files and directories that this process's imports read got a new time of access since `moment`.

    With the mount option relatime, the usual one, a first read after a day or after a change writes that time back.
    """
    places = set(sys.path_importer_cache)
    for module in list(sys.modules.values()):
        for attribute in ("__file__", "__cached__"):
            place = getattr(module, attribute, None)
            if isinstance(place, str):
                places.add(place)
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        lines = []
    places.update(line.split(maxsplit=5)[5] for line in lines if line.count("/"))
    count = 0
    for place in places:
        try:
            count += os.stat(place).st_atime >= moment
        except (OSError, ValueError):
            continue
    return count


def on_a_disk(paths: Collection[str]) -> list[str]:
    """Return those of `paths` that are not known to lie in RAM, sorted."""
    mounts = _mounts()
    return sorted({path for path in paths if _file_system(path, mounts) not in _NOT_ON_A_DISK})


def in_ram(path: str) -> bool:
    """Whether a directory lies on a file system in RAM."""
    return _file_system(path, _mounts()) in {"tmpfs", "ramfs"}


def _mounts() -> dict[str, str]:
    """Return the type of the file system mounted at each place (proc(5), /proc/self/mountinfo); the last one counts."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return {}
    mounts: dict[str, str] = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        mounts[before.split()[4].encode().decode("unicode_escape")] = after.split()[0]
    return mounts


def _file_system(path: str, mounts: dict[str, str]) -> str:
    if path.startswith("/memfd:"):  # memfd_create(2): such files lie on a tmpfs of the kernel's own
        return "tmpfs"
    place = os.path.realpath(path.removesuffix(" (deleted)"))
    while place not in mounts and place != "/":
        place = os.path.dirname(place)
    return mounts.get(place, "")
