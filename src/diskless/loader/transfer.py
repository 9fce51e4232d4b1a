"""Transfer: moves parts of objects into RAM files, several at once, and retries what is missing."""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from diskless.errors import Cancelled, ChecksumMismatch, DisklessError, SourceUnavailable, TransferError
from diskless.loader.concurrency import FIRST, MOST, Concurrency
from diskless.loader.pending import Pending
from diskless.loader.plan import LEAST_BYTES, MOST_BYTES, Part
from diskless.window import place

if TYPE_CHECKING:
    from diskless.loader.trace import Trace
    from diskless.loader.verification import Piece, Verification
    from diskless.loader.watch import Watch
    from diskless.sources import Object, Source

# A part may fail this often in a row without a byte of progress. A whole transfer has more, and one more for each part
# that arrives, but not without end.
ATTEMPTS = 6
RETRIES = 200
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
REPORT_INTERVAL_S = 0.1
# After so many bytes it is looked at first whether there is still room for the rest: small transfers do without.
_FIRST_LOOK_BYTES = 8 << 20

# How Python and obstore's runtime say it; once that could not start, it says the last to whoever comes next.
_NO_THREAD = ("can't start new thread", "can't spawn worker thread", "PoisonError")

# Called with the number of a file when all its bytes are there and verified, before they are reported.
OnFile = Callable[[int], None]
# Called with the number of a lazy file that cannot be had now, and why.
OnFailure = Callable[[int, BaseException], None]


class Happened(NamedTuple):
    """What is reported of a transfer: bytes written and retries so far; since the last report, the files of which no
    part counts any more, then the parts that were completed."""

    done_bytes: int
    retries: int
    dropped: Sequence[int]
    parts: Sequence[Part]


# Returns False when it could not be delivered now: it comes again with the next call.
Report = Callable[[Happened], bool]


