"""Verification: the checksum of each file, computed while its parts arrive in any order, before anybody may read it."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from diskless import native_api as native
from diskless.errors import Cancelled, InvalidOption
from diskless.loader.plan import Part
from diskless.sources.checksums import DIGEST_BYTES, Checksum, shown

if TYPE_CHECKING:
    from diskless.sources import Object, Source

_CRCS = ("CRC64NVME", "CRC32C", "CRC32")
_BUFFER_BYTES = 1 << 20


class Verification:
    """The checks of one transfer's files. Used by several threads."""

    def __init__(self, source: Source, files: Sequence[tuple[Object, int]], tick: Callable[[], None]) -> None:
        self._source = source
        self._files = files
        self._tick = tick
        # Guards the two below: of each file one thread asks the store, and the others wait for it.
        self._lock = threading.Lock()
        self._asking: dict[int, threading.Lock] = {}
        self._checks: dict[int, Check] = {}
        self._missing: dict[int, set[Part]] = {}

    def expect(self, missing: Iterable[Part]) -> None:
        """Note all parts of some files that will arrive, of which none is on its way; what came before is forgotten."""
        by_file: dict[int, set[Part]] = {}
        for part in missing:
            by_file.setdefault(part.file, set()).add(part)
        self._missing |= by_file
        for file, parts in by_file.items():
            if file in self._checks:
                self._checks[file].start_again(parts)

    def check(self, file: int) -> Check:
        """Return the check of a file. The store is asked at the first call; raises what `Source.checksum` does."""
        with self._lock:
            asking = self._asking.setdefault(file, threading.Lock())
        with asking:
            if file not in self._checks:
                entry, fd = self._files[file]
                expected = self._source.checksum(entry)
                missing = self._missing.get(file, ())
                self._checks[file] = Check(entry, expected, fd, missing, self._tick)
            return self._checks[file]


class Piece(NamedTuple):
    """The CRC of the bytes from `start` to `end`."""

    start: int
    end: int
    crc: int


class Check:
    """The bytes of one file beside the checksum that they should have.

    CRCs are computed from what arrives, and combined in the end; what came before, from another Loader, is read from
    the RAM file. Other digests go through the RAM file in order, as far as it is complete.
    """

    def __init__(
        self, entry: Object, expected: Checksum, fd: int, missing: Iterable[Part], tick: Callable[[], None]
    ) -> None:
        self.expected = expected
        self._fd = fd
        self._size_bytes = entry.size_bytes
        self._tick = tick
        self._combines = expected.algorithm in _CRCS and native.has_checksums()
        self._ends = expected.part_ends if expected.part_ends is not None else (entry.size_bytes,)
        # Guards the two below.
        self._lock = threading.Lock()
        self._missing = set(missing)
        self._pieces: list[Piece] = []
        # Held by the thread that reads the file, with all below.
        self._reading = threading.Lock()
        self._position = 0
        self._digest = _digest(expected.algorithm, entry.key)
        self._digests: list[bytes] = []

    def begin(self, start: int) -> Arriving:
        """Return what takes the bytes that arrive from `start` on."""
        return Arriving(self.expected.algorithm if self._combines else None, start, self._ends)

    def add(self, part: Part, arrived: Sequence[Piece]) -> None:
        """Take a part that is in place, and what was computed while it arrived."""
        with self._lock:
            self._missing.discard(part)
            self._pieces += arrived
        if not self._combines and self._reading.acquire(blocking=False):
            try:
                self._read_on()
            finally:
                self._reading.release()

    def start_again(self, parts: Iterable[Part]) -> None:
        """Forget all: these parts will arrive."""
        with self._reading, self._lock:
            self._missing, self._pieces = set(parts), []
            self._position, self._digests = 0, []
            self._digest = _digest(self.expected.algorithm, "")

    def result(self) -> bytes:
        """Return the digest of the file, all of which is in place, in the form that the store has one."""
        with self._reading:
            if self._combines:
                digests = self._combined()
            else:
                self._read_on()
                digests = self._digests
        if self.expected.part_ends is None:
            return digests[0]
        of_digests = _digest(self.expected.algorithm, "")
        of_digests.update(b"".join(digests))
        return of_digests.digest()

    def got(self, digest: bytes) -> str:
        """Write a result as the store would."""
        count = f"-{len(self._ends)}" if self.expected.part_ends is not None else ""
        return shown(self.expected.algorithm, digest) + count

    def _combined(self) -> list[bytes]:
        algorithm, position, digests = self.expected.algorithm, 0, []
        pieces = sorted(self._pieces)
        pieces.reverse()
        for end in self._ends:
            crc = 0
            while position < end:
                following = pieces[-1].start if pieces else end
                if position < min(following, end):
                    crc = self._crc_of_file(crc, position, min(following, end))
                    position = min(following, end)
                    continue
                piece = pieces.pop()
                crc = native.crc_combine(algorithm, crc, piece.crc, piece.end - piece.start)
                position = piece.end
            digests.append(crc.to_bytes(DIGEST_BYTES[algorithm], "big"))
        return digests

    def _crc_of_file(self, crc: int, start: int, end: int) -> int:
        for view in self._file(start, end):
            crc = native.crc(self.expected.algorithm, view, crc)
        return crc

    def _read_on(self) -> None:
        """Go on to the first part that is missing."""
        while True:
            with self._lock:
                until = min((part.start for part in self._missing), default=self._size_bytes)
            if self._position >= until and not (until == self._size_bytes and len(self._digests) < len(self._ends)):
                return
            end = self._ends[len(self._digests)]
            for view in self._file(self._position, min(until, end)):
                self._digest.update(view)
                self._position += len(view)
            if self._position == end:
                self._digests.append(self._digest.digest())
                self._digest = _digest(self.expected.algorithm, "")
                if len(self._digests) == len(self._ends):
                    return

    def _file(self, start: int, end: int) -> Iterable[memoryview]:
        """Yield the bytes of the RAM file in one buffer, again and again."""
        buffer = memoryview(bytearray(min(_BUFFER_BYTES, end - start)))
        while start < end:
            count = os.preadv(self._fd, [buffer[: end - start]], start)
            if count == 0:  # it was taken away, since the transfer has failed
                raise Cancelled("the transfer ended while a file was verified")
            yield buffer[:count]
            start += count
            self._tick()


