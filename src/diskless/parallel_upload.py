"""ParallelUpload: sends local files to a store in parts, several at once, and leaves no upload half done."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from diskless import native_api as native
from diskless.errors import Cancelled, DisklessError, TransferError
from diskless.local_files import LocalFile
from diskless.sources.checksums import DIGEST_BYTES, Checksum
from diskless.sources.s3_upload import Body, S3Upload, Uploaded

CONNECTIONS = 8
# A part is sent again as a whole, so it is not too large; a file that is no larger is sent in one request.
LEAST_BYTES, MOST_BYTES = 8 << 20, 64 << 20
PARTS_PER_CONNECTION = 4
_MOST_PARTS = 10_000  # of one upload, as S3 has it
_BUFFER_BYTES = 512 << 10
_TICK_S = 0.1


def algorithms() -> list[str]:
    """Return the checksums that a store may be sent, the best first: those that combine to that of the whole."""
    return ["CRC64NVME", "CRC32"] if native.has_checksums() else ["CRC32"]


class Sent(NamedTuple):
    """An object that the store has."""

    checksum: Checksum
    etag: str | None


@dataclass
class _File:
    local: LocalFile
    key: str
    left: int  # parts
    # Guards what follows.
    lock: threading.Lock = field(default_factory=threading.Lock)
    fd: int = -1
    upload: str | None = None
    parts: list[Uploaded] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)  # of the parts, by number
    sent: Sent | None = None


class _Part(NamedTuple):
    """`number` begins at 1, `end` is exclusive."""

    file: _File
    number: int
    start: int
    end: int
    alone: bool


class ParallelUpload:
    """One set of files on its way. `run` once.

    Bytes go from the file through a small buffer of each connection's, first for their checksum and then to the store,
    which compares it: what changes in between is refused.
    """

    def __init__(
        self,
        upload: S3Upload,
        files: Sequence[tuple[LocalFile, str]],
        stop: threading.Event,
        algorithm: str,
        conditions: Mapping[str, str],
        metadata: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._upload = upload
        self._metadata = metadata or {}  # of each object, by its key
        self._conditions = conditions  # on which each object is written
        self._stop = stop
        self._algorithm = algorithm
        self._files: list[_File] = []
        # Guards the three below.
        self._lock = threading.Lock()
        self._parts: deque[_Part] = deque()
        self._done_bytes = 0
        self._error: BaseException | None = None
        total_bytes = sum(local.size_bytes for local, _ in files)
        usual = max(LEAST_BYTES, min(MOST_BYTES, total_bytes // (CONNECTIONS * PARTS_PER_CONNECTION)))
        for local, key in files:
            size = max(usual, -(-local.size_bytes // _MOST_PARTS))
            starts = range(0, max(1, local.size_bytes), size)
            file = _File(local, key, len(starts))
            self._files.append(file)
            self._parts.extend(
                _Part(file, number, start, min(start + size, local.size_bytes), len(starts) == 1)
                for number, start in enumerate(starts, 1)
            )

    @property
    def sent_files(self) -> int:
        """How many objects the store has."""
        return sum(file.sent is not None for file in self._files)

    def run(self, show: Callable[[int], None]) -> list[Sent]:
        """Send everything and return what the store has, in the order of the files.

        `show` is called ten times a second with the bytes that were sent. Where anything fails, this too, what is
        under way stops: raises the first error. Call `abort` then.
        """
        show(0)
        threads = []
        for number in range(min(CONNECTIONS, len(self._parts))):
            thread = threading.Thread(target=self._work, name=f"diskless-upload-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads for this user
                break
            threads.append(thread)
        try:
            if not threads:
                self._work()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_TICK_S)
                    if self._stop.is_set():
                        self._upload.close()  # the others may be waiting for an answer
                    show(self._done_bytes)
        except BaseException:
            self._stop.set()
            self._upload.close()
            raise
        finally:
            for thread in threads:
                thread.join()
            for file in self._files:
                _close(file)
        if self._error is not None:
            raise self._error
        show(self._done_bytes)
        return [file.sent for file in self._files if file.sent is not None]

    def abort(self) -> list[str]:
        """Abort the multipart uploads that are not complete; return the keys of those where that fails."""
        kept = []
        for file in self._files:
            if file.upload is not None and file.sent is None:
                try:
                    self._upload.abort(file.key, file.upload)
                except DisklessError:
                    kept.append(file.key)
        return kept

    def _work(self) -> None:
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        try:
            while not self._stop.is_set():
                with self._lock:
                    if not self._parts:
                        return
                    part = self._parts.popleft()
                self._send(part, buffer)
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()

    def _send(self, part: _Part, buffer: memoryview) -> None:
        file = part.file
        with file.lock:
            if file.fd < 0:
                file.fd = _open(file.local)
        body = self._body(part, buffer)
        etag = None
        if part.alone:
            etag = self._upload.put(file.key, body, self._conditions, self._metadata.get(file.key, {}))
        else:
            with file.lock:
                if file.upload is None:
                    file.upload = self._upload.create(file.key, self._algorithm, self._metadata.get(file.key, {}))
                upload = file.upload
            uploaded = self._upload.put_part(file.key, upload, part.number, body)
        with file.lock:
            file.left -= 1
            if not part.alone:
                file.parts.append(uploaded)
                file.sizes[part.number] = body.size_bytes
            if file.left == 0:
                file.local.check(file.fd)
                if not part.alone and file.upload is not None:
                    checksum = self._whole(file, buffer)
                    size = file.local.size_bytes
                    etag = self._upload.complete(file.key, file.upload, file.parts, checksum, size, self._conditions)
                    file.sent = Sent(checksum, etag)
                else:
                    file.sent = Sent(body.checksum, etag)
                _close(file)
        with self._lock:
            self._done_bytes += body.size_bytes

    def _body(self, part: _Part, buffer: memoryview) -> Body:
        file, crc, sha256 = part.file, 0, hashlib.sha256() if self._upload.signs_bodies else None
        for piece in self._read(file, part.start, part.end, buffer):
            crc = self._crc(piece, crc)
            if sha256 is not None:
                sha256.update(piece)
        digest = sha256.hexdigest() if sha256 is not None else "UNSIGNED-PAYLOAD"
        size = part.end - part.start
        return Body(size, self._checksum(crc), digest, lambda: self._read(file, part.start, part.end, buffer))

    def _whole(self, file: _File, buffer: memoryview) -> Checksum:
        crc = 0
        if native.has_checksums():
            for part in sorted(file.parts):
                of_part = int.from_bytes(part.checksum.digest, "big")
                crc = native.crc_combine(self._algorithm, crc, of_part, file.sizes[part.number])
        else:
            for piece in self._read(file, 0, file.local.size_bytes, buffer):
                crc = self._crc(piece, crc)
        return self._checksum(crc)

    def _crc(self, piece: memoryview, crc: int) -> int:
        return native.crc(self._algorithm, piece, crc) if native.has_checksums() else zlib.crc32(piece, crc)

    def _checksum(self, crc: int) -> Checksum:
        return Checksum(self._algorithm, crc.to_bytes(DIGEST_BYTES[self._algorithm], "big"))

    def _read(self, file: _File, start: int, end: int, buffer: memoryview) -> Iterator[memoryview]:
        """Yield the bytes of a file in one buffer, again and again."""
        while start < end:
            if self._stop.is_set():
                raise Cancelled("the upload was stopped")
            try:
                count = os.preadv(file.fd, [buffer[: end - start]], start)
            except OSError as error:
                raise TransferError(f"{file.local.path} cannot be read at byte {start}: {error.strerror}") from None
            if count == 0:
                file.local.check(file.fd)
                raise TransferError(f"{file.local.path} ends at byte {start} of {file.local.size_bytes}")
            yield buffer[:count]
            start += count


def _open(local: LocalFile) -> int:
    try:
        fd = os.open(local.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise TransferError(f"{local.path} cannot be read: {error.strerror}") from None
    try:
        local.check(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _close(file: _File) -> None:
    if file.fd >= 0:
        os.close(file.fd)
        file.fd = -1
