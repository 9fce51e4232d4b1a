"""No function of libc that takes a path is forgotten: read off libc's own code, as it is installed here."""

from __future__ import annotations

import bisect
import ctypes
import platform
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

import diskless

NATIVE = Path(diskless.__file__).parent / "native"

# System calls that take a path or a descriptor of a directory, or that close or replace a number (x86-64).
CALLS = {
    *(2, 3, 4, 5, 6, 21, 32, 33, 59, 76, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94),
    *(132, 133, 137, 138, 155, 161, 165, 166, 167, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197, 198, 199),
    *(217, 235, 254, 257, 258, 259, 260, 261, 262, 263, 264, 265, 266, 267, 268, 269, 280, 292, 303, 316, 322),
    *(332, 334, 436, 437, 439, 442, 452),
}

# Functions that make such a call, and why they are not redirected.
LEFT_ALONE = {
    "chroot, mount, mount_setattr, pivot_root, swapon, umount2": "the administrator's, on real filesystems",
    "mq_close": "takes no number from anybody",
    "fgetxattr, flistxattr": "the kernel's answer for a memfd is the one for a file on tmpfs",
}


def libc() -> str:
    maps = Path("/proc/self/maps").read_text()
    return next(found for found in re.findall(r"\S+$", maps, re.MULTILINE) if found.endswith("/libc.so.6"))


def hooked() -> set[str]:
    text = (NATIVE / "tree_hooks.h").read_text() + (NATIVE / "hooks.h").read_text()
    return set(re.findall(r"\bX\((\w+)\)", text))


def exported_functions(library: str) -> dict[int, set[str]]:
    """Names by address, without what libc's libraries have among themselves."""
    listing = subprocess.run(["objdump", "-T", library], capture_output=True, text=True, check=True).stdout
    names: dict[int, set[str]] = defaultdict(set)
    for line in listing.splitlines():
        words = line.split()
        if ".text" in words and "GLIBC_PRIVATE" not in line:
            names[int(words[0], 16)].add(words[-1])
    return names


def functions_that_call(library: str, numbers: set[int], names: dict[int, set[str]]) -> set[str]:
    """The exported functions in whose own code one of the system calls is made."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", library], capture_output=True, text=True, check=True
    ).stdout
    code = [
        (int(found[1], 16), found[2], found[3])
        for found in re.finditer(r"^\s+([0-9a-f]+):\t(\S+) *(.*)$", listing, re.MULTILINE)
    ]
    starts = {int(words.split()[0], 16) for _, operation, words in code if operation == "call" and words[:1].isalnum()}
    starts = sorted(starts | set(names))
    calling: set[str] = set()
    number: int | None = None
    for address, operation, words in code:
        if operation == "mov" and (found := re.fullmatch(r"\$0x([0-9a-f]+),%eax", words)):
            number = int(found[1], 16)
        elif operation == "syscall" and number in numbers:
            calling |= names.get(starts[bisect.bisect_right(starts, address) - 1], set())
    return calling


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the code of x86-64")
@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump (binutils) is not installed")
def test_every_function_of_libc_that_makes_a_path_call_is_redirected_or_named_here() -> None:
    names = exported_functions(libc())
    calling = functions_that_call(libc(), CALLS, names)
    assert {"open", "fstatat", "readlinkat", "unlink", "close"} <= calling, "the code was read"
    left_alone = {name for group in LEFT_ALONE for name in group.split(", ")}
    assert calling - hooked() - left_alone == set()


def test_every_redirected_function_is_one_of_libc() -> None:
    functions = ctypes.CDLL(None)
    # `stat` and its relatives came with glibc 2.33, close_range and closefrom with 2.34.
    newer = {"stat", "lstat", "fstat", "fstatat", "stat64", "lstat64", "fstat64", "fstatat64", "mknod", "mknodat"}
    newer |= {"close_range", "closefrom", "statx", "getdents64", "renameat2", "execvpe"}
    missing = {name for name in hooked() - {"name"} if not hasattr(functions, name)}
    assert missing <= newer
