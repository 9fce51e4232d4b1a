"""World: one of the two trees, and what can be done to it. Every method is an operation that `run` turns to words."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Callable
from typing import Any

from tests.filesystem.oracle.libc import AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, F_OFD_SETLK, STATX_BASIC_STATS, Libc
from tests.filesystem.oracle.look import Clock, Seen, Snapshot, look, name_of, seen
from tests.filesystem.oracle.places import Place
from tests.filesystem.oracle.streams import Stream

# What F_GETFL gives that is open(2)'s business, but for known differences, see exceptions.py.
STATUS_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC | os.O_PATH


class Error(str):
    """An operation's failure, by name."""

    def __repr__(self) -> str:
        return str(self)


class World:
    """A tree at `root`, the directory `outside` that symlinks lead out to, and the descriptors open in it by number."""

    def __init__(self, name: str, root: bytes, outside: bytes, clock: Clock) -> None:
        self.name, self.root, self.outside, self.clock = name, root, outside, clock
        self.base = os.path.dirname(os.path.dirname(root))
        self.handles: dict[int, int] = {}
        self.streams: dict[int, Stream] = {}
        self.libc = Libc()

    def run(self, operation: str, *arguments: Any) -> Any:
        """What the operation gives, or the Error that it gets."""
        try:
            return getattr(self, operation)(*arguments)
        except OSError as error:
            return Error(name_of(error))
        except KeyError:
            return Error("not open")  # in a trace from which the opening was left out
        except (ValueError, OverflowError, NotImplementedError) as error:
            return Error(type(error).__name__)

    def close_all(self) -> None:
        for stream in self.streams.values():
            self.libc.closedir(stream.pointer)
        for fd in self.handles.values():
            os.close(fd)
        self.handles.clear()
        self.streams.clear()

    # Where a Place is, here.

    def at(self, place: Place) -> tuple[bytes, int | None]:
        """The path, and the descriptor that it is relative to, as open(2) and its relatives take them."""
        if place.base == "root":
            return self.root + b"/" + place.path, None
        if place.base == "here":
            return place.path, None
        fd = self.handles[place.handle or 0]
        if place.base == "at":
            return place.path, fd
        return b"/proc/self/fd/%d/" % fd + place.path, None

    def alone(self, place: Place) -> bytes:
        """The same as one path, for functions that take no descriptor."""
        path, fd = self.at(place)
        return path if fd is None else b"/proc/self/fd/%d/" % fd + path

    def leads_out(self, place: Place) -> bool:
        """Whether the path, or a symlink in it, leaves the places that are this test's to change."""
        path = self.root + b"/" + place.path
        if place.base != "root":
            if place.handle not in self.handles:
                return False
            path = os.path.join(os.readlink(b"/proc/self/fd/%d" % self.handles[place.handle or 0]), place.path)
        parent = os.path.realpath(os.path.dirname(path.rstrip(b"/")))
        whole = os.path.realpath(path)
        home = (self.base, self.outside)
        below = any((parent + b"/").startswith(each + b"/") for each in home)
        return not below or not any((whole + b"/").startswith(each + b"/") for each in home)

    def say(self, target: bytes) -> bytes:
        """A path as both worlds call it."""
        return target.replace(self.root, b"@").replace(self.base, b"@/../..").replace(self.outside, b"%")

    def snapshot(self) -> Snapshot:
        both = look(self.base, self.clock, self.say)
        outside = look(self.outside, self.clock, self.say)
        both.entries.update({b"%" + path: what for path, what in outside.entries.items()})
        return both

    # Descriptors.

    def _keep(self, number: int, fd: int) -> str:
        self.handles[number] = fd
        return "a descriptor"

    def open(self, number: int, place: Place, flags: int, mode: int) -> str:
        path, fd = self.at(place)
        return self._keep(number, os.open(path, flags, mode, dir_fd=fd))

    def is_directory(self, handle: int) -> bool:
        return handle in self.handles and stat.S_ISDIR(os.fstat(self.handles[handle]).st_mode)

    def reopen(self, number: int, handle: int, flags: int) -> str:
        return self._keep(number, os.open(b"/proc/self/fd/%d" % self.handles[handle], flags))

    def dup(self, number: int, handle: int, command: int) -> str:
        return self._keep(number, fcntl.fcntl(self.handles[handle], command, 0))

    def close(self, handle: int) -> None:
        os.close(self.handles.pop(handle))

    def read(self, handle: int, size: int) -> bytes:
        return os.read(self.handles[handle], size)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        return os.pread(self.handles[handle], size, offset)

    def write(self, handle: int, data: bytes) -> int:
        return os.write(self.handles[handle], data)

    def writev(self, handle: int, data: list[bytes]) -> int:
        return os.writev(self.handles[handle], data)

    def pwrite(self, handle: int, data: bytes, offset: int) -> int:
        return os.pwrite(self.handles[handle], data, offset)

    def seek(self, handle: int, offset: int, whence: int) -> int:
        return os.lseek(self.handles[handle], offset, whence)

    def ftruncate(self, handle: int, size: int) -> None:
        os.ftruncate(self.handles[handle], size)

    def fallocate(self, handle: int, mode: int, offset: int, length: int) -> None:
        self.libc.fallocate(self.handles[handle], mode, offset, length)

    def fsync(self, handle: int) -> None:
        os.fsync(self.handles[handle])

    def sendfile(self, to: int, source: int, offset: int, size: int) -> int:
        return os.sendfile(self.handles[to], self.handles[source], offset, size)

    def copy_file_range(self, source: int, to: int, size: int, from_offset: int | None, to_offset: int | None) -> int:
        return os.copy_file_range(self.handles[source], self.handles[to], size, from_offset, to_offset)

    def map(self, handle: int, private: bool, data: bytes) -> bytes:
        kind = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED
        if os.fstat(self.handles[handle]).st_size < mmap.PAGESIZE:
            raise ValueError("stores past the end would be a signal")
        with mmap.mmap(self.handles[handle], mmap.PAGESIZE, kind) as mapping:
            mapping[: len(data)] = data
            return mapping[:100]

    def flock(self, handle: int, operation: int) -> None:
        fcntl.flock(self.handles[handle], operation | fcntl.LOCK_NB)

    def lock_range(self, handle: int, kind: int, start: int, length: int) -> None:
        fcntl.fcntl(self.handles[handle], F_OFD_SETLK, struct.pack("=hhiqqi4x", kind, 0, 0, start, length, 0))

    def status_flags(self, handle: int) -> tuple[int, int]:
        fd = self.handles[handle]
        return fcntl.fcntl(fd, fcntl.F_GETFL) & STATUS_FLAGS, fcntl.fcntl(fd, fcntl.F_GETFD)

    def set_status_flags(self, handle: int, flags: int) -> None:
        fcntl.fcntl(self.handles[handle], fcntl.F_SETFL, flags)

    def name_in_proc(self, handle: int) -> bytes:
        if not self.is_directory(handle):
            return b"one of a file's names"  # a known difference, see exceptions.py
        name = self.say(os.readlink(b"/proc/self/fd/%d" % self.handles[handle]))
        return b"(deleted)" if name.endswith(b" (deleted)") else name  # a known difference, see exceptions.py

    def same(self, handle: int, place: Place) -> bool:
        path, fd = self.at(place)
        return os.path.samestat(os.fstat(self.handles[handle]), os.stat(path, dir_fd=fd))

    # Names.

    def mkdir(self, place: Place, mode: int) -> None:
        path, fd = self.at(place)
        os.mkdir(path, mode, dir_fd=fd)

    def mknod(self, place: Place, mode: int) -> None:
        path, fd = self.at(place)
        os.mknod(path, mode, dir_fd=fd)

    def rmdir(self, place: Place) -> None:
        path, fd = self.at(place)
        os.rmdir(path, dir_fd=fd)

    def unlink(self, place: Place) -> None:
        path, fd = self.at(place)
        os.unlink(path, dir_fd=fd)

    def rename(self, old: Place, new: Place) -> None:
        (old_path, old_fd), (new_path, new_fd) = self.at(old), self.at(new)
        os.rename(old_path, new_path, src_dir_fd=old_fd, dst_dir_fd=new_fd)

    def renameat2(self, old: Place, new: Place, flags: int) -> None:
        (old_path, old_fd), (new_path, new_fd) = self.at(old), self.at(new)
        self.libc.renameat2(old_fd, old_path, new_fd, new_path, flags)

    def link(self, old: Place, new: Place, follow: bool) -> None:
        (old_path, old_fd), (new_path, new_fd) = self.at(old), self.at(new)
        self.libc.linkat(old_fd, old_path, new_fd, new_path, AT_SYMLINK_FOLLOW if follow else 0)

    def link_handle(self, handle: int, new: Place, empty_path: bool) -> None:
        path, fd = self.at(new)
        if empty_path:
            self.libc.linkat(self.handles[handle], b"", fd, path, AT_EMPTY_PATH)
        else:
            self.libc.linkat(None, b"/proc/self/fd/%d" % self.handles[handle], fd, path, AT_SYMLINK_FOLLOW)

    def symlink(self, target: bytes, place: Place) -> None:
        path, fd = self.at(place)
        os.symlink(target.replace(b"@", self.root).replace(b"%", self.outside), path, dir_fd=fd)

    def readlink(self, place: Place) -> bytes:
        path, fd = self.at(place)
        return self.say(os.readlink(path, dir_fd=fd))

    def realpath(self, place: Place) -> bytes:
        return self.say(os.path.realpath(self.alone(place), strict=True))

    # What is known of a file.

    def stat(self, place: Place, follow: bool) -> Seen:
        path, fd = self.at(place)
        return seen(os.stat(path, dir_fd=fd, follow_symlinks=follow), self.clock)

    def fstat(self, handle: int) -> Seen:
        return seen(os.fstat(self.handles[handle]), self.clock)

    def statx(self, place: Place, flags: int, mask: int) -> tuple[int, ...]:
        path, fd = self.at(place)
        given, attributes, known, mode, links = self.libc.statx(fd, path, flags, mask)
        return given & STATX_BASIC_STATS, attributes & ~0x2000, known & ~0x2000, mode, links  # all but mount roots

    def access(self, place: Place, mode: int, effective: bool, follow: bool) -> bool:
        path, fd = self.at(place)
        return os.access(path, mode, dir_fd=fd, effective_ids=effective, follow_symlinks=follow)

    def chmod(self, place: Place, mode: int) -> None:
        path, fd = self.at(place)
        os.chmod(path, mode, dir_fd=fd)

    def fchmod(self, handle: int, mode: int) -> None:
        os.fchmod(self.handles[handle], mode)

    def chown(self, place: Place, uid: int, gid: int, follow: bool) -> None:
        path, fd = self.at(place)
        os.chown(path, uid, gid, dir_fd=fd, follow_symlinks=follow)

    def fchown(self, handle: int, uid: int, gid: int) -> None:
        os.fchown(self.handles[handle], uid, gid)

    def utime(self, place: Place, times: tuple[int, int] | None, follow: bool) -> None:
        path, fd = self.at(place)
        os.utime(path, ns=times, dir_fd=fd, follow_symlinks=follow) if times else os.utime(
            path, dir_fd=fd, follow_symlinks=follow
        )

    def futimens(self, handle: int, times: tuple[int, int] | None) -> None:
        os.utime(self.handles[handle], ns=times) if times else os.utime(self.handles[handle])

    def truncate(self, place: Place, size: int) -> None:
        os.truncate(self.alone(place), size)

    def longest_name(self, place: Place) -> int:
        return os.statvfs(self.alone(place)).f_namemax

    def _xattr(self, function: Callable[..., Any], target: Place | int, *arguments: Any, follow: bool) -> Any:
        if isinstance(target, int):
            return function(self.handles[target], *arguments)
        return function(self.alone(target), *arguments, follow_symlinks=follow)

    def setxattr(self, target: Place | int, name: str, value: bytes, flags: int, follow: bool) -> None:
        self._xattr(os.setxattr, target, name, value, flags, follow=follow)

    def getxattr(self, target: Place | int, name: str, follow: bool) -> bytes:
        return self._xattr(os.getxattr, target, name, follow=follow)

    def listxattr(self, target: Place | int, follow: bool) -> list[str]:
        return sorted(self._xattr(os.listxattr, target, follow=follow))

    def removexattr(self, target: Place | int, name: str, follow: bool) -> None:
        self._xattr(os.removexattr, target, name, follow=follow)

    # Directories.

    def listdir(self, target: Place | int) -> list[bytes]:
        if isinstance(target, int):
            return sorted(map(os.fsencode, os.listdir(self.handles[target])))
        return sorted(os.listdir(self.alone(target)))

    def scandir(self, place: Place) -> list[tuple[bytes, bool, bool, bool, bool]]:
        with os.scandir(self.alone(place)) as entries:
            return sorted(
                (
                    each.name,
                    each.is_dir(follow_symlinks=False),
                    each.is_file(follow_symlinks=False),
                    each.is_symlink(),
                    each.inode() == os.lstat(each.path).st_ino,
                )
                for each in entries
            )

    def seek_back(self, place: Place, position: int) -> tuple[int, bool]:
        return Stream.seek_back(self.libc, self.alone(place), position)

    def open_stream(self, number: int, place: Place) -> str:
        self.streams[number] = Stream(self.libc, self.alone(place))
        return "a stream"

    def next_of_stream(self, number: int, count: int) -> str:
        return self.streams[number].next(count)

    def rewind_stream(self, number: int) -> None:
        self.streams[number].rewind()

    def close_stream(self, number: int) -> None:
        self.libc.closedir(self.streams.pop(number).pointer)

    def settle_streams(self) -> None:
        for stream in self.streams.values():
            stream.settle()

    # The working directory is the process's: each operation goes there and comes back.

    def go_and(self, handle: int, operation: str, *arguments: Any) -> Any:
        os.fchdir(self.handles[handle])
        try:
            return self.run(operation, *arguments)
        finally:
            os.chdir("/")

    def go_and_open(self, number: int, handle: int, place: Place, flags: int, mode: int) -> str:
        os.fchdir(self.handles[handle])
        try:
            return self.open(number, place, flags, mode)
        finally:
            os.chdir("/")

    def getcwd_at(self, handle: int) -> bytes:
        os.fchdir(self.handles[handle])
        try:
            return self.say(os.getcwdb())
        finally:
            os.chdir("/")
