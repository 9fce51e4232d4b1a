"""copy_from_cache: copies what huggingface_hub has in its cache on the disk to a mirror."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from diskless import local_files
from diskless.caches.hub_layout import of_folder
from diskless.caches.libraries import huggingface
from diskless.errors import NotFound
from diskless.mirroring import hashes
from diskless.mirroring.bucket import MirrorBucket, Outgoing
from diskless.mirroring.from_hub import Mirrored, batches
from diskless.progress import Display, Progress, display

_log = logging.getLogger("diskless")
# The names of revisions go last: until they are there, nobody finds a half of a repository by its name.
_FIRST = ("trees", ".no_exist")
_LAST = "refs"
_MOST_BYTES = 1 << 30


class _File(NamedTuple):
    """A file by its path below the cache; `name` is the Hub's name of its bytes, if its blob tells that."""

    path: str
    local: local_files.LocalFile
    name: str | None


def copy_from_cache(directory: str | None, url: str, *, progress: Progress = None) -> Mirrored:
    """Copy the repositories in a cache of huggingface_hub to a mirror in S3, each file of a snapshot once.

    Blobs, locks and the blobs that several caches share are left out, since the links of the snapshots are followed. A
    blob is compared with the hash that it is called by before it is copied. What is there with the right size and the
    same hash is left, so a copy that ended early goes on when it is made again.

    Args:
        directory: of the cache; None is where huggingface_hub has it.
        url: such as ``s3://bucket/hub``, as `cache` takes it.
        progress: as for `mount`.

    Raises:
        NotFound: the directory holds no repository.
        InvalidURL, InvalidOption: an argument makes no sense, or a file cannot be an object.
        ChecksumMismatch: a blob in the cache is damaged.
        AlreadyExists: a directory was pushed to that place.
        AccessDenied, CredentialsError, SourceUnavailable, TransferError: the store does not take it.
    """
    started = time.monotonic()
    top = os.path.expanduser(directory) if directory is not None else huggingface.hub()
    folders = sorted(_folders(top))
    if not folders:
        raise NotFound(f"{top} holds no repository of huggingface_hub, such as models--org--name")
    bucket = MirrorBucket(url)
    show = display(progress, f"{top} to {bucket.url}")
    files = copied_files = size_bytes = copied_bytes = 0
    try:
        found = {folder: list(_files(top, folder)) for folder in folders}
        total_bytes = sum(map(_size, found.values()))
        for folder, each in found.items():
            missing = _missing(bucket, folder, each)
            bucket.abort_left_behind(folder)
            last = [file for file in each if _part(file) == _LAST]
            size, more = _size(each), _size(missing)
            _send(bucket, missing, functools.partial(_tell, show, size_bytes + size - more - _size(last), total_bytes))
            bucket.send([_outgoing(file) for file in last], lambda done: None)
            size_bytes += size
            copied_bytes += more + _size(last)
            files, copied_files = files + len(each), copied_files + len(missing) + len(last)
            show.update(size_bytes, total_bytes)
    finally:
        bucket.close()
        show.close()
    seconds = time.monotonic() - started
    return Mirrored(bucket.url, None, files, size_bytes, copied_files, copied_bytes, seconds)


def _tell(show: Display, before_bytes: int, total_bytes: int, done_bytes: int) -> None:
    show.update(before_bytes + done_bytes, total_bytes)


def _size(files: list[_File]) -> int:
    return sum(file.local.size_bytes for file in files)


def _folders(top: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(top))
    except OSError as error:
        raise NotFound(f"no cache of huggingface_hub at {top}: {error.strerror}") from None
    for entry in entries:
        if of_folder(entry.name) is not None and entry.is_dir():
            yield entry.name


def _files(top: str, folder: str) -> Iterator[_File]:
    """Yield the files of a repository, those first that are copied first."""
    for part in (*_FIRST, "snapshots", _LAST):
        for where, _, names in os.walk(os.path.join(top, folder, part)):
            for name in sorted(names):
                path = os.path.join(where, name)
                if part == "trees" and not name.endswith(".json"):  # one that is being written
                    continue
                try:
                    blob = os.path.basename(os.readlink(path)) if os.path.islink(path) else ""
                    (local,) = local_files.find(path)
                except NotFound:
                    _log.warning("%s is left out: its blob is not in the cache", path)
                    continue
                yield _File(os.path.relpath(path, top), local, blob if hashes.is_name(blob) else None)


def _part(file: _File) -> str:
    return file.path.split(os.sep)[1]


def _missing(bucket: MirrorBucket, folder: str, files: list[_File]) -> list[_File]:
    """Return the files, without the names of revisions, that the mirror lacks, or may have with other bytes."""
    named = {file.path: (file.local.size_bytes, file.name) for file in files if file.name}
    held = bucket.holding(bucket.objects(folder), named)
    return [file for file in files if _part(file) != _LAST and file.path not in held]


def _outgoing(file: _File) -> Outgoing:
    return Outgoing(file.local, file.path, file.name)


def _send(bucket: MirrorBucket, files: list[_File], show: Callable[[int], None]) -> None:
    """Compare files with their names and upload them, some at a time: what was just read is still in memory."""
    by_path = {file.path: file for file in files}
    done_bytes = 0
    for paths in batches({path: file.local.size_bytes for path, file in by_path.items()}, _MOST_BYTES):
        batch = [by_path[path] for path in paths]
        for file in batch:
            if file.name:
                hashes.check(file.local.path, file.name, f"{file.local.path} in the cache")
        bucket.send([_outgoing(file) for file in batch], functools.partial(_add, show, done_bytes))
        done_bytes += _size(batch)


def _add(show: Callable[[int], None], before_bytes: int, more_bytes: int) -> None:
    show(before_bytes + more_bytes)
