"""Directory: the Backing of plain files in a real directory that the user names. No interposition."""

from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping

from diskless.errors import BackingUnavailable, MountPathError
from diskless.ram.budget import Limit, directory_limits
from diskless.ram.file import RamFile
from diskless.ram.names import Names, in_turn
from diskless.ram.root import Root
from diskless.ram.tree import absolute_names

_PREFIX = "diskless-"
_LOCK, _STAGING = ".lock", ".staging"


@contextlib.contextmanager
def _writable_parent(path: str) -> Iterator[None]:
    parent = os.path.dirname(path)
    if os.stat(parent).st_mode & 0o200:  # this process's own directory, in which ram:// writes at any moment
        yield
        return
    os.chmod(parent, 0o755)
    try:
        yield
    finally:
        os.chmod(parent, 0o555)


class _FileNames:
    """Makes names with the kernel's calls. Directories are read-only but for the moment in which they change."""

    def link(self, path: str, file: RamFile) -> None:
        assert file.staged_path is not None
        with _writable_parent(path):
            os.link(file.staged_path, path)

    def unlink(self, path: str) -> None:
        with _writable_parent(path):
            os.unlink(path)

    def make_directory(self, path: str) -> None:
        with _writable_parent(path):
            os.mkdir(path, 0o555)

    def remove_directory(self, path: str) -> None:
        with _writable_parent(path):
            os.rmdir(path)


