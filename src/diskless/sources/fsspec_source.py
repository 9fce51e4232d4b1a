"""FsspecSource: reads through any fsspec filesystem, in a thread of the user's process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from diskless.errors import DisklessError, NotFound, ObjectChanged, SourceUnavailable, TransferError
from diskless.sources import paths
from diskless.sources.filesystems import translated
from diskless.sources.spec import Listing, Object, SourceSpec
from diskless.sources.stored_checksum import WithoutChecksums

# Of one request to a filesystem that reads ranges by requests; each connection holds one.
_REQUEST_BYTES = 4 << 20
_CHUNK_BYTES = 512 << 10
# Those that are not asynchronous, and yet may be read by several threads at once.
_THREAD_SAFE = ("hf", "memory")
# What names one version of a file, and what only says when it was written.
_VERSIONS = (
    "ETag", "etag", "e_tag", "VersionId", "version_id", "versionId", "generation", "blob_id", "md5Hash", "content_md5",
)  # fmt: skip
_MOMENTS = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")
# Within this time a file can be written twice and have one time: some clocks tick in steps of two seconds.
_YOUNG_S = 3.0


class FsspecSource(WithoutChecksums):
    """A directory or one file of a filesystem. Used by as many threads at once as there are `connections`.

    A file is pinned by what the filesystem says of its version, and asked for that again after each range: what was
    replaced meanwhile is ObjectChanged. Where all it says is a time that may be that of two versions, or nothing, the
    bytes are never shared with another load.
    """

    def __init__(self, spec: SourceSpec) -> None:
        from fsspec import AbstractFileSystem

        self._spec = spec
        self._filesystem = spec.filesystem
        known = self._filesystem.protocol
        safe = any(name in _THREAD_SAFE for name in ((known,) if isinstance(known, str) else known))
        asynchronous = bool(getattr(self._filesystem, "async_impl", False))
        self._by_requests = asynchronous or safe
        self.concurrency = 8 if self._by_requests else 1
        # fsspec's own way opens a file for each range, which would read ahead.
        inherited = getattr(type(self._filesystem), "cat_file", None) is AbstractFileSystem.cat_file
        self._exactly = {"cache_type": "none"} if inherited and not asynchronous else {}
        # What was said of each file when it was listed.
        self._listed: dict[str, Mapping[str, Any]] = {}
        # Of a filesystem that reads from the beginning: the file that is open, and where it stands.
        self._open: tuple[str, int, Any] | None = None
        self._lock = threading.Lock()

    def list(self) -> Listing:
        filesystem, path = self._filesystem, self._spec.path
        try:
            filesystem.invalidate_cache()
            there = filesystem.info(path)
            alone = there.get("type") == "file"
            found = {there["name"]: there} if alone else filesystem.find(path, detail=True)
        except Exception as error:
            problem = translated(error, self._spec.display, filesystem.storage_options)
        else:
            return self._listing(str(there["name"]), alone, found)
        raise problem

    def _listing(self, root: str, alone: bool, found: Mapping[str, Mapping[str, Any]]) -> Listing:
        root = root.rstrip("/")
        entries: list[Object] = []
        refused: list[tuple[str, str]] = []
        for name, info in found.items():
            below = name.rpartition("/")[2] if alone else name.removeprefix(root).lstrip("/")
            if info.get("type") == "directory":
                continue
            if not isinstance(info.get("size"), int):
                refused.append((name, "its filesystem does not know its size"))
                continue
            self._listed[name] = info
            moment = _moment(info)
            entries.append(Object(name, below, info["size"], None, _version(info), int((moment or 0) * 10**9)))
        placed, odd = paths.place(entries)
        refused += odd
        if alone and refused:
            raise NotFound(f"{self._spec.display} cannot be a file here: {refused[0][1]}")
        if not placed and not refused:
            raise NotFound(f"nothing is below {self._spec.display}")
        return Listing(placed, refused, alone)

    def read(self, entry: Object, start: int, end: int) -> Iterator[Any]:
        what = f"{self._spec.display} ({entry.key})"
        position = start
        try:
            for chunk in self._requests(entry, start, end) if self._by_requests else self._stream(entry, start, end):
                position += len(chunk)
                yield chunk
            # What this range held is of the version that was listed if that is still the present one.
            self._check(entry, what)
        except FileNotFoundError:
            problem: DisklessError = ObjectChanged(f"{what} was deleted while it was read (at byte {position})")
        except DisklessError:
            raise
        except Exception as error:
            problem = translated(error, f"{what} at byte {position}", self._filesystem.storage_options)
        else:
            return
        raise problem

    def _requests(self, entry: Object, start: int, end: int) -> Iterator[bytes]:
        for position in range(start, end, _REQUEST_BYTES):
            until = min(position + _REQUEST_BYTES, end)
            chunk = self._filesystem.cat_file(entry.key, start=position, end=until, **self._exactly)
            if len(chunk) > until - position:
                raise TransferError(
                    f"{self._spec.display} ({entry.key}): the filesystem gave {len(chunk)} bytes for the range "
                    f"{position} to {until}: it, or its server, ignores ranges"
                )
            yield chunk
            if len(chunk) < until - position:
                raise SourceUnavailable(f"the answer ended {until - position - len(chunk)} bytes early")

    def _stream(self, entry: Object, start: int, end: int) -> Iterator[bytes]:
        """Go on where the last range ended: to seek may mean to decompress from the beginning."""
        with self._lock:
            key, position, file = self._open or ("", 0, None)
            self._open = None
        if file is None or (key, position) != (entry.key, start):
            if file is not None:
                file.close()
            file, position = self._filesystem.open(entry.key, "rb"), 0
            if start:
                file.seek(start)
            position = start
        while position < end:
            chunk = file.read(min(_CHUNK_BYTES, end - position))
            if not chunk:
                raise SourceUnavailable(f"the file ended {end - position} bytes early")
            position += len(chunk)
            yield chunk
        if position < entry.size_bytes:
            with self._lock:
                self._open = (entry.key, position, file)
        else:
            file.close()

    def _check(self, entry: Object, what: str) -> None:
        before = self._listed[entry.key]
        self._filesystem.invalidate_cache(self._filesystem._parent(entry.key))
        now = self._filesystem.info(entry.key)
        if now.get("size") != entry.size_bytes or not _same(before, now):
            raise ObjectChanged(f"{what} was replaced while it was read: load it again to get the new version")


def _same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two descriptions are of one version, by what both say; a listing may give finer times than a request."""
    versions = [name for name in _VERSIONS if before.get(name) and now.get(name)]
    if versions:
        return all(str(before[name]).strip('"') == str(now[name]).strip('"') for name in versions)
    first, second = _moment(before), _moment(now)
    if first is None or second is None:
        return True
    whole = first.is_integer() or second.is_integer()
    return int(first) == int(second) if whole else abs(first - second) < 1e-3


def _version(info: Mapping[str, Any]) -> str | None:
    """Return what names this version and no other one; None where nothing surely does."""
    for name in _VERSIONS:
        if info.get(name):
            return f"{name} {info[name]}"
    moment = _moment({name: value for name, value in info.items() if name != "created"})
    if moment is None or moment > time.time() - _YOUNG_S:
        return None
    return f"{moment} {info.get('size')} {info.get('ino', '')}"


def _moment(info: Mapping[str, Any]) -> float | None:
    """Return when the file was written, in seconds since the epoch."""
    from datetime import datetime, timezone

    for name in _MOMENTS:
        value = info.get(name)
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value.replace("Z", "+00:00"))
            except ValueError:
                continue
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
        if isinstance(value, (int, float)) and value > 0:
            return float(value)
    return None
