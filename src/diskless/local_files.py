"""LocalFile: a file that is to be uploaded, as it was when it was found; read through its path, in this process."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diskless.errors import InvalidOption, NotFound, ObjectChanged
from diskless.sources import paths


@dataclass(frozen=True)
class LocalFile:
    """`path` is where it is, `name` its path below what is uploaded; `identity` changes when its bytes do."""

    path: str
    name: str
    size_bytes: int
    identity: tuple[int, int, int, int]

    def check(self, fd: int | None = None) -> None:
        """Raise ObjectChanged unless the file, or what `fd` has open, is what it was when it was found."""
        try:
            now = _identity(os.stat(self.path) if fd is None else os.fstat(fd))
        except OSError as error:
            raise ObjectChanged(f"{self.path} went while it was pushed: {error.strerror}") from None
        if now != self.identity:
            raise ObjectChanged(
                f"{self.path} changed while it was pushed ({self.size_bytes} bytes when it began, now {now[2]}): push "
                "again when nobody writes to it"
            )


def find(
    path: str, allow_patterns: Sequence[str] | None = None, ignore_patterns: Sequence[str] | None = None
) -> list[LocalFile]:
    """Return the file at `path`, with an empty name, or all files below the directory, in the order of their names.

    Symbolic links are followed, as a model hub's cache has them for every file. Raises NotFound where nothing is there,
    InvalidOption for what cannot be an object: a socket or device, a name that could not be read back, a link that
    leads nowhere or round in a circle. Of a directory only for what the patterns keep, or a directory in which they
    may keep something; what they leave out is returned all the same where it is a file.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise NotFound(f"nothing to push at {path}: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        return [_file(path, "", status)]
    files = []
    for name, found in _below(path, "", ((status.st_dev, status.st_ino),)):
        if isinstance(found, LocalFile):
            files.append(found)
        elif not name or not _left_out(name, allow_patterns, ignore_patterns):
            raise found
    return sorted(files, key=lambda file: file.name)


def _below(
    path: str, prefix: str, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, LocalFile | InvalidOption]]:
    """Yield each file, or why it cannot be pushed, by name; that of a directory ends in a slash."""
    try:
        names = os.listdir(path)
    except OSError as error:
        yield prefix, InvalidOption(f"the directory {path} cannot be read: {error.strerror}")
        return
    for entry in names:
        where, name = os.path.join(path, entry), prefix + entry
        try:
            status = os.stat(where)
        except OSError as error:
            why = f"{where} cannot be pushed: {error.strerror} (a link that leads nowhere?)"
            yield name, InvalidOption(why)
            continue
        if stat.S_ISDIR(status.st_mode):
            here = (status.st_dev, status.st_ino)
            if here in above:
                why = f"{where} cannot be pushed: this link leads to a directory that it is in"
                yield f"{name}/", InvalidOption(why)
            else:
                yield from _below(where, f"{name}/", (*above, here))
            continue
        try:
            yield name, _file(where, name, status)
        except InvalidOption as error:
            yield name, error


def _left_out(name: str, allow_patterns: Sequence[str] | None, ignore_patterns: Sequence[str] | None) -> bool:
    """Whether the patterns leave out a name, or all that a directory may hold, whose name ends in a slash."""
    is_directory = name.endswith("/")
    if any(
        fnmatch.fnmatchcase(name, word) and (word.endswith("*") or not is_directory) for word in ignore_patterns or ()
    ):
        return True
    if allow_patterns is None:
        return False
    # What a pattern says before its first wildcard tells where its files are.
    begins = [re.split(r"[*?[]", word)[0] for word in allow_patterns]
    if is_directory:
        return not any(name.startswith(begin) or begin.startswith(name) for begin in begins)
    # A link that leads nowhere may have been one to a directory.
    named = any(begin.startswith(f"{name}/") for begin in begins)
    return not named and not any(fnmatch.fnmatchcase(name, word) for word in allow_patterns)


def _file(path: str, name: str, status: os.stat_result) -> LocalFile:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidOption(f"{path} cannot be pushed: it is no file, but a socket, a pipe or a device")
    why = paths.refusal(name or os.path.basename(path))
    if why is not None:
        raise InvalidOption(f"{path!r} cannot be pushed: {why}")
    return LocalFile(path, name, status.st_size, _identity(status))


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