class Directory:
    """Files appear complete (linked into place) and go when the last Mount that shows them closes.

    Each process works in a directory of its own below the one named, ``diskless-<pid>-…``, whose lock it holds while
    it lives; what a killed process left behind is removed by the next one.
    """

    survives_fork = False

    def __init__(self, path: str) -> None:
        self.name = f"directory:{path}"
        if not os.path.isabs(path):
            raise BackingUnavailable(f"backing='{self.name}' is a relative path: give an absolute one")
        self._base = path
        self._owner = os.getpid()
        self._home: str | None = None  # this process's own directory, while anything is in it
        self._lock_fd = -1
        self._made_base = False
        self._numbers = itertools.count()
        self._files = 0
        self._scratches: set[str] = set()
        self._root: Root | None = None
        self._names = Names(_FileNames())
        atexit.register(self._leave)

    def limits(self) -> list[Limit]:
        self._enter()
        return directory_limits(self._base)

    def allocate(self, size_bytes: int, mtime_ns: int) -> RamFile:
        home = self._enter()
        path = os.path.join(home, _STAGING, str(next(self._numbers)))
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, size_bytes)
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise
        self._files += 1
        return RamFile(size_bytes, mtime_ns, fd, staged_path=path)

    def settle(self, file: RamFile) -> None:
        if not file.complete:
            return
        os.fchmod(file.fd, 0o444)
        os.utime(file.fd, ns=(file.mtime_ns, file.mtime_ns))
        os.close(file.fd)
        file.fd = -1

    def discard(self, file: RamFile) -> None:
        if file.fd >= 0:
            os.close(file.fd)
            file.fd = -1
        if file.staged_path is not None and self._owns(file.staged_path):
            os.unlink(file.staged_path)
            file.staged_path = None
            self._files -= 1
            self._leave_if_empty()

    def check_at(self, at: str) -> str:
        raise MountPathError(
            f"at={at!r} needs the Tree: with backing='{self.name}' files can only be below that directory; "
            "use the path that the Mount gives"
        )

    def show(self, place: str, at: str | None, files: Mapping[str, RamFile]) -> str:
        if at is not None:
            self.check_at(at)
        home = self._enter()
        scheme, _, rest = place.partition("/")
        for top in in_turn(f"{home}/{scheme}"):
            path = f"{top}/{rest}"
            absolute = absolute_names(path, files)
            if not self._names.accept(home, path, absolute):
                continue
            with contextlib.suppress(FileExistsError):  # what was written to ram://
                self._names.show(home, path, absolute)
                return path
        raise AssertionError("unreachable: the names do not end")

    def hide(self, path: str, files: Mapping[str, RamFile]) -> None:
        if self._home is not None and self._owns(path):
            self._names.hide(path)

    def _owns(self, path: str) -> bool:
        """Whether this process made what is at `path`: a forked child leaves alone what is its parent's."""
        return os.getpid() == self._owner and path.startswith(f"{self._home}/")

    def make_scratch(self, at: str | None, budget_bytes: int | None) -> str:
        if at is not None:
            self.check_at(at)
        home = self._enter()
        while True:
            path = os.path.join(home, f"scratch-{next(self._numbers)}")
            with contextlib.suppress(FileExistsError):  # what was written to ram://
                os.mkdir(path)
                break
        self._scratches.add(path)
        return path

    def remove_scratch(self, path: str) -> None:
        # A forked child shares the parent's directory and must leave it alone.
        if os.getpid() != self._owner or path not in self._scratches:
            return
        self._scratches.remove(path)
        _remove_tree(path)
        self._leave_if_empty()

    def scratch_bytes(self) -> int:
        if os.getpid() != self._owner:
            return 0
        if self._root is None or self._root.path != self._home:
            return sum(_sizes(self._scratches).values())
        loaded = _sizes([os.path.join(self._home, _STAGING)])
        return sum(size for file, size in _sizes([self._home]).items() if file not in loaded)

    def root(self) -> Root:
        # A forked child goes on with its parent's.
        if self._root is None:
            self._root = Root(self._enter(), os, hidden=frozenset({_LOCK, _STAGING}))
        return self._root

    def _leave_if_empty(self) -> None:
        if self._files == 0 and not self._scratches and (self._root is None or self._root.path != self._home):
            self._leave()

    def _enter(self) -> str:
        """Return this process's own directory, made at the first call."""
        if os.getpid() != self._owner:
            self._owner, self._home, self._files, self._names = os.getpid(), None, 0, Names(_FileNames())
            self._scratches = set()
        if self._home is not None:
            return self._home
        try:
            self._made_base = not os.path.isdir(self._base)
            os.makedirs(self._base, exist_ok=True)
            self._remove_left_behind()
            token = f"{os.getpid()}-{os.urandom(4).hex()}"
            # Locked before it gets the name under which others look for directories left behind.
            new = os.path.join(self._base, f".{_PREFIX}{token}")
            os.mkdir(new, 0o700)
            os.mkdir(os.path.join(new, _STAGING), 0o700)
            self._lock_fd = _lock(os.path.join(new, _LOCK), create=True)
            home = os.path.join(self._base, _PREFIX + token)
            os.rename(new, home)
        except OSError as error:
            raise BackingUnavailable(
                f"backing='{self.name}' cannot be used: {error.strerror} ({error.filename}); name a directory that "
                "this process may write, in RAM, such as /dev/shm or an emptyDir with medium: Memory"
            ) from None
        self._home = home
        return home

    def _remove_left_behind(self) -> None:
        for entry in os.listdir(self._base):
            path = os.path.join(self._base, entry)
            if entry.startswith(_PREFIX):
                try:
                    fd = _lock(os.path.join(path, _LOCK), create=False)
                except OSError:
                    continue  # it lives, or is not ours to remove
                _remove_tree(path)
                os.close(fd)

    def _leave(self) -> None:
        if self._home is not None and os.getpid() == self._owner:
            _remove_tree(self._home)
            os.close(self._lock_fd)
            self._home = None
            if self._made_base:
                try:
                    os.rmdir(self._base)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                        raise


def _lock(path: str, *, create: bool) -> int:
    """Take the lock at `path` and return its descriptor; BlockingIOError when a living process holds it (flock(2))."""
    import fcntl

    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _sizes(paths: Iterable[str]) -> dict[tuple[int, int], int]:
    """Return what each file below those paths takes, by device and inode."""
    found = {}
    for path in paths:
        for directory, _, names in os.walk(path):
            for name in names:
                with contextlib.suppress(OSError):  # removed meanwhile
                    status = os.lstat(os.path.join(directory, name))
                    found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return found


def _remove_tree(path: str) -> None:
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o700)
    shutil.rmtree(path, ignore_errors=True)
