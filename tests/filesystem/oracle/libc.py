"""Calls of libc that Python has no function for, by ctypes. They raise OSError as Python's own do."""

from __future__ import annotations

import ctypes
import os
import struct

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_FOLLOW = 0x400
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
F_OFD_SETLK = 37
STATX_BASIC_STATS, STATX_BTIME = 0x7FF, 0x800


class Libc:
    """Looked up afresh by every instance: made after a scratch opened, it gets what the scratch redirects."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._libc = libc
        libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        libc.linkat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        libc.statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
        libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        libc.opendir.argtypes, libc.opendir.restype = [ctypes.c_char_p], ctypes.c_void_p
        libc.readdir.argtypes, libc.readdir.restype = [ctypes.c_void_p], ctypes.c_void_p
        libc.telldir.argtypes, libc.telldir.restype = [ctypes.c_void_p], ctypes.c_long
        libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
        libc.rewinddir.argtypes = libc.closedir.argtypes = libc.dirfd.argtypes = [ctypes.c_void_p]

    def _check(self, result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    def renameat2(self, old_fd: int | None, old: bytes, new_fd: int | None, new: bytes, flags: int) -> None:
        self._check(self._libc.renameat2(at(old_fd), old, at(new_fd), new, flags))

    def linkat(self, old_fd: int | None, old: bytes, new_fd: int | None, new: bytes, flags: int) -> None:
        self._check(self._libc.linkat(at(old_fd), old, at(new_fd), new, flags))

    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        self._check(self._libc.fallocate(fd, mode, offset, length))

    def statx(self, dir_fd: int | None, path: bytes, flags: int, mask: int) -> tuple[int, int, int, int, int]:
        """Which fields were given, the attributes known and set, the mode and the number of links."""
        buffer = ctypes.create_string_buffer(256)
        self._check(self._libc.statx(at(dir_fd), path, flags, mask, buffer))
        given, _block, attributes, links, _uid, _gid, mode = struct.unpack_from("=IIQIIIH", buffer)
        (known,) = struct.unpack_from("=Q", buffer, 56)
        return given, attributes, known, mode, links

    def opendir(self, path: bytes) -> int:
        stream = self._libc.opendir(path)
        if not stream:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(stream)

    def readdir(self, stream: int) -> bytes | None:
        ctypes.set_errno(0)
        entry = self._libc.readdir(stream)
        if not entry:
            if ctypes.get_errno():
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            return None
        return ctypes.string_at(entry + 19)

    def telldir(self, stream: int) -> int:
        return int(self._libc.telldir(stream))

    def seekdir(self, stream: int, position: int) -> None:
        self._libc.seekdir(stream, position)

    def rewinddir(self, stream: int) -> None:
        self._libc.rewinddir(stream)

    def closedir(self, stream: int) -> None:
        self._check(self._libc.closedir(stream))


def at(dir_fd: int | None) -> int:
    return AT_FDCWD if dir_fd is None else dir_fd
