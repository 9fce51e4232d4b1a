"""Job: one load of a URL into RAM. A prefetch starts it, Mounts join it, and it holds its bytes for them."""

from __future__ import annotations

import io
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from diskless import kept
from diskless import native_api as native
from diskless.errors import (
    BudgetExceeded,
    Cancelled,
    DescriptorLimit,
    DisklessError,
    IsAPrefix,
    ObjectChanged,
    TransferError,
    again,
)
from diskless.events import Dropped, EventFunction, FileComplete
from diskless.filling import Filling
from diskless.forks import LOCK, at_fork
from diskless.loader.concurrency import FIRST, MOST
from diskless.loader.plan import MOST_BYTES
from diskless.progress import Display
from diskless.ram.file import FileKey, RamFile
from diskless.ram.store import Store, Wanted, kept_bytes
from diskless.selection import select
from diskless.stats import Meter, Stats

if TYPE_CHECKING:
    from diskless.loader import client
    from diskless.sources import Object, SourceSpec

_log = logging.getLogger("diskless")
# How often a job that waits for another's files looks whether it was cancelled.
_CANCEL_POLL_S = 0.1
# With so much memory to spare there may be more connections than the first eight.
_ROOMY_BYTES = 512 << 20


class Request(NamedTuple):
    """What is to be loaded: equal requests share one job."""

    url: str
    identity: str
    allow_patterns: tuple[str, ...] | None
    ignore_patterns: tuple[str, ...] | None
    backing: str
    verify: bool = False
    private: int = 0  # not 0: shared with nobody, and read through a window


