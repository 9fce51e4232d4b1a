"""copy_from_hub: copies a repository of the Hub to a mirror, through RAM, a few files at a time."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from diskless import local_files, selection
from diskless.caches.hub_json import HubFile
from diskless.caches.hub_layout import COMMIT
from diskless.mirroring.bucket import MirrorBucket, Outgoing
from diskless.mirroring.fetching import Fetching
from diskless.mirroring.hub import HubRepository
from diskless.progress import Progress, display
from diskless.sources import Listing, Object

# So much is fetched while as much is uploaded, unless a single file is larger, or an eighth of the memory that is left
# is less.
_MOST_BYTES, _MOST_FILES = 512 << 20, 64
# What is fetched meanwhile takes no more than so much of what is left.
_AHEAD = 0.75


@dataclass(frozen=True)
class Mirrored:
    """What a copy has done: all that it looked at, and what of that was not there yet."""

    url: str
    commit: str | None
    files: int
    size_bytes: int
    copied_files: int
    copied_bytes: int
    seconds: float


def copy_from_hub(
    name: str,
    url: str,
    *,
    allow_patterns: str | Sequence[str] | None = None,
    ignore_patterns: str | Sequence[str] | None = None,
    progress: Progress = None,
) -> Mirrored:
    """Copy a repository of the Hub to a mirror in S3, through RAM: nothing is written to the disk.

    The listing of the commit goes first, then files, each compared with the hash that the Hub has of it, and the name
    of the revision last: until that is there, nobody finds a half of it by its name. A copy that ended early goes on
    when it is made again: what is there with the right size and the same hash is left. Files go a few at a time, and
    each has to fit into memory as a whole; the next are fetched meanwhile, where they fit as well.

    Args:
        name: ``org/name`` or ``datasets/org/name``, with ``@revision`` after it for another than ``main``.
        url: such as ``s3://bucket/hub``, as `cache` takes it.
        allow_patterns, ignore_patterns: only, or without, the files that match; the mirror then has no others.
        progress: as for `mount`; a byte that is fetched and not uploaded yet counts half.

    Raises:
        InvalidOption, InvalidURL: an argument makes no sense.
        NotFound, AccessDenied, SourceUnavailable, TransferError: the Hub, or the store, does not give or take it.
        ChecksumMismatch: what the Hub sends is, twice, not what it says that the file is.
        BudgetExceeded: a file does not fit into memory.
        AlreadyExists: a directory was pushed to that place.
        MountPathError, BackingUnavailable: the cache of huggingface_hub cannot be in RAM here.
    """
    from diskless.caches.library_caches import cache

    started = time.monotonic()
    bucket = MirrorBucket(url)
    show = display(progress, f"{name} to {bucket.url}")
    try:
        repository = HubRepository(name)
        chosen = _chosen(repository, allow_patterns, ignore_patterns)
        there = bucket.objects(repository.folder)
        start = f"{repository.folder}/snapshots/{repository.commit}/"
        held = bucket.holding(there, {start + path: (file.size_bytes, file.etag) for path, file in chosen.items()})
        missing = {path: file for path, file in chosen.items() if start + path not in held}
        bucket.abort_left_behind(repository.folder)
        kept = {
            path: file
            for path, file in repository.files.items()
            if start + path in there and there[start + path].size_bytes == file.size_bytes
        }
        bucket.put(f"{repository.folder}/trees/{repository.commit}.json", listing({**kept, **chosen}))
        total_bytes = sum(file.size_bytes for file in chosen.values())
        done_bytes = total_bytes - sum(file.size_bytes for file in missing.values())
        # Also what huggingface_hub has beside the files, such as the cache of hf_xet, is in RAM. It stays open where
        # this fails: threads that still fetch would write to the disk.
        opened = cache(only="huggingface")
        _copy(repository, bucket, missing, start, lambda more_bytes: show.update(done_bytes + more_bytes, total_bytes))
        opened.close()
        if not COMMIT.fullmatch(repository.revision):
            bucket.put(f"{repository.folder}/refs/{repository.revision}", repository.commit.encode())
        show.update(total_bytes, total_bytes)
    finally:
        bucket.close()
        show.close()
    copied_bytes = sum(file.size_bytes for file in missing.values())
    at = f"{bucket.url}/{repository.folder}"
    seconds = time.monotonic() - started
    return Mirrored(at, repository.commit, len(chosen), total_bytes, len(missing), copied_bytes, seconds)


def listing(files: Mapping[str, HubFile]) -> bytes:
    """Return the listing of a commit as huggingface_hub writes it in `trees`.

    The hashes of Xet are left out: by them a client would go past the mirror.
    """
    told: dict[str, dict[str, object]] = {}
    for path, file in sorted(files.items()):
        told[path] = {"size": file.size_bytes, "blob_id": file.blob_id}
        if file.sha256:
            told[path] |= {"lfs_sha256": file.sha256, "lfs_size": file.size_bytes}
    return json.dumps({"format_version": 1, "files": told}, indent=1).encode()


def batches(sizes_bytes: Mapping[str, int], most_bytes: int) -> Iterator[list[str]]:
    """Yield the paths of files, as many at a time as fit into so many bytes, and at least one."""
    batch: list[str] = []
    total = 0
    for path, size_bytes in sizes_bytes.items():
        if batch and (total + size_bytes > most_bytes or len(batch) == _MOST_FILES):
            yield batch
            batch, total = [], 0
        batch.append(path)
        total += size_bytes
    if batch:
        yield batch


def _chosen(
    repository: HubRepository,
    allow_patterns: str | Sequence[str] | None,
    ignore_patterns: str | Sequence[str] | None,
) -> dict[str, HubFile]:
    allowed = selection.patterns("--allow", allow_patterns)
    ignored = selection.patterns("--ignore", ignore_patterns)
    entries = [Object(path, path, file.size_bytes, None, None, 0) for path, file in sorted(repository.files.items())]
    left = selection.select(Listing(entries, [], False), allowed, ignored, repository.name)
    return {entry.path: repository.files[entry.path] for entry in left}


def _hub_cache() -> str:
    from diskless.caches.libraries import huggingface

    return huggingface.hub()


def _room_bytes() -> int:
    """Return what is left of the memory."""
    status = os.statvfs(_hub_cache())
    return status.f_bavail * status.f_frsize


def _copy(
    repository: HubRepository,
    bucket: MirrorBucket,
    missing: Mapping[str, HubFile],
    start: str,
    show: Callable[[int], None],
) -> None:
    """Fetch files, a few at a time, upload them under the key `start`, and free them; the next are fetched meanwhile.

    `show` is called with the bytes that were copied; one that was not sent yet counts half.
    """
    sizes = {path: file.size_bytes for path, file in missing.items()}
    waiting = deque(batches(sizes, min(_MOST_BYTES, _room_bytes() // 8)))
    under_way: list[Fetching] = []  # what is uploaded, and what is fetched meanwhile
    over_bytes = 0

    def begin() -> None:
        directory = os.path.join(_hub_cache(), f"mirror-{len(waiting)}")
        under_way.append(Fetching(repository, {path: missing[path] for path in waiting.popleft()}, directory))

    def tell(sent_bytes: int = 0) -> None:
        show(over_bytes + (sum(batch.fetched_bytes for batch in under_way) + sent_bytes) // 2)

    try:
        while waiting or under_way:
            if not under_way:
                begin()
            batch = under_way[0]
            found = batch.wait(tell)
            if waiting and sum(sizes[path] for path in waiting[0]) <= _AHEAD * _room_bytes():
                begin()
            files = [Outgoing(local_files.find(found[path])[0], start + path, missing[path].etag) for path in found]
            bucket.send(files, tell)
            under_way.remove(batch)
            batch.free()
            over_bytes += batch.size_bytes
    finally:
        for batch in under_way:
            batch.free()
