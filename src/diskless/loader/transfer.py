"""Transfer: moves parts of objects into RAM files, several at once, and retries what is missing."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from diskless.errors import Cancelled, DisklessError, SourceUnavailable, TransferError
from diskless.loader.plan import LEAST_BYTES, Part, plan

if TYPE_CHECKING:
    from diskless.sources import Object, Source

CONNECTIONS = 8
# A part may fail this often in a row without a byte of progress; a whole transfer has more, but not without end.
ATTEMPTS = 6
RETRIES = 200
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
REPORT_INTERVAL_S = 0.1

# How Python and obstore's runtime say it; once that could not start, it says the last to whoever comes next.
_NO_THREAD = ("can't start new thread", "can't spawn worker thread", "PoisonError")

# Called with the number of a file when all its bytes are there, before they are reported.
OnFile = Callable[[int], None]
# Called with the bytes written so far, the parts completed since the last call, and how many retries there were;
# returns False when it could not deliver them now: they come again with the next call.
Report = Callable[[int, Sequence[Part], int], bool]


class Transfer:
    """One set of objects on its way. `start`, then the outcome goes to `on_end`, once: None, or the first error.

    After an error other connections may still be in the midst of an answer that stalls: `join` waits for them, and
    until then they may write to the descriptors.
    """

    def __init__(
        self,
        source: Source,
        files: Sequence[tuple[Object, int]],
        missing: Sequence[Part],
        report: Report,
        on_end: Callable[[BaseException | None], None],
        on_file: OnFile = lambda file: None,
    ) -> None:
        self._source = source
        self._files = files
        self._report = report
        self._on_file = on_file
        self._on_end = on_end
        self._stop = threading.Event()
        # Guards everything below. Bytes are moved without it.
        self._lock = threading.Lock()
        self._connections = getattr(source, "connections", CONNECTIONS)
        self._parts = deque(plan(missing, self._connections))
        # Parts of each file that are still to come.
        self._left = Counter(part.file for part in self._parts)
        self._done_bytes = 0
        self._completed: list[Part] = []
        self._retries = 0
        self._reported_at = 0.0
        self._settled = False
        self._workers = 0
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the connections; raises RuntimeError when not a single thread can be started."""
        wanted = max(1, min(self._connections, len(self._parts)))
        with self._lock:
            for number in range(wanted):
                thread = threading.Thread(target=self._work, name=f"diskless-transfer-{number}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    if self._workers == 0:
                        raise
                    break
                self._workers += 1

    def hurry(self, files: Collection[int]) -> None:
        """Fetch what is missing of these files next: somebody waits for them."""
        with self._lock:
            first = [part for part in self._parts if part.file in files]
            self._parts = deque(first + [part for part in self._parts if part.file not in files])

    def cancel(self) -> None:
        """Stop at the next chunk."""
        self._stop.set()

    def join(self) -> None:
        """Return when nothing will be written any more."""
        self._ended.wait()

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                with self._lock:
                    if not self._parts:
                        break
                    part = self._parts.popleft()
                self._fetch(part)
        except BaseException as error:
            self._stop.set()
            self._settle(error)
        with self._lock:
            self._workers -= 1
            last = self._workers == 0
        if last:
            self._settle(Cancelled("the transfer was cancelled") if self._stop.is_set() else None)
            self._ended.set()

    def _settle(self, error: BaseException | None) -> None:
        with self._lock:
            if self._settled:
                return
            self._settled = True
            self._report(self._done_bytes, self._completed, self._retries)
        self._on_end(error)

    def _fetch(self, part: Part) -> None:
        entry, fd = self._files[part.file]
        position, attempts, pause_s = part.start, 0, FIRST_PAUSE_S
        while position < part.end:
            before = position
            try:
                for chunk in self._source.read(entry, position, part.end):
                    position += self._write(entry, fd, chunk, position, part.end)
                    if self._stop.is_set():
                        return
                if position < part.end:
                    raise SourceUnavailable(f"the answer ended {part.end - position} bytes early")
            except SourceUnavailable as error:
                if position > before:
                    attempts, pause_s = 0, FIRST_PAUSE_S
                attempts += 1
                with self._lock:
                    self._retries += 1
                    spent = self._retries > RETRIES
                if attempts >= ATTEMPTS or spent:
                    raise TransferError(
                        f"{entry.key}: bytes {position} to {part.end} of {entry.size_bytes} could not be fetched in "
                        f"{attempts} attempts{' (the retries of this transfer are used up)' if spent else ''}; "
                        f"the last cause: {error}"
                    ) from None
                # Jitter keeps many clients from coming back together.
                if self._stop.wait(pause_s * random.uniform(0.5, 1.5)):
                    return
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
        with self._lock:
            self._left[part.file] -= 1
            whole = self._left[part.file] == 0
        if whole:
            self._on_file(part.file)
        with self._lock:
            self._completed.append(part)
        # A large part is told at once: should the Loader die, it is not fetched again.
        self._tell(at_once=part.end - part.start >= LEAST_BYTES)

    def _write(self, entry: Object, fd: int, chunk: object, position: int, end: int) -> int:
        view = memoryview(chunk)  # type: ignore[arg-type]  # obstore's chunks are buffers
        size = view.nbytes
        if position + size > end:
            raise TransferError(
                f"{entry.key}: the server sent more than bytes {position} to {end}, which were asked for"
            )
        written = 0
        while written < size:
            try:
                written += os.pwrite(fd, view[written:], position + written)
            except OSError as error:
                raise TransferError(f"{entry.key}: no room in RAM at byte {position + written}: {error}") from None
        with self._lock:
            self._done_bytes += size
        self._tell()
        return size

    def _tell(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            if not at_once and now - self._reported_at < REPORT_INTERVAL_S:
                return
            self._reported_at = now
            if self._report(self._done_bytes, self._completed, self._retries):
                self._completed = []


def known(error: BaseException) -> DisklessError:
    """Return an error of ours for anything that went wrong."""
    if isinstance(error, DisklessError):
        return error
    if any(words in str(error) for words in _NO_THREAD):
        return TransferError(
            "no thread can be started for the transfer: this user has as many processes and threads as it may "
            "(RLIMIT_NPROC). Raise the limit (`ulimit -u`)"
        )
    return TransferError(f"the transfer failed unexpectedly: {type(error).__name__}: {error}")