class Transfer:
    """One set of objects on its way. `start`, then the outcome goes to `on_end`, once: None, or the first error.

    With `on_failure` it is lazy: a file is fetched when `hurry` asks for it, and one that cannot be had is told there
    and ends nothing, until `fetch_all` asks for the rest. With `windowed` a file has a window of its object's bytes;
    who asks sees to it that nothing is written over which is still to be read.

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
        on_failure: OnFailure | None = None,
        *,
        verify: bool = False,
        most_connections: int = MOST,
        most_part_bytes: int = MOST_BYTES,
        windowed: bool = False,
        trace: Trace | None = None,
    ) -> None:
        self._trace = trace
        self._source = source
        self._files = files
        self._report = report
        self._on_file = on_file
        self._on_failure = on_failure
        self._on_end = on_end
        self._windowed = windowed
        self._stop = threading.Event()
        # Guards everything below. Bytes are moved without it.
        self._lock = threading.Lock()
        # A Source may know how many there have to be.
        fixed = getattr(source, "concurrency", None)
        self._concurrency = Concurrency(fixed or FIRST, fixed or most_connections)
        self._pending = Pending(missing, most_part_bytes)
        self._failed: dict[int, BaseException] = {}
        self._done_bytes = 0
        self._look_at = _FIRST_LOOK_BYTES
        self._watch: Watch | None = None
        self._completed: list[Part] = []
        self._dropped: list[int] = []
        self._awaited = False  # somebody waits for ranges: each part is told at once
        self._arrived = 0
        self._retries = 0
        self._reported_at = 0.0
        self._settled = False
        self._workers = 0
        self._ended = threading.Event()
        # Files that are fetched again since they were not what the store has.
        self._again: set[int] = set()
        self._verification: Verification | None = None
        if verify:
            from diskless.loader.verification import Verification  # late: most transfers do without

            self._verification = Verification(source, files, self._tick)
        _transfers.add(self)

    @property
    def unwritten_bytes(self) -> int:
        """Bytes that were asked for and are still to be written."""
        with self._lock:
            return self._pending.unwritten_bytes()

    def unwritten(self, file: int) -> int:
        """Return how many bytes of a file were asked for and are still to be written."""
        with self._lock:
            return self._pending.unwritten_bytes(file)

    @property
    def ended(self) -> bool:
        """Whether nothing will be written any more."""
        return self._ended.is_set()

    def start(self) -> None:
        """Start the connections; raises RuntimeError when not a single thread can be started."""
        if self._on_failure is None:
            self._ask_all()

    def hurry(self, files: Collection[int]) -> None:
        """Fetch what is missing of these files next: somebody waits for them."""
        with self._lock:
            if parts := self._pending.hurry(files):
                self._begin(parts)

    def ask(self, file: int, start: int, end: int) -> None:
        """Fetch these bytes of a file next, and tell as soon as they are there: somebody waits for them."""
        with self._lock:
            self._awaited = True
            if self._verification is not None:  # which counts on the parts as they are
                start, end = 0, self._files[file][0].size_bytes
            self._begin(self._pending.ask_range(file, start, end))

    def waits(self, file: int, start: int = 0, end: int | None = None) -> int:
        """Return how many bytes of a file, or of a range of it, nobody has asked for yet."""
        with self._lock:
            end = self._files[file][0].size_bytes if end is None else end
            return self._pending.unasked_bytes(file, start, end)

    def fetch_all(self) -> None:
        """Fetch the rest of a lazy transfer too; from now on a file that cannot be had is an error of the whole."""
        with self._lock:
            self._on_failure = None
        self._ask_all()

    def drop(self, file: int) -> None:
        """Note that the bytes of a complete file are gone: it is fetched again when it is asked for."""
        with self._lock:
            self._forget(file)
        self._tell(at_once=True)

    def cancel(self) -> None:
        """Stop at the next chunk."""
        self._stop.set()
        self._end_if_done()

    def join(self) -> None:
        """Return when nothing will be written any more."""
        self._ended.wait()

    def _ask_all(self) -> None:
        """Fetch what nobody has asked for, after all else; if there is nothing, the transfer may be done."""
        with self._lock:
            self._begin(self._pending.ask(self._pending.unasked, first=False))
        self._end_if_done()

    def _begin(self, parts: Sequence[Part]) -> None:
        """Expect these parts, which were queued, and start the connections that are wanted; the caller has the lock."""
        if self._verification is not None:
            self._verification.expect(parts)
        self._connect()

    def _connect(self) -> None:
        """Start the connections that are wanted; the caller holds the lock."""
        wanted = min(self._concurrency.connections, self._workers + len(self._pending))
        for number in range(self._workers, wanted):
            thread = threading.Thread(target=self._work, name=f"diskless-transfer-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                if self._workers == 0:
                    raise
                break
            self._workers += 1

    def _work(self) -> None:
        while (part := self._next()) is not None:
            try:
                self._fetch(part)
            except BaseException as error:
                with self._lock:
                    ends = self._on_failure is None
                    if not ends:
                        self._failed.setdefault(part.file, error)
                if ends:
                    self._stop.set()
                    self._settle(error)
                else:
                    self._finish(part)
        self._end_if_done()

    def _next(self) -> Part | None:
        """Return the part to fetch next; None where the connection is not needed any more."""
        with self._lock:
            needless = self._stop.is_set() or self._workers > self._concurrency.connections
            part = None if needless else self._pending.take()
            if part is None:
                self._workers -= 1
            return part

    def _end_if_done(self) -> None:
        with self._lock:
            stopped = self._stop.is_set()
            rest = len(self._pending) or self._pending.unasked or self._on_failure is not None
            if self._workers > 0 or (rest and not stopped):
                return
        self._settle(Cancelled("the transfer was cancelled") if stopped else None)
        self._ended.set()

    def _finish(self, part: Part) -> None:
        """Note that nothing more comes of a part; the last of its file says what became of that."""
        file = part.file
        with self._lock:
            error = self._failed.get(file)
            if error is None:
                self._arrived += 1
            else:
                self._pending.give_up(file)
            is_last = self._pending.end(part)
            if error is None and (not is_last or self._pending.wants(file)):  # perhaps nobody has asked for the rest
                self._completed.append(part)
                return
            if not is_last:
                return
            on_failure = self._on_failure
            if error is not None:
                # What has arrived is not counted on: a version that is gone may have sent some of it.
                del self._failed[file]
                self._forget(file)
        if error is None:
            if not self._matches(file):
                return
            self._on_file(file)
            with self._lock:
                # Unless it was dropped in between, and is wanted anew or not.
                if not self._pending.wants(file):
                    self._completed.append(part)
        elif on_failure is not None:
            on_failure(file, error)
        else:  # meanwhile all files are wanted
            self._stop.set()
            self._settle(error)

    def _settle(self, error: BaseException | None) -> None:
        with self._lock:
            if self._settled:
                return
            self._settled = True
            self._report(self._happened())
        self._on_end(error)

    def _fetch(self, part: Part) -> None:
        entry, _ = self._files[part.file]
        traced = self._trace.begin(part) if self._trace is not None else None
        position, attempts, pause_s = part.start, 0, FIRST_PAUSE_S
        check = arriving = None
        arrived: list[Piece] = []
        while position < part.end:
            before = position
            try:
                if self._verification is not None:
                    check = self._verification.check(part.file)
                    arriving = check.begin(position)
                for chunk in self._source.read(entry, position, part.end):
                    view = memoryview(chunk)  # obstore's chunks are buffers
                    if position + view.nbytes > part.end:
                        # Nothing of this answer can be trusted.
                        self._count(part.file, before - position)
                        position, arriving = before, None
                        raise SourceUnavailable(
                            f"the server sent more than bytes {before} to {part.end}, which were asked for; does a "
                            "proxy change what passes?"
                        )
                    self._write(part.file, view, position)
                    position += view.nbytes
                    if arriving is not None:
                        arriving.feed(view)
                    if self._stop.is_set():
                        return
                    if position < part.end:
                        self._tell()
                if position < part.end:
                    raise SourceUnavailable(
                        f"the answer ended {part.end - position} bytes early; does a proxy cut what passes?"
                    )
                arrived += arriving.pieces if arriving is not None else []
            except SourceUnavailable as error:
                arrived += arriving.pieces if arriving is not None else []
                if position > before:
                    attempts, pause_s = 0, FIRST_PAUSE_S
                attempts += 1
                with self._lock:
                    self._retries += 1
                    spent = self._retries > RETRIES + self._arrived
                    if error.asks_for_less:
                        self._concurrency.slow_down()
                if attempts >= ATTEMPTS or spent:
                    raise TransferError(
                        f"{entry.key}: bytes {position} to {part.end} of {entry.size_bytes} could not be fetched in "
                        f"{attempts} attempts{' (the retries of this transfer are used up)' if spent else ''}; "
                        f"the last cause: {error}"
                    ) from None
                if traced is not None:
                    traced.retry(position, error)
                # Jitter keeps many clients from coming back together.
                if self._stop.wait(pause_s * random.uniform(0.5, 1.5)):
                    return
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
        if check is not None:
            check.add(part, arrived)
        if traced is not None:
            traced.end()
        self._finish(part)
        # A large part is told at once: should the Loader die, it is not fetched again. So is the last.
        self._tell(at_once=part.end - part.start >= LEAST_BYTES or self._awaited or not len(self._pending))

    def _matches(self, file: int) -> bool:
        """Whether a file is what the store has. If not, it is fetched again, once: ChecksumMismatch after that."""
        if self._verification is None:
            return True
        entry, _ = self._files[file]
        check = self._verification.check(file)
        found = check.result()
        if found == check.expected.digest:
            self._again.discard(file)
            return True
        with self._lock:
            if file in self._again:
                self._again.discard(file)
                raise ChecksumMismatch(
                    f"{entry.key}: the {entry.size_bytes} bytes that came are not those of the object: their "
                    f"{check.expected.algorithm} is {check.got(found)} and should be {check.expected.shown}, in two "
                    "transfers. It may be damaged in the store, or something on the way changes bytes; compare with "
                    "another client, or upload it again"
                )
            self._again.add(file)
            self._forget(file)
            self._done_bytes -= entry.size_bytes
            self._retries += 1
            self._begin(self._pending.ask([file], first=True))
        if self._trace is not None:
            self._trace.retry_file(file, entry.size_bytes, f"its {check.expected.algorithm} is not the store's")
        return False

    def _forget(self, file: int) -> None:
        """Count on nothing of a file any more, nor let anybody who was told of parts; the caller holds the lock."""
        self._pending.begin_again(file, self._files[file][0].size_bytes)
        self._completed = [part for part in self._completed if part.file != file]
        self._dropped.append(file)

    def _tick(self) -> None:
        """Tell that the transfer goes on, while a file is read."""
        if self._stop.is_set():
            raise Cancelled("the transfer was cancelled")
        self._tell()

    def _write(self, file: int, view: memoryview, position: int) -> None:
        entry, fd = self._files[file]
        written = 0
        while written < view.nbytes:
            at, rest = position + written, view[written:]
            if self._windowed:
                at, most = place(at)
                rest = rest[:most]
            try:
                written += os.pwrite(fd, rest, at)
            except OSError as error:
                raise TransferError(f"{entry.key}: no room in RAM at byte {position + written}: {error}") from None
        self._count(file, view.nbytes)

    def _count(self, file: int, size_bytes: int) -> None:
        with self._lock:
            self._done_bytes += size_bytes
            self._pending.wrote(file, size_bytes)
            looks = self._done_bytes >= self._look_at
            if looks:
                self._look_at = self._done_bytes + _FIRST_LOOK_BYTES  # nobody else meanwhile, and again if this raises
        if looks:
            self._look_at = self._done_bytes + self._watched().look()

    def _watched(self) -> Watch:
        if self._watch is None:
            from diskless.loader.watch import Watch  # late: see there

            self._watch = Watch()
        return self._watch

    def _tell(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._reported_at < REPORT_INTERVAL_S:
            return
        with self._lock:
            if not at_once and now - self._reported_at < REPORT_INTERVAL_S:
                return  # another connection was faster
            self._reported_at = now
            self._concurrency.measure(self._done_bytes, waiting=len(self._pending))
            if not self._stop.is_set():
                self._connect()
            if self._report(self._happened()):
                self._completed, self._dropped = [], []

    def _happened(self) -> Happened:
        return Happened(self._done_bytes, self._retries, self._dropped, self._completed)


# Those of this process that somebody still uses.
_transfers: weakref.WeakSet[Transfer] = weakref.WeakSet()


def moving() -> list[Transfer]:
    """Return the transfers that may have bytes to write."""
    return [transfer for transfer in list(_transfers) if not transfer.ended]


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
