"""Handle: one object as an open file, which can be read while it streams."""

from __future__ import annotations

import atexit
import contextlib
import io
import itertools
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from diskless.errors import InvalidOption, ObjectChanged
from diskless.ram_reader import RamReader, end
from diskless.readahead import BUFFER_BYTES
from diskless.terms import Terms, check

if TYPE_CHECKING:
    from types import TracebackType

    from diskless.events import EventFunction
    from diskless.job import Job
    from diskless.paths import Mount
    from diskless.progress import Progress
    from diskless.upload_file import UploadFile

# Smaller than a Mount's, so that the first bytes of a file are there soon.
_PART_BYTES, _PART_BYTES_ONCE = 8 << 20, 4 << 20
_private = itertools.count(1)
_PYARROW_S = 0.25


class _Reader(io.BufferedReader):
    """What is closed with the last who has it, or a method of it: `open(url).read()` needs no File any more."""

    raw: RamReader

    def __del__(self) -> None:
        self.raw.forgotten = True
        self.close()


class File(io.BufferedIOBase):
    """An object, open for reading; made by `open`. Several threads may use it, as any file of Python's.

    A read waits for the bytes that it asks for. What is handed out as a number, a path or a buffer waits for all of
    them first, since nobody can make the kernel wait later.

    After a read that failed it has no position: a seek from the beginning or the end gives it one.

    It is no `io.BufferedReader`, though it reads by one: numpy would read what is one and has a path by that, from its
    beginning.
    """

    blocksize = BUFFER_BYTES  # as fsspec's files say how much they read at once
    _mount: Mount | None = None  # guarded by the lock

    def __init__(self, url: str, arguments: Mapping[str, Any], raw: RamReader) -> None:
        self._url = url
        self._arguments = arguments
        self._raw = raw
        _alive.add(self)
        self._reader = reader = _Reader(raw, BUFFER_BYTES)
        self._lock = threading.Lock()
        # Bound here, so that a small read costs no more than one of a file on a disk.
        for name in ("read", "read1", "readinto", "readinto1", "readline", "peek", "seek", "tell"):
            setattr(self, name, getattr(reader, name))

    @property
    def url(self) -> str:
        """The URL that was opened, without what is secret in it."""
        return self._raw.name

    name = url
    mode = "rb"

    @property
    def job(self) -> Job:
        """The load that it reads from."""
        return self._raw.job

    def ask(self, start: int, end: int) -> None:
        """Have the bytes from `start` to `end` fetched next, as far as they are not there, without waiting for them."""
        self._raw.ask(start, end)

    def read_at(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end` (exclusive); nothing beyond is fetched, and the position stays."""
        return self._raw.read_at(start, end)

    @property
    def size(self) -> int:
        """The object's size in bytes."""
        return self._raw.size

    @property
    def closed(self) -> bool:
        return self._reader.closed

    def readable(self) -> bool:
        return self._reader.readable()

    def seekable(self) -> bool:
        return self._reader.seekable()

    def fileno(self) -> int:
        """Return the number of a descriptor of the whole file, for native code too; it stands where the file does."""
        return self._raw.descriptor(self._reader.tell())

    @property
    def path(self) -> str:
        """The path of the whole file, for whatever in this process wants one, until the file is closed.

        Raises ObjectChanged where it is another version by now that would show there.
        """
        self._raw.wait_for_all("path")
        if self._mount is None:
            with self._lock:
                self._mount = self._mount or self._mounted()
        return self._mount.path

    def _mounted(self) -> Mount:
        from diskless.paths import mount

        given = {name: value for name, value in self._arguments.items() if name not in ("load", "once")}
        mounted = mount(self._url, **given)
        if not mounted.shows(self.job):
            mounted.close()
            raise ObjectChanged(
                f"{self.url} was loaded anew since it was opened here, and its path would show what may be another "
                "version: close it and open it again"
            )
        return mounted

    def getbuffer(self) -> memoryview:
        """Return all bytes without a copy, read-only; they stay for as long as somebody holds the buffer."""
        return self._raw.buffer()

    def flush(self) -> None:
        self._reader.flush()

    def close(self) -> None:
        """Let go of the file; its bytes are freed unless others hold them. Closing twice does nothing."""
        self._reader.close()
        self._unmount(elsewhere=False)

    def _unmount(self, *, elsewhere: bool) -> None:
        mount, self._mount = self._mount, None
        if mount is not None:
            end(mount.close, elsewhere=elsewhere)

    def __del__(self) -> None:
        self._unmount(elsewhere=True)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        if self._arguments.get("once"):
            raise TypeError(f"{self.url} is open with once=True, and what it has read is gone: open it there instead")
        return _again, (self._url, dict(self._arguments), self.tell())

    def __repr__(self) -> str:
        return f"<diskless.File {self.url}{' closed' if self.closed else ''}>"


class PathFile(File):
    """One that also goes where a path is wanted; what takes files and paths takes it for a path, and waits for all."""

    def __fspath__(self) -> str:
        """Return the path, as long as nothing was read: who takes it begins at the beginning."""
        if self.tell() != 0:
            raise io.UnsupportedOperation(
                f"{self.url} stands at byte {self.tell()}, and who opens its path would begin at 0: seek(0) first, or "
                "take its .path"
            )
        return self.path


# Files that somebody has, closed or not.
_alive: weakref.WeakSet[File] = weakref.WeakSet()


@atexit.register
def _wait_for_pyarrow() -> None:
    """Let pyarrow's threads let go of the files that they have read, which they do a little after it has returned.

    A thread of C++ that asks for an interpreter which ends is ended in a way that aborts the process: "terminate called
    without an active exception", seen in a quarter of short programs that read parquet.
    """
    until = time.monotonic() + _PYARROW_S
    while "pyarrow" in sys.modules and len(_alive) and time.monotonic() < until:
        time.sleep(0.005)


def _again(url: str, arguments: dict[str, Any], position: int) -> File | UploadFile | io.TextIOWrapper:
    file = open(url, **arguments)
    file.seek(position)
    return file


def open(
    url: str,
    mode: str = "rb",
    *,
    load: str = "background",
    once: bool = False,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    verify: bool = False,
    session: object | None = None,
    storage_options: Mapping[str, object] | None = None,
    fs: object | None = None,
    backing: str = "auto",
    budget: int | str | None = None,
    budget_timeout_s: float = 0.0,
    progress: Progress = False,
    on_event: EventFunction | None = None,
) -> File | UploadFile | io.TextIOWrapper:
    """Open one object as a file in RAM, which can be read while it streams.

    The bytes are those of `mount` and `prefetch` for the same object, held once, and freed with the last who holds
    them.

    Args:
        url: of one object, as `mount` takes it.
        mode: ``"rb"`` for bytes, ``"r"`` or ``"rt"`` for text. ``"wb"`` (``"w"``) is written in RAM and uploaded to S3
            when it is closed, by `push`, in place of what is there; ``"xb"`` (``"x"``) only where nothing is. An
            exception in the ``with`` block uploads nothing. Of what follows, these take `session`, `storage_options`,
            `backing` and `progress`.
        load: ``"background"`` fetches the whole object, first what is read; ``"eager"`` returns when it is there;
            ``"lazy"`` fetches what is read, and ahead of a reader who goes on. A lazy file is no `os.PathLike`: what
            takes files and paths would take it for one, and fetch all. Its `path` does that, too.
        once: True, for readers that go from the front to the back: what was read is written over by what comes, so that
            a window of at most 64 MiB is in RAM and never the object. Going back behind the window is
            `io.UnsupportedOperation`; there is no `fileno`, `path` and `getbuffer`, and the file is no `os.PathLike`.
            What is in RAM already is read from there.
        encoding, errors, newline: of text, as the builtin `open` has them.
        verify, session, storage_options, fs, backing, budget, budget_timeout_s, progress, on_event: as for `mount`.
            With `verify` the file is returned when all of it was compared.

    Returns:
        A `File` (an `io.BufferedIOBase`; one that is neither lazy nor read once is a `PathFile`, which can be given for
        its path), an `UploadFile` (an `io.BufferedRandom`), or an `io.TextIOWrapper` of one.

    Raises:
        ValueError: `mode` makes no sense.
        IsAPrefix: the URL is that of a prefix.
        InvalidURL: it is none, or cannot be written.
        AlreadyExists: with ``"xb"``, when it is opened, or when it is closed.
        What `mount` raises; where the transfer fails later on, each read that needs what did not come raises that.

    Example:
        >>> with diskless.open("s3://models/state.pt") as file:  # doctest: +SKIP
        ...     state = torch.load(file)
    """
    kind, text = _check_mode(mode, encoding, errors, newline)
    if kind != "r":
        for name, given in (
            ("load", load != "background"),
            ("once", once is not False),
            ("verify", verify),
            ("fs", fs is not None),
            ("budget", budget is not None),
            ("budget_timeout_s", budget_timeout_s != 0),
            ("on_event", on_event is not None),
        ):
            if given:
                raise InvalidOption(f"{name}= is for reading, and mode={mode!r} writes")
        from diskless.upload_file import UploadFile

        written = UploadFile(
            url,
            exclusive=kind == "x",
            session=session,
            storage_options=storage_options,
            backing=backing,
            progress=progress,
        )
        if not text:
            return written
        try:
            return _TextUpload(written, mode, encoding, errors, newline)
        except BaseException:
            written.discard()
            raise
    if not isinstance(once, bool):
        raise InvalidOption(f"once= is True or False, not {once!r:.50}")
    if once and verify:
        raise InvalidOption(
            "once=True gives bytes out before all have come, and verify=True not until then: choose one"
        )
    arguments: dict[str, Any] = {
        "load": load,
        "verify": verify,
        "session": session,
        "storage_options": storage_options,
        "fs": fs,
        "backing": backing,
        "budget": budget,
        "budget_timeout_s": budget_timeout_s,
        "progress": progress,
        "on_event": on_event,
    }
    terms = check(url, **arguments)
    if not once and load == "lazy":
        file = lazily(terms, url, arguments, File)
    else:
        job = terms.join(
            keep=False,
            lazy=once,
            single=True,
            private=next(_private) if once else 0,
            most_part_bytes=_PART_BYTES_ONCE if once else _PART_BYTES,
        )
        with _released_on_error(job):
            if not once:
                job.fetch_all()
            if verify or load == "eager":
                job.wait()
            kind_of_file = File if once else PathFile
            file = kind_of_file(url, {**arguments, "once": once}, RamReader(job, once=once))
    return _Text(file, mode, encoding, errors, newline) if text else file


_FileT = TypeVar("_FileT", bound=File)


def lazily(terms: Terms, url: str, arguments: Mapping[str, Any], kind: type[_FileT], *, kept: bool = False) -> _FileT:
    """Return a file of which is fetched what is read; `arguments` are those of `open` by which it is opened again.

    With `kept` it may be one that `ramcache::` keeps, unasked whether the store has it still.
    """
    job = terms.join(keep=False, lazy=True, single=True, most_part_bytes=_PART_BYTES, kept=kept)
    with _released_on_error(job):
        if terms.verify:
            job.wait()
        return kind(url, {**arguments, "load": "lazy"}, RamReader(job, once=False))


@contextlib.contextmanager
def _released_on_error(job: Job) -> Iterator[None]:
    try:
        yield
    except BaseException:
        job.release()
        raise


class _Text(io.TextIOWrapper):
    """Text that tells its mode, as that of the builtin `open` does."""

    mode = ""

    def __init__(
        self, buffer: File | UploadFile, mode: str, encoding: str | None, errors: str | None, newline: str | None
    ) -> None:
        super().__init__(buffer, encoding, errors, newline)
        self.mode = mode


class _TextUpload(_Text):
    """Text that is uploaded as its bytes are."""

    buffer: UploadFile

    def __enter__(self) -> _TextUpload:
        self.buffer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.closed:
            self._flush_or_discard(error)
        self.buffer.__exit__(kind, error, trace)

    def close(self) -> None:
        if not self.closed:
            self._flush_or_discard(None)
            self.buffer.close()

    def _flush_or_discard(self, error: BaseException | None) -> None:
        """Write what is not written yet; in a forked child it is the parent's to write."""
        if error is not None or self.buffer.inherited:
            self.buffer.discard()
        else:
            self.flush()

    def __del__(self) -> None:
        with contextlib.suppress(ValueError):  # never made, or detached
            if not self.closed:
                self.buffer.__del__()  # which uploads nothing, and says so


def _check_mode(mode: str, encoding: str | None, errors: str | None, newline: str | None) -> tuple[str, bool]:
    """Return the mode's first letter, and whether it is one of text."""
    letters = sorted(mode) if isinstance(mode, str) else []
    kinds = [letter for letter in letters if letter in "rwx"]
    if len(kinds) != 1 or sorted({*letters} - {*kinds}) not in ([], ["b"], ["t"]) or len({*letters}) != len(letters):
        raise ValueError(f"mode={mode!r:.50} is none of 'rb', 'wb', 'xb', and 'r', 'w', 'x' for text")
    if "b" in letters and (encoding, errors, newline) != (None, None, None):
        raise ValueError(f"encoding=, errors= and newline= are for text, and mode={mode!r} is for bytes")
    return kinds[0], "b" not in letters
