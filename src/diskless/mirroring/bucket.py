"""MirrorBucket: the place in S3 that a mirror is at, as those who fill it see it."""

from __future__ import annotations

import contextlib
import logging
import threading
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from diskless.errors import AlreadyExists, DisklessError
from diskless.local_files import LocalFile
from diskless.parallel_upload import CONNECTIONS, ParallelUpload, algorithms
from diskless.sources import Object, manifest, resolve
from diskless.sources.checksums import Checksum
from diskless.sources.s3_upload import Body, ChecksumRefused, S3Upload

_log = logging.getLogger("diskless")
# The Hub's name of the bytes, in the metadata of each object: so a copy that goes on knows what is there already.
_HASH = "hub-etag"


class Outgoing(NamedTuple):
    """A file that goes to `path` below the mirror; `name` is the Hub's name of its bytes, if that is known."""

    local: LocalFile
    path: str
    name: str | None


class MirrorBucket:
    """Writes below `url` until `close`. Used by one thread.

    Raises InvalidURL where that is not in S3, AlreadyExists where other objects would not show.
    """

    def __init__(
        self, url: str, *, session: object | None = None, storage_options: Mapping[str, object] | None = None
    ) -> None:
        self._spec = resolve(url, session=session, storage_options=storage_options)
        self.url = self._spec.display.rstrip("/")
        key = self._spec.url.key
        self._prefix = key.rstrip("/") + "/" if key else ""
        self._stop = threading.Event()
        self._upload = S3Upload(self._spec, self._stop)
        # What is left to try of the checksums; None is a signature alone.
        self._checksums: list[str | None] = [*algorithms(), None]
        if self._upload.keys(self._prefix + manifest.NAME)[0]:
            raise AlreadyExists(
                f"{self.url} was pushed as a directory, and its {manifest.NAME} hides all other objects from readers: "
                "fill a mirror at another prefix, or remove the manifest"
            )

    def close(self) -> None:
        """End all connections."""
        self._upload.close()

    def objects(self, folder: str) -> dict[str, Object]:
        """Return what is below a folder of the mirror, by the paths below the mirror."""
        found = self._upload.objects(f"{self._prefix}{folder}/")
        return {entry.key[len(self._prefix) :]: entry for entry in found}

    def holding(self, there: Mapping[str, Object], wanted: Mapping[str, tuple[int, str]]) -> set[str]:
        """Return which of these paths have, of the `objects` that are there, the size and the Hub's name of the bytes.

        What was written without that name counts as other bytes.
        """
        sized = [path for path, (size, _) in wanted.items() if path in there and there[path].size_bytes == size]
        with ThreadPoolExecutor(CONNECTIONS, "diskless-names") as pool:
            told = pool.map(lambda path: self._upload.metadata(self._prefix + path).get(_HASH), sized)
            return {path for path, name in zip(sized, told, strict=True) if name == wanted[path][1]}

    def abort_left_behind(self, folder: str) -> None:
        """Abort the multipart uploads below a folder: of a copy that was killed, since one is made at a time."""
        with contextlib.suppress(DisklessError):  # not every caller may, nor every server can
            for key, upload in self._upload.uploads(f"{self._prefix}{folder}/"):
                _log.info("%s: a multipart upload that was left behind is aborted", key)
                self._upload.abort(key, upload)

    def send(self, files: list[Outgoing], show: Callable[[int], None]) -> None:
        """Upload files, with the best checksum that the store knows; `show` is called with the bytes that were sent."""
        pairs = [(file.local, self._prefix + file.path) for file in files]
        metadata = {self._prefix + file.path: {_HASH: file.name} for file in files if file.name}
        while True:
            algorithm = self._checksums[0]
            self._upload.sends_checksums = algorithm is not None
            sending = ParallelUpload(self._upload, pairs, self._stop, algorithm or algorithms()[0], {}, metadata)
            try:
                sending.run(show)
                return
            except ChecksumRefused as error:
                sending.abort()
                if len(self._checksums) == 1:
                    raise
                self._stop.clear()
                del self._checksums[0]
                _log.info("%s: what is under way is sent anew with %s", error, self._checksums[0] or "no checksum")
            except BaseException:
                sending.abort()
                raise

    def put(self, path: str, content: bytes, metadata: Mapping[str, str] | None = None) -> None:
        """Write a small object."""
        checksum = Checksum("CRC32", zlib.crc32(content).to_bytes(4, "big"))
        self._upload.put(self._prefix + path, Body.of(content, checksum), metadata=metadata or {})
