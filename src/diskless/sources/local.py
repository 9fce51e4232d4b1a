"""LocalSource: a directory or a file of this machine, such as a mounted volume, read without obstore's path rules."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from diskless.errors import AccessDenied, NotFound, ObjectChanged, SourceUnavailable
from diskless.sources import paths
from diskless.sources.spec import Listing, Object, SourceSpec
from diskless.sources.stored_checksum import WithoutChecksums

_CHUNK_BYTES = 512 << 10


class LocalSource(WithoutChecksums):
    """Files below a path, symbolic links to files and directories followed; each is pinned to inode, size and time."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._root = spec.url.key

    def list(self) -> Listing:
        try:
            status = os.stat(self._root)
        except FileNotFoundError:
            raise NotFound(f"{self._spec.display} does not exist on the disks of this machine") from None
        except OSError as error:
            raise self._denied(error) from None
        if stat.S_ISREG(status.st_mode):
            placed, refused = paths.place([self._entry(self._root, os.path.basename(self._root), status)])
            if refused:
                raise NotFound(f"{self._spec.display}: this name cannot be a file: {refused[0][1]}")
            return Listing(placed, [], True)
        entries: list[Object] = []
        refused = []
        for directory, below in self._directories():
            for item in self._scan(directory):
                path = below + item.name
                try:
                    status = item.stat()
                except OSError:
                    refused.append((path, "it is a link that leads nowhere"))
                    continue
                if stat.S_ISREG(status.st_mode):
                    entries.append(self._entry(item.path, path, status))
                elif not stat.S_ISDIR(status.st_mode):
                    refused.append((path, "it is no regular file"))
        placed, odd = paths.place(entries)
        if not placed and not refused and not odd:
            raise NotFound(f"no file is below {self._spec.display}")
        return Listing(placed, refused + odd, False)

    def read(self, entry: Object, start: int, end: int) -> Iterator[Any]:
        named = f"file://{entry.key}"
        try:
            fd = os.open(entry.key, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ObjectChanged(f"{named} was deleted while it was read (at byte {start})") from None
        except OSError as error:
            raise AccessDenied(f"{named}: {error.strerror}") from None
        try:
            self._check(fd, entry, named)
            position = start
            while position < end:
                try:
                    chunk = os.pread(fd, min(_CHUNK_BYTES, end - position), position)
                except OSError as error:
                    raise SourceUnavailable(f"{named}: {error.strerror}") from None
                if not chunk:
                    break
                position += len(chunk)
                yield chunk
            self._check(fd, entry, named)
        finally:
            os.close(fd)

    def _check(self, fd: int, entry: Object, named: str) -> None:
        if _version(os.fstat(fd)) != entry.version:
            raise ObjectChanged(f"{named} was replaced while it was read: load it again to get the new version")

    def _directories(self) -> Iterator[tuple[str, str]]:
        """Yield every directory and the path below the root that its names begin with.

        One that several paths lead to shows at each of them; a link to a directory that it is in is not followed.
        """
        waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(self._root.rstrip("/"), "", ())]
        while waiting:
            directory, below, above = waiting.pop()
            status = os.stat(directory)
            here = (status.st_dev, status.st_ino)
            if here in above:
                continue
            yield directory, below
            around = (*above, here)
            waiting += [(item.path, f"{below}{item.name}/", around) for item in self._scan(directory) if item.is_dir()]

    def _scan(self, directory: str) -> Sequence[os.DirEntry[str]]:
        try:
            with os.scandir(directory) as items:
                return sorted(items, key=lambda item: item.name)
        except OSError as error:
            raise self._denied(error) from None

    def _denied(self, error: OSError) -> Exception:
        return AccessDenied(f"{self._spec.display}: {error.strerror}: {error.filename}")

    def _entry(self, key: str, path: str, status: os.stat_result) -> Object:
        return Object(key, path, status.st_size, None, _version(status), status.st_mtime_ns)


def _version(status: os.stat_result) -> str:
    # The time of the last change of the inode, too: the other one can be set.
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
