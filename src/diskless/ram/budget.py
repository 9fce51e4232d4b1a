"""The Budget: how much RAM may be taken, and what says so. Checked before a byte is fetched."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from diskless.errors import BudgetExceeded, InvalidOption

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_UNITS |= {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)
# A v1 group without a limit shows a number near 2**63 rounded down to pages.
_UNLIMITED = 1 << 60
# Of the eight connections of a transfer, as measured.
_TRANSFER_BYTES = 24 << 20


@dataclass(frozen=True)
class Limit:
    """Bytes that one authority leaves, and its name for error messages. `counts_all`: other memory than files, too."""

    free_bytes: int
    total_bytes: int
    name: str
    counts_all: bool = False


def parse_size(size: int | str | None) -> int | None:
    """Return bytes from `size`, which may be a number or a string such as ``"4GiB"`` or ``"500 MB"``.

    Raises InvalidOption when it is not a positive size.
    """
    if size is None:
        return None
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if match is None:
            raise InvalidOption(f"budget={size!r} is no size: use a number of bytes or a string such as '4GiB'")
        size = int(float(match[1]) * _UNITS[(match[2] or "").lower()])
    if isinstance(size, bool) or not isinstance(size, int):
        raise InvalidOption(f"budget must be bytes or a string such as '4GiB', not {type(size).__name__}")
    if size <= 0:
        raise InvalidOption(f"budget={size} leaves no room for anything: give a positive number of bytes")
    return size


def format_size(size_bytes: float) -> str:
    """Return `size_bytes` for people, in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def buffer_bytes(size_bytes: int) -> int:
    """Return what a transfer of that size takes beside its files."""
    return min(size_bytes, _TRANSFER_BYTES)


def check(
    need_bytes: int,
    held_bytes: int,
    promised_bytes: int,
    limits: list[Limit],
    budget_bytes: int | None,
    buffer_bytes: int = 0,
) -> None:
    """Raise BudgetExceeded unless `need_bytes` more fit.

    `held_bytes` is what diskless holds already (counted against `budget_bytes`); `promised_bytes` is the part of it
    that is reserved but not yet written, which no control group can see. `buffer_bytes` are what the transfers take
    beside their files.
    """
    if budget_bytes is not None:
        limits = [*limits, Limit(budget_bytes - held_bytes + promised_bytes, budget_bytes, "budget=")]
    for limit in sorted(limits, key=lambda limit: limit.free_bytes):
        free_bytes = max(0, limit.free_bytes - promised_bytes - (buffer_bytes if limit.counts_all else 0))
        if need_bytes > free_bytes:
            error = BudgetExceeded(
                f"{format_size(need_bytes)} are needed and {format_size(free_bytes)} are free: the limit is "
                f"{limit.name} ({format_size(limit.total_bytes)}; diskless holds {format_size(held_bytes)}). "
                "Nothing was fetched. Give the process more memory, close other Mounts, or choose fewer files with "
                "allow_patterns=."
            )
            error.may_fit_later = all(need_bytes <= limit.total_bytes for limit in limits)
            raise error


def memory_limits() -> list[Limit]:
    """Return what the machine and each control group above this process leave (Linux: cgroups(7), proc(5))."""
    limits = []
    machine = _fields("/proc/meminfo")
    if "MemAvailable" in machine:
        available, total = machine["MemAvailable"] * 1024, machine.get("MemTotal", 0) * 1024
        limits.append(Limit(available, total, "the machine's available memory", counts_all=True))
    return limits + ControlGroups().limits()


class ControlGroups:
    """The memory control groups of this process, to be looked at more than once."""

    def __init__(self) -> None:
        self._groups = _control_groups()

    def limits(self) -> list[Limit]:
        """Return what each of them that has a limit leaves now."""
        return [limit for directory, version in self._groups for limit in _group_limit(directory, version)]


def directory_limits(path: str) -> list[Limit]:
    """Return what the filesystem of a Directory leaves; one that lies in RAM is bound by memory too."""
    status = os.statvfs(path)
    limits = [Limit(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize, f"the filesystem of {path}")]
    return limits + (memory_limits() if filesystem_type(path) in ("tmpfs", "ramfs", "hugetlbfs") else [])


def filesystem_type(path: str) -> str | None:
    """Return the type of the filesystem that holds `path`, such as ``"tmpfs"``; None where /proc does not tell."""
    device = os.stat(path).st_dev
    wanted, found = f"{os.major(device)}:{os.minor(device)}", None
    for fields in _mounts():
        if fields[2] == wanted:
            found = fields[fields.index("-") + 1]
    return found


def _mounts() -> list[list[str]]:
    return [line.split() for line in _lines("/proc/self/mountinfo")]


def _lines(path: str) -> list[str]:
    """Return the lines of a file of the kernel's; none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _fields(path: str) -> dict[str, int]:
    """Read a file of ``name value`` lines."""
    pairs = (line.replace(":", " ").split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def _number(path: str) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _control_groups() -> list[tuple[str, int]]:
    """Return the memory control group of this process and its ancestors as (directory, version)."""
    groups: list[tuple[str, int]] = []
    for line in _lines("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        version = 2 if not controllers else 1
        if version == 1 and "memory" not in controllers.split(","):
            continue
        for fields in _mounts():
            kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
            if kind == ("cgroup2" if version == 2 else "cgroup") and (version == 2 or "memory" in options):
                groups.extend((directory, version) for directory in _ancestors(fields[3], fields[4], path))
                break
    return groups


def _ancestors(shown: str, mounted_at: str, path: str) -> list[str]:
    """Return the directories from a group's own up to the root of its mount.

    A container sees the hierarchy from its own group on: `shown` is what the mount shows of it, and a path that lies
    outside is the mount's root itself.
    """
    relative = os.path.relpath(path, shown)
    below = [] if relative.startswith("..") or relative == "." else relative.split("/")
    if not os.path.isdir(os.path.join(mounted_at, *below)):
        below = []
    return [os.path.join(mounted_at, *below[:depth]) for depth in range(len(below), -1, -1)]


def _group_limit(directory: str, version: int) -> list[Limit]:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    total, used = (_number(os.path.join(directory, name)) for name in names)
    if total is None or used is None or total >= _UNLIMITED:
        return []
    statistics = _fields(os.path.join(directory, "memory.stat"))
    reclaimable = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
    return [Limit(total - used + reclaimable, total, f"the control group's {names[0]}", counts_all=True)]