class Job:
    """A load that runs in a thread of its own; made by `prefetch` and shared by every Mount of the same request.

    It holds its bytes until `close`, or until the last Mount that joined it closes.
    """

    def __init__(
        self,
        request: Request,
        spec: SourceSpec,
        store: Store,
        budget_bytes: int | None,
        budget_timeout_s: float,
        show: Display,
        on_event: EventFunction | None = None,
        *,
        lazy: bool = False,
        most_part_bytes: int | None = None,
    ) -> None:
        self.request = request
        self.url = spec.display
        self.place = spec.url.place
        self.store = store
        self._spec = spec
        self.budget_bytes = budget_bytes
        self._budget_timeout_s = budget_timeout_s
        self._display = show
        self._on_event = on_event
        self._most_part_bytes = most_part_bytes or MOST_BYTES
        # Guarded by LOCK: who needs this job, and what it holds for them.
        self.mounts = 0
        self.held = False
        self.kept = False  # by `ramcache::`
        self.aside = False  # nobody joins it any more
        self.single = False  # nobody wants more than one object
        self.windowed = False  # its one file is read through a window, and never there as a whole
        self.shown = False  # by a Mount that does not wait for all bytes
        self.lazy = lazy  # files are fetched when they are opened, until somebody wants all
        # When the store was last asked what it has, on the clock of `time.monotonic`.
        self.listed_at_s = time.monotonic()
        self.files: dict[str, RamFile] = {}
        self.objects: Sequence[Object] = ()  # what was listed for them
        self._claimed: list[RamFile] = []
        self._transfer: client.Job | None = None
        self.filling = Filling(store)
        self._cancelled = False
        self._thread: threading.Thread | None = None
        # Written by the thread that loads, read by anybody.
        self._stats = Stats(backing=store.backing.name)
        self._listed = threading.Event()  # `files` are known, or there is an error
        self._settled = threading.Event()
        # Of the process that loads, where this is a forked child of it.
        self._loading_pid: int | None = None

    @classmethod
    def join(cls, request: Request, make: Callable[[], Job]) -> tuple[Job, bool]:
        """Return the job of an equal request, or what `make` makes and True: then the caller has to `start` it.

        The caller holds LOCK. A lazy job that somebody joins who wants all is told so by `fetch_all`.
        """
        job = cls.joinable(request)
        if job is not None:
            return job, False
        job = _joinable[request] = make()
        _started.add(job)  # before a fork: a child must not join what only the parent's thread will load
        return job, True

    @staticmethod
    def joinable(request: Request) -> Job | None:
        """Return the job of an equal request, if there is one that has not failed."""
        job = _joinable.get(request)
        return job if job is not None and not job.failed else None

    def __repr__(self) -> str:
        state = "running" if not self._settled.is_set() else "failed" if self.filling.error else "complete"
        return f"<diskless.Job {self.url} {state}>"

    @property
    def stats(self) -> Stats:
        """What was done so far."""
        return self._stats

    @property
    def failed(self) -> bool:
        """Whether the load ended with an error."""
        return self._settled.is_set() and self.filling.error is not None

    @property
    def version(self) -> FileKey | None:
        """What names the one object that is loaded, and its version, where its store tells versions."""
        return _key(self.request.identity, self.objects[0]) if len(self.objects) == 1 else None

    @property
    def settled(self) -> bool:
        """Whether the load ended, well or not."""
        return self._settled.is_set()

    def start(self) -> None:
        """Begin to load; returns at once where threads can be started, and when all is done where they cannot."""
        with LOCK:
            if self.lazy and self.budget_bytes is not None:
                _budgeted.add(self)
        self._thread = threading.Thread(target=self._run, name="diskless-job", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # RLIMIT_NPROC counts threads too
            self._thread = None
            self._run()

    def end_unless_it_runs(self) -> None:
        """Fail a load whose `start` was interrupted, for those who may have joined it, unless its thread is there."""
        if not self._settled.is_set() and (self._thread is None or not self._thread.is_alive()):
            self._cancelled = True  # for the thread, too, which may be about to begin
            self._run()

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when every byte is in RAM; what a lazy load has not fetched yet is fetched now, and kept.

        Raises BudgetExceeded where that does not fit, TimeoutError when it takes longer than `timeout_s` seconds (the
        load goes on), or the load's own error.
        """
        if self._loading_pid is not None:
            self._wait_for_parent(timeout_s)
        else:
            self.fetch_all()
            if not self._settled.wait(timeout_s):
                raise self._timeout(timeout_s)
        if self.filling.error is not None:
            raise again(self.filling.error)

    def fetch_all(self) -> None:
        """Make a lazy load one of all files, of which none is dropped; BudgetExceeded where they do not fit.

        io.UnsupportedOperation for one that is read through a window.
        """
        if self.windowed and not self._settled.is_set():
            raise io.UnsupportedOperation(f"{self.url} is open with once=True, and never there as a whole")
        while self.lazy:
            try:
                return self._want_all()
            except BudgetExceeded as error:
                if not error.may_fit_later or not kept.drop_one():
                    raise

    def _want_all(self) -> None:
        with LOCK:
            if not self.lazy:
                return
            self.store.keep(self.files.values(), self.budget_bytes)
            self.lazy = False
            if self._transfer is not None:
                self._transfer.fetch_all()
            _tell_room()

    def set_aside(self) -> None:
        """Let nobody join any more: what it loads is not what the store has now."""
        with LOCK:
            self.aside = True
            self._forget()

    def _set_aside_if_changed(self, error: DisklessError) -> None:
        """Before who reads is told of the error: who then loads again gets the new version.

        Who opens a path of a lazy Mount is told by the Loader, perhaps a moment sooner.
        """
        if isinstance(error, ObjectChanged):
            self.set_aside()

    def is_current(self) -> bool:
        """Ask the store whether the one object of this job is still the version that was loaded."""
        from diskless.loader import client

        asked_at_s = time.monotonic()
        with client.Job(self._spec) as asking:
            listing = asking.list()
        with LOCK:
            file = self.files.get("")
        if file is None or not listing.is_object:
            return False
        key = _key(self.request.identity, listing.objects[0])
        if key is None or key not in (file.key, file.later_key):
            return False
        self.listed_at_s = asked_at_s
        return True

    def wait_for_names(self) -> None:
        """Return when it is known which files there will be, and their memory is set aside; raises as `wait` does."""
        self._listed.wait()
        if self.filling.error is not None:
            raise again(self.filling.error)

    def as_prefix(self) -> IsAPrefix:
        """Return what to tell who wants the one object that this is not."""
        return IsAPrefix(f"{self.url} is no object but a prefix: open one of those below it, or mount it")

    def _wait_for_parent(self, timeout_s: float | None) -> None:
        """In a forked child: poll, since nothing here is told when the parent's Loader has fetched a file."""
        until = time.monotonic() + timeout_s if timeout_s is not None else None
        for file in self.files.values():
            if file.lazy:
                native.gate_ask(file.gate)
        for path, file in self.files.items():
            while not file.complete and (opened := native.gate_opened(file.gate)) is not True:
                if opened is False or not _is_running(self._loading_pid):
                    raise TransferError(f"{self.url}: {path} is not complete, and the process that loaded it gave up")
                if until is not None and time.monotonic() > until:
                    raise self._timeout(timeout_s)
                time.sleep(_CANCEL_POLL_S)

    def _timeout(self, timeout_s: float | None) -> TimeoutError:
        return TimeoutError(f"{self.url} is not loaded after {timeout_s} s; it goes on")

    def cancel(self) -> None:
        """Stop the load; who waits for it gets Cancelled."""
        with LOCK:
            self._cancelled = True
            transfer = self._transfer
        if transfer is not None:
            transfer.cancel()

    def close(self) -> None:
        """Let go of the bytes, unless Mounts still show them. An unfinished load is cancelled."""
        with LOCK:
            self.held = False
        self.leave()

    def release(self) -> None:
        """Give up the claim of one reader."""
        with LOCK:
            self.mounts -= 1
        self.leave()

    def leave(self) -> None:
        """End the job when nobody needs it any more."""
        with LOCK:
            if self.held or self.kept or self.mounts > 0:
                return
            self._forget()  # nobody joins a job that is ending
        self.cancel()
        if self._thread is not None and self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join()
        with LOCK:
            self._release()

    def _forget(self) -> None:
        if _joinable.get(self.request) is self:
            del _joinable[self.request]

    def _release(self) -> None:
        self.files = {}
        try:
            self._release_claimed()
        finally:
            self._release_claimed()  # what is left where Ctrl-C has come between two files
            _tell_room()

    def _release_claimed(self) -> None:
        while self._claimed:
            file = self._claimed[-1]
            del self._claimed[-1]
            self.store.release([file])

    def _connections(self) -> int:
        """Return how many connections the Loader may use at most: more need more buffers."""
        with LOCK:
            spare = self.store.spare_bytes(self.budget_bytes)
        return MOST if spare is None or spare > _ROOMY_BYTES else FIRST

    def _room(self) -> int:
        """Return what the budget leaves to lazy files."""
        assert self.budget_bytes is not None
        return max(0, self.budget_bytes - kept_bytes())

    def _run(self) -> None:
        started = time.monotonic()
        try:
            self._load(started)
        except BaseException as error:
            self.filling.error = error
            with LOCK:
                self._forget()
                if not self.shown:  # what a Mount shows is its to release
                    self._release()
        finally:
            self._display.close()
            self._listed.set()
            self._settled.set()
            self.store.notify()

    def _load(self, started: float) -> None:
        from diskless.loader import client

        self._raise_if_cancelled()
        with client.Job(self._spec) as transfer:
            with LOCK:
                self._transfer = transfer
            self._raise_if_cancelled()
            listing = transfer.list()
            if self.single and not listing.is_object:
                raise self.as_prefix()
            objects = select(listing, self.request.allow_patterns, self.request.ignore_patterns, self.url)
            self._stats = replace(
                self._stats,
                files=len(objects),
                size_bytes=sum(entry.size_bytes for entry in objects),
                refused=tuple(listing.refused),
            )
            pending: Sequence[Object] = objects
            held: dict[str, RamFile] = {}
            while pending:
                # A file that another job fills is waited for; should that fail, it is ours to fetch after all.
                files = self._fill(transfer, pending, started, listing.is_object)
                held.update((entry.path, file) for entry, file in zip(pending, files, strict=True) if file.complete)
                pending = [entry for entry, file in zip(pending, files, strict=True) if not file.complete]
                if pending and self.shown:
                    raise TransferError(
                        f"{self.url}: {pending[0].key} was being fetched by another load, which failed or was "
                        "cancelled; mount it again"
                    )
            with LOCK:
                self._transfer = None
                self.filling.end()
                self.files = {"": held[objects[0].path]} if listing.is_object else held
        seconds = time.monotonic() - started
        rate = self._stats.fetched_bytes / seconds
        self._stats = replace(
            self._stats, complete_files=len(objects), seconds=seconds, rate_bytes_per_s=rate, eta_s=0.0
        )
        self._display.update(self._stats.size_bytes, self._stats.size_bytes)

    def _raise_if_cancelled(self) -> None:
        if self._cancelled:
            raise Cancelled(f"the load of {self.url} was cancelled")

    def _fill(self, transfer: client.Job, objects: Sequence[Object], started: float, is_object: bool) -> list[RamFile]:
        """Hold all `objects`, fetch those that nobody else does, and return their files, settled."""
        wanted = [Wanted(_key(self.request.identity, entry), entry.size_bytes, entry.mtime_ns) for entry in objects]
        files, mine = self._claim_when_it_fits(wanted)
        try:
            if self.request.verify:
                self._verify_held(transfer, objects, wanted, files, mine)
            with LOCK:
                if not self.lazy:  # perhaps no more, since they were claimed
                    self.store.keep(files, self.budget_bytes)
                if not self._listed.is_set():
                    names = ["" if is_object else entry.path for entry in objects]
                    self.files = dict(zip(names, files, strict=True))
                    self.objects = objects
            self._fetch(transfer, [(objects[position], files[position]) for position in mine], started)
        finally:
            with LOCK:
                for position in mine:
                    self.store.settle(files[position], complete=False)
        for file in files:
            while not self.store.wait(file, _CANCEL_POLL_S):
                self._raise_if_cancelled()
        with LOCK:
            failed = [file for file in files if not file.complete and not self.shown]
            for file in failed:
                self._claimed.remove(file)
            self.store.release(failed)
        return files

    def _claim_when_it_fits(self, wanted: Sequence[Wanted]) -> tuple[list[RamFile], list[int]]:
        """Claim as soon as others have given back enough; raises BudgetExceeded where they do not in time."""
        until = time.monotonic() + self._budget_timeout_s
        while True:
            try:
                with LOCK:
                    return self._claim(wanted)
            except BudgetExceeded as error:
                if error.may_fit_later and kept.drop_one():
                    continue
                if not error.may_fit_later or time.monotonic() >= until:
                    raise
            except DescriptorLimit:
                if not kept.drop_one():
                    raise
                continue
            time.sleep(_CANCEL_POLL_S)
            self._raise_if_cancelled()

    def _claim(self, wanted: Sequence[Wanted]) -> tuple[list[RamFile], list[int]]:
        files, mine = self.store.claim(wanted, self.budget_bytes, lazy=self.lazy)
        self._claimed.extend(files)
        _tell_room()
        for position in mine:
            files[position].verified = self.request.verify
            if self.request.private:
                files[position].later_key = None
        return files, mine

    def _verify_held(
        self,
        transfer: client.Job,
        objects: Sequence[Object],
        wanted: Sequence[Wanted],
        files: list[RamFile],
        mine: list[int],
    ) -> None:
        """Compare files that a load without `verify` filled, or fills; what is not right is ours to fetch anew.

        Before any name shows: nobody who asked for `verify` may read them unverified.
        """
        while held := [position for position, file in enumerate(files) if not file.verified]:
            for position in held:
                while not self.store.wait(files[position], _CANCEL_POLL_S):
                    self._raise_if_cancelled()
            complete = [position for position in held if files[position].complete]
            wrong = set(held) - set(complete)
            with ExitStack() as opened:
                targets = [_readable(objects[position], files[position], opened) for position in complete]
                wrong.update(complete[number] for number in transfer.mismatches(targets))
            with LOCK:
                for position in wrong:
                    self.store.unshare(files[position])
                    self._claimed.remove(files[position])
                    self.store.release([files[position]])
                for position in set(complete) - wrong:
                    files[position].verified = True
                again = sorted(wrong)
                claimed, new = self._claim([wanted[position] for position in again])
                for position, file in zip(again, claimed, strict=True):
                    files[position] = file
                mine.extend(again[number] for number in new)

    def _fetch(self, transfer: client.Job, work: list[tuple[Object, RamFile]], started: float) -> None:
        from diskless.loader import client

        total, before = self._stats.size_bytes, self._stats.size_bytes - sum(entry.size_bytes for entry, _ in work)

        meter, complete = Meter(), set[int]()

        def on_progress(done_bytes: int) -> None:
            rate, counted = meter.rate(done_bytes), transfer.stats
            known = rate > 0 and not self.lazy
            self._stats = replace(
                self._stats,
                complete_files=self._stats.files - len(work) + len(complete),
                fetched_bytes=done_bytes,
                seconds=time.monotonic() - started,
                rate_bytes_per_s=rate,
                eta_s=(total - before - done_bytes) / rate if known else None,
                retries=counted.retries,
                refetched_bytes=counted.refetched_bytes,
                loaders_lost=counted.loaders_lost,
            )
            self._display.update(before + done_bytes, total)
            self.store.notify()

        def on_file(number: int) -> None:
            entry, file = work[number]
            self.filling.refusals.pop(entry.path, None)
            with LOCK:
                if not file.lazy:
                    self.store.settle(file, complete=True)
            if number not in complete:
                complete.add(number)
                if self._on_event is not None:
                    self._on_event(FileComplete(entry.path, entry.size_bytes))

        def on_drop(number: int) -> None:
            if number in complete:
                complete.remove(number)
                if self._on_event is not None:
                    entry = work[number][0]
                    self._on_event(Dropped(entry.path, entry.size_bytes))

        def on_refusal(number: int, error: DisklessError) -> None:
            _log.warning("%s: %s cannot be opened now: %s", self.url, work[number][0].path, error)
            self._set_aside_if_changed(error)
            self.filling.refuse(number, error)

        def on_range_refusal(number: int, start: int, end: int, error: DisklessError) -> None:
            self._set_aside_if_changed(error)
            self.filling.refuse_range(number, start, end, error)

        with LOCK:
            self.filling.begin(transfer, work)
        if work:
            if self.request.private and not self._listed.is_set():
                self.windowed = True
            room = self._room() if self.budget_bytes is not None else None
            lazy = client.Lazy(on_refusal, on_drop, room, on_range_refusal) if self.lazy else None
            targets = [client.Target(entry, file.fd, -1 if self.windowed else file.gate) for entry, file in work]
            transfer.fetch(
                targets,
                on_progress,
                on_file,
                lazy,
                self._on_event,
                self._listed.set,  # who opens a file from now on may hold the GIL
                verify=self.request.verify,
                most_connections=self._connections(),
                most_part_bytes=self._most_part_bytes,
                windowed=self.windowed,
            )
        self._listed.set()
        with LOCK:
            for _, file in work:
                self.store.settle(file, complete=True)
        self._stats = replace(self._stats, fetched_bytes=sum(entry.size_bytes for entry, _ in work))


def _readable(entry: Object, file: RamFile, opened: ExitStack) -> client.Target:
    """Return a complete file as what the Loader can read it through."""
    from diskless.loader import client

    if file.fd >= 0:
        return client.Target(entry, file.fd)
    assert file.staged_path is not None
    fd = os.open(file.staged_path, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, fd)
    return client.Target(entry, fd)


# The jobs that Mounts and prefetches may join, by request. Guarded by LOCK.
_joinable: dict[Request, Job] = {}
# All that somebody still has: some are joinable no more. Guarded by LOCK.
_started: weakref.WeakSet[Job] = weakref.WeakSet()
# Those whose files may be dropped for a budget.
_budgeted: weakref.WeakSet[Job] = weakref.WeakSet()


def _key(identity: str, entry: Object) -> FileKey | None:
    # A weak ETag may be that of other bytes, too (RFC 9110, 8.8.1), and so may S3's version "null".
    strong = entry.etag if entry.etag and not entry.etag.startswith("W/") else None
    version = " ".join(filter(None, (entry.version, strong)))
    return FileKey(identity, entry.key, version) if version else None


def _is_running(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _tell_room() -> None:
    """Tell the lazy jobs what their files may take now, where a budget says so. The caller holds LOCK."""
    for job in list(_budgeted):
        if job.lazy and job._transfer is not None:
            job._transfer.set_room(job._room())


def _forget_joinable_jobs() -> None:
    """In a forked child: what only the parent's threads would finish, and files that it may remove, are not ours."""
    for job in list(_started):
        if job._settled.is_set():
            if not job.store.backing.survives_fork:
                job._forget()
            continue
        job.filling.end()
        job._thread = job._transfer = None
        job._settled = threading.Event()  # a thread of the parent may have held the lock of the other one
        job._forget()
        if job.shown:  # the parent's Loader goes on, and what it fetches arrives here, too
            job._claimed, job._listed, job._loading_pid = list(job.files.values()), threading.Event(), os.getppid()
            job._listed.set()
        else:
            told = f"the load of {job.url} runs in the parent of this process; mount it again here"
            job._claimed, job.filling.error = [], Cancelled(told)
            job._settled.set()


at_fork(_forget_joinable_jobs)