class Arriving:
    """The CRCs of bytes that arrive one after the other: one for each part of a composite object that they touch."""

    def __init__(self, algorithm: str | None, start: int, ends: Sequence[int]) -> None:
        import bisect

        self._algorithm = algorithm
        self._position = self._start = start
        self._ends = ends
        self._next = bisect.bisect_right(ends, start)  # of the ends, that of the part which `start` is in
        self._crc = 0
        self._done: list[Piece] = []

    @property
    def pieces(self) -> list[Piece]:
        """What came so far."""
        open_piece = [Piece(self._start, self._position, self._crc)] if self._position > self._start else []
        return self._done + open_piece

    def feed(self, chunk: object) -> None:
        """Take the next bytes."""
        if self._algorithm is None:
            return
        view = memoryview(chunk)  # type: ignore[arg-type]  # obstore's chunks are buffers
        while view:
            end = self._ends[self._next]
            mine = view[: end - self._position]
            self._crc = native.crc(self._algorithm, mine, self._crc)
            self._position += len(mine)
            view = view[len(mine) :]
            if self._position == end:
                self._done.append(Piece(self._start, end, self._crc))
                self._start, self._crc = end, 0
                self._next += 1


class _Digest(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    """A CRC that is updated as hashlib's digests are."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._crc = 0

    def update(self, data: bytes | memoryview, /) -> None:
        if native.has_checksums():
            self._crc = native.crc(self._algorithm, data, self._crc)
        else:
            self._crc = zlib.crc32(data, self._crc)

    def digest(self) -> bytes:
        return self._crc.to_bytes(DIGEST_BYTES[self._algorithm], "big")


def _digest(algorithm: str, key: str) -> _Digest:
    if algorithm in _CRCS:
        if algorithm != "CRC32" and not native.has_checksums():
            raise InvalidOption(
                f"verify=True: {key} has a checksum {algorithm}, which only diskless's native library computes, and it "
                "was not built for this system. Load it without verify"
            )
        return _Crc(algorithm)
    return hashlib.new(algorithm, usedforsecurity=False)


def mismatches(source: Source, files: Sequence[tuple[Object, int]], tick: Callable[[], None]) -> list[int]:
    """Return the numbers of those files, all of whose bytes are in place, that are not what the store has."""
    checks = Verification(source, files, tick)
    return [file for file in range(len(files)) if (check := checks.check(file)).result() != check.expected.digest]
