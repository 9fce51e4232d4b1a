"""Stream: an open file of ram://, as Python's own: buffered, with a descriptor, written in counted writes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
import time
from typing import NoReturn

from diskless.ram.root import Calls, Root

NO_PICKLE = (
    "ram:// files are in the memory of this process, so {0} cannot be sent to another one; give it the bytes, use "
    "a URL that it can read itself, or backing='directory:<path>' and the path there"
)


class _File(io.FileIO):
    """The descriptor. What is written goes by way of `calls`, so that what finds no room is ENOSPC."""

    def __init__(self, path: str, mode: str, calls: Calls, pending: Pending | None) -> None:
        self._calls = calls
        self._written = False

        def open_file(path: str, flags: int) -> int:
            fd = pending.open(flags) if pending is not None else calls.open(path, flags, 0o666)
            # Where no call is redirected FileIO takes a directory of the Tree for a file.
            if stat.S_ISDIR(calls.stat(fd).st_mode):
                os.close(fd)
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            return fd

        super().__init__(path, mode, opener=open_file)

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # of any buffer, as FileIO's
        if not self.writable():
            return super().write(data)  # raises what is usual
        self._written = True
        return self._calls.write(self.fileno(), data)

    def close(self) -> None:
        if self._written and not self.closed:
            # Versions are told apart by the time, and the kernel's goes on by whole ticks only.
            self._written = False
            now_ns = time.time_ns()
            with contextlib.suppress(OSError):
                os.utime(self.fileno(), ns=(now_ns, now_ns))
        super().close()


class Pending:
    """A file of a transaction: without a name until `commit`."""

    def __init__(self, path: str, calls: Calls, *, exclusive: bool, appends: bool) -> None:
        self._path = path
        self._calls = calls
        self._exclusive = exclusive
        self._appends = appends
        self._fd = -1

    def open(self, flags: int) -> int:
        """Make the file, with the bytes of the one that has the name where it is to be appended to."""
        calls = self._calls
        if self._exclusive and _exists(calls, self._path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._path)
        if not hasattr(os, "O_TMPFILE"):
            raise OSError(errno.EOPNOTSUPP, "transactions need files without a name (O_TMPFILE), which Linux has")
        kept = flags & (os.O_ACCMODE | os.O_APPEND | os.O_CLOEXEC)
        fd = calls.open(os.path.dirname(self._path), kept | os.O_TMPFILE, 0o666)
        try:
            if self._appends:
                self._copy_to(fd)
            self._fd = os.dup(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _copy_to(self, fd: int) -> None:
        try:
            source = self._calls.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            while data := os.read(source, 1 << 20):
                view = memoryview(data)
                while view:
                    view = view[self._calls.write(fd, view) :]
        finally:
            os.close(source)

    def commit(self) -> None:
        """Give the file its name, in one step, in place of what has it so far."""
        try:
            self._link(self._path)
        except FileExistsError:
            if self._exclusive:
                raise
            beside = os.path.join(os.path.dirname(self._path), f".{secrets.token_hex(8)}")
            self._link(beside)
            try:
                self._calls.rename(beside, self._path)
            except BaseException:
                self._calls.unlink(beside)
                raise
        self.discard()

    def _link(self, path: str) -> None:
        self._calls.link(f"/proc/self/fd/{self._fd}", path, src_dir_fd=self._fd)

    def discard(self) -> None:
        """Let the file go, unless it has its name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.discard()


class _Stream:
    """What all three have beside Python's own."""

    raw: _File

    def __init__(self, raw: _File, pending: Pending | None = None) -> None:
        super().__init__(raw)  # type: ignore[call-arg]  # of io's class, which each derives from, too
        self._pending = pending

    @property
    def size(self) -> int:
        """The bytes of the file, as fsspec's own files have it."""
        return os.fstat(self.raw.fileno()).st_size

    def commit(self) -> None:
        """Close the file of a transaction and let it appear.

        Raises FileExistsError if it was to be new and is no more, OSError as link(2) and rename(2) do.
        """
        self._of_a_transaction().commit()

    def discard(self) -> None:
        """Close the file of a transaction and drop it."""
        self._of_a_transaction().discard()

    def _of_a_transaction(self) -> Pending:
        if self._pending is None:
            raise RuntimeError("the file was not opened in a transaction: it has its name already")
        self.close()
        return self._pending

    def close(self) -> None:
        super().close()  # type: ignore[misc]  # of io's class

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(NO_PICKLE.format("an open one"))


class Reader(_Stream, io.BufferedReader):  # type: ignore[misc]  # io's `raw` is any stream's
    """A file that is read."""


class Writer(_Stream, io.BufferedWriter):  # type: ignore[misc]  # as above
    """A file that is written."""


class Updater(_Stream, io.BufferedRandom):  # type: ignore[misc]  # as above
    """A file that is read and written."""


Stream = Reader | Writer | Updater


def open_stream(path: str, mode: str, calls: Calls, *, autocommit: bool = True) -> Stream:
    """Open the file at the real `path` in a binary `mode` of open(); without `autocommit` one of a transaction.

    Raises ValueError for a mode that makes no sense, and OSError as open(2) does.
    """
    kind = "".join(sorted(mode.replace("b", "", 1).replace("+", "", 1)))
    if kind not in ("r", "w", "x", "a") or "b" not in mode:
        raise ValueError(f"mode {mode!r} is none of 'rb', 'wb', 'ab', 'xb', and these with a +")
    pending = None
    if not autocommit and kind != "r":
        pending = Pending(path, calls, exclusive=kind == "x", appends=kind == "a")
    file = _File(path, mode, calls, pending)
    if "+" in mode:
        return Updater(file, pending)
    return Reader(file) if kind == "r" else Writer(file, pending)


def open_unnamed(root: Root) -> io.FileIO:
    """Make a file without a name, to be written and read; its bytes are freed when it is closed."""
    path = f"{root.path}/unnamed"
    return _File(path, "w+b", root.calls, Pending(path, root.calls, exclusive=False, appends=False))


def _exists(calls: Calls, path: str) -> bool:
    try:
        calls.lstat(path)
    except FileNotFoundError:
        return False
    return True
