"""Whole directories, with all that is in them: removed and copied, symlinks as what they are."""

from __future__ import annotations

import shutil
import stat

from diskless.ram.root import Calls
from diskless.ram.stream import open_stream

_AT_ONCE_BYTES = 1 << 20


def remove_whole(calls: Calls, path: str) -> None:
    """Remove the directory at a real path."""
    directories = [path]
    for directory in directories:  # grows
        for name in calls.listdir(directory):
            below = f"{directory}/{name}"
            if stat.S_ISDIR(calls.lstat(below).st_mode):
                directories.append(below)
            else:
                calls.unlink(below)
    for directory in reversed(directories):
        calls.rmdir(directory)


def copy_whole(calls: Calls, source: str, target: str) -> None:
    """Copy what is at a real path to another, where no directory is."""
    mode = calls.lstat(source).st_mode
    if stat.S_ISLNK(mode):
        calls.symlink(calls.readlink(source), target)
    elif stat.S_ISDIR(mode):
        calls.mkdir(target)
        for name in calls.listdir(source):
            copy_whole(calls, f"{source}/{name}", f"{target}/{name}")
    else:
        copy_bytes(calls, source, target)


def copy_bytes(calls: Calls, source: str, target: str) -> None:
    """Copy the bytes of one file, into the one that is there."""
    with open_stream(source, "rb", calls) as from_file, open_stream(target, "wb", calls) as to_file:
        shutil.copyfileobj(from_file, to_file, _AT_ONCE_BYTES)
