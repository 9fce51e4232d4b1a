"""RamReader: reads a RAM file, complete or on its way, by waiting for the ranges that are read."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from diskless import kept
from diskless.errors import BudgetExceeded, TransferError
from diskless.forks import LOCK, is_held
from diskless.readahead import BUFFER_BYTES, Readahead
from diskless.strides import Strides
from diskless.window import Window, place

if TYPE_CHECKING:
    from diskless.job import Job
    from diskless.ram.file import RamFile

# A large read takes what has come in pieces of so much, while the rest comes.
_PIECE_BYTES = 16 << 20
# With once=True: fetched ahead, and read and still there. With a piece they are less than a window.
_AHEAD_BYTES, _BEHIND_BYTES = 40 << 20, (4 << 20) + BUFFER_BYTES
# How soon the Loader has told that a file was dropped.
_DROPPED_S = 0.05


class RamReader(io.RawIOBase):
    """One file of a job, from its first byte on. Closing it gives up the job's claim that the maker took.

    Used by one thread at a time.
    """

    mode = "rb"
    forgotten = False  # closed by nobody but the interpreter
    _fd = -1
    _claimed = False

    def __init__(self, job: Job, *, once: bool) -> None:
        job.wait_for_names()
        with LOCK:
            file = job.files.get("")
            if file is None:
                raise job.as_prefix()
            self._fd = _opened(file)
            while job.lazy and not job.settled and job.filling.is_dropped(file, self._fd):
                job.store.wait_for_bytes(_DROPPED_S)
        self.job = job
        self._file = file
        self._pid = os.getpid()
        self._position: int | None = 0
        self._sought = True  # and nothing was read from there: who buffers has no bytes that were before
        self._whole = False
        # With once=True, unless the file is one that others hold, too.
        self._window = Window() if job.windowed else None
        self._released = 0  # what lies before it may be written over
        self._readahead = Readahead(file.size_bytes, _AHEAD_BYTES if self._window else None)
        # Not with a budget: a guess might take the room of what is read.
        self._strides = Strides(file.size_bytes) if not once and job.budget_bytes is None else None
        self._forbids = once
        self._claimed = True

    @property
    def name(self) -> str:
        """The URL."""
        return self.job.url

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self._file.size_bytes

    def readable(self) -> bool:
        self._check()
        return True

    def seekable(self) -> bool:
        self._check()
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check()
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise ValueError(f"whence={whence!r:.20} is none of 0, 1, 2")
        base = self.tell() if whence == os.SEEK_CUR else self.size if whence == os.SEEK_END else 0
        if base + offset < 0:
            raise ValueError(f"{self.name}: there is no position {base + offset}")
        self._position, self._sought = base + offset, True
        return self._position

    def tell(self) -> int:
        self._check()
        if self._position is None:
            raise OSError(
                f"{self.name} has no position since a read of it failed, with whose buffer bytes were lost: seek from "
                "the beginning (0) or the end (2) first"
            )
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        start = self.tell()
        if not self._sought:
            self._position = None  # until the bytes are there
        count = self._read(view, start)
        self._position, self._sought = start + count, False
        if self._window:
            self._released = max(self._released, self._position - _BEHIND_BYTES)
        return count

    def _read(self, view: memoryview, start: int) -> int:
        end = min(start + len(view), self.size)
        if start >= end:
            return 0
        if start < self._released:
            raise io.UnsupportedOperation(
                f"{self.name} is open with once=True: what lies before byte {self._released} is gone, and {start} was "
                "asked for. Open it without once=True to go back"
            )
        if not self._whole:
            piece = min(end, start + _PIECE_BYTES)
            span = self._readahead.span(start, piece if self._window else end)
            if self._strides is not None and span is not None and span[0] == start:
                self._ask_ahead(self._strides, span)
            self._wait_for(start, piece, span)
            end = end if self._whole else piece
        return self._copy(view[: end - start], start)

    def readall(self) -> bytes:
        return _filled(max(0, self.size - self.tell()), lambda view, done: self.readinto(view))

    def descriptor(self, position: int) -> int:
        """Return a descriptor that stands at `position`, once all bytes are there."""
        self.wait_for_all("fileno")
        os.lseek(self._fd, position, os.SEEK_SET)
        return self._fd

    def buffer(self) -> memoryview:
        """Return all bytes, mapped."""
        import mmap

        self.wait_for_all("getbuffer")
        if self.size == 0:
            return memoryview(b"")
        mapped = mmap.mmap(self._fd, self.size, prot=mmap.PROT_READ)
        if hasattr(mmap, "MADV_DONTDUMP"):
            mapped.madvise(mmap.MADV_DONTDUMP)
        return memoryview(mapped)

    def wait_for_all(self, wanted: str) -> None:
        """Return when all bytes are there, for `wanted`, which needs them."""
        self._check_anywhere(wanted)
        if not self._whole:
            self._wait_for_whole()

    def close(self) -> None:
        if self.closed:
            return
        if self._claimed and not self._whole and not self.forgotten:
            self._look_whether_whole()
        super().close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._claimed:
            end(self.job.release, elsewhere=self.forgotten)

    def __del__(self) -> None:
        self.forgotten = True
        self.close()

    def _copy(self, into: memoryview, start: int) -> int:
        if self._fd < 0:
            raise ValueError("I/O operation on closed file")  # by another thread
        at = start
        if self._window:
            at, most = place(start)
            into = into[:most]
        count = os.preadv(self._fd, [into], at)
        if count == 0:
            raise TransferError(f"{self.name}: the RAM file ends at byte {start} of {self.size}")
        return count

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check_anywhere(self, wanted: str) -> None:
        """Raise where a file has no such thing, since it is there from the front to the back only."""
        self._check()
        if self._forbids:
            raise io.UnsupportedOperation(f"{self.name} is open with once=True, and has no {wanted}: open it without")

    def _wait_for(self, start: int, end: int, span: tuple[int, int] | None) -> None:
        """Wait for the bytes from `start` to `end`, and have those of `span` fetched."""
        job, file = self.job, self._file
        if file.complete or file.filler is not job.filling or self._pid != os.getpid():
            return self._wait_for_whole()
        while True:
            try:
                if self._window and span is not None:
                    self._window.make_way(*span, lambda first, last: job.filling.wait_for(file, first, last, None))
                if not job.filling.wait_for(file, start, end, span):
                    self._readahead.forget()
                break
            except BudgetExceeded:
                self._readahead.bound()
                if span == (start, end) and not kept.drop_one():
                    raise
                span = (start, end)
        self._look_whether_whole()

    def read_at(self, start: int, end: int) -> bytes:
        """Return these bytes; nothing beyond them is fetched, and the position stays. Several threads may call."""
        self._check_anywhere("read_at")
        first, last = max(0, start), min(end, self.size)
        if first >= last:
            return b""
        if not self._whole:
            self._wait_for(first, last, (first, last))
        return _filled(last - first, lambda view, done: self._copy(view, first + done))

    def ask(self, start: int, end: int) -> None:
        """Have a range fetched next, as far as it is not there, without waiting for it."""
        self._check_anywhere("ask")
        first, last = max(0, start), min(end, self.size)
        if first < last and not self._whole and self._file.filler is self.job.filling and self._missing(first, last):
            self.job.filling.ask(self._file, first, last)

    def _ask_ahead(self, strides: Strides, span: tuple[int, int]) -> None:
        """Have what is likely to be read soon fetched beside what is read now, which goes first."""
        ranges = strides.ahead(*span)
        for start, end in [span, *ranges] if ranges else []:
            self.ask(start, end)

    def _look_whether_whole(self) -> None:
        """A lazy load that has all it could want ends, and its file is as good as that of any other."""
        if not self._window and self._file.filler is self.job.filling and not self._missing(0, self.size):
            with contextlib.suppress(BudgetExceeded):  # then it stays one that may be dropped
                self.job.fetch_all()
                self._whole = True

    def _missing(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        with LOCK:
            return self.job.filling.missing(self._file, start, end)

    def _wait_for_whole(self) -> None:
        with LOCK:
            filler = None if self._file.complete else self._file.filler
        if filler is not None:
            filler.ask(self._file, 0, self.size)
        self.job.wait()
        with LOCK:
            # Another file, where the load that filled the first has failed.
            file = self.job.files[""]
            if file is not self._file:
                again = _opened(file)
                os.dup2(again, self._fd, inheritable=False)
                os.close(again)
                self._file = file
        self._whole = True


def end(leave: Callable[[], None], *, elsewhere: bool) -> None:
    """Call what ends a claim; in a thread of its own where this one holds LOCK, which the load's thread needs to end.

    `elsewhere` says that garbage is collected, in whatever thread in whatever state.
    """
    if sys.is_finalizing():
        return  # the process ends, and its claims with it; whoever waits for a thread now waits for ever
    if not elsewhere and not is_held():
        return leave()
    with contextlib.suppress(RuntimeError):  # there are no more threads for this user
        threading.Thread(target=leave, name="diskless-leave", daemon=True).start()


def _filled(size_bytes: int, read: Callable[[memoryview, int], int]) -> bytes:
    """Return bytes that `read(the rest, how many there are already)` fills in place: there is no other way."""
    store = io.BytesIO(bytes(size_bytes))
    with store.getbuffer() as view:
        done = 0
        while done < len(view):
            done += read(view[done:], done)
    return store.getvalue()


def _opened(file: RamFile) -> int:
    """Return a descriptor of its own for reading; while it is open no bytes are dropped. The caller holds LOCK."""
    return os.open(file.staged_path or f"/proc/self/fd/{file.fd}", os.O_RDONLY | os.O_CLOEXEC)
