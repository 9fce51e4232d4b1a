"""Place: one directory in which a library keeps files, and what of a mirror is in it."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diskless import native_api as native

if TYPE_CHECKING:
    from diskless.ram.file import RamFile

_MODE = 0o644


@dataclass(frozen=True)
class Place:
    """`path` is absolute; `prefix` ends in a slash, and is None for what no mirror holds.

    `appended` are names of small files that the library writes on, where they are.
    """

    path: str
    prefix: str | None = None
    appended: tuple[str, ...] = ()


def directory(default: str, *variables: str, below: str = "") -> str:
    """Return the directory that the first of `variables` that is set names, and `below` it; else `default`."""
    for name in variables:
        if os.environ.get(name):
            named = os.path.expandvars(os.path.expanduser(os.environ[name]))
            return os.path.abspath(os.path.join(named, below))
    return os.path.expanduser(default)


def put(path: str, file: RamFile) -> None:
    """Give a file of a mirror its name in a directory in RAM, unless something has it."""
    make_parent(path)
    try:
        native.place_file(path, file.fd, _MODE, file.mtime_ns, file.gate)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise


def make_parent(path: str) -> None:
    """Make the directories above a path."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
