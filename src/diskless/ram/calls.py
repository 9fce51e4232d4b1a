"""Calls: the functions of `os` that a filesystem needs, on the Tree, whether or not libc's calls are redirected.

Each is named, takes and raises as the one in `os` does. They call libc's functions with the Tree in them directly.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from collections.abc import Callable

from diskless import native_api as native

_INT, _STR, _SIZE, _SSIZE, _POINTER = (
    ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_ssize_t, ctypes.c_void_p,
)  # fmt: skip
_FUNCTIONS: dict[str, tuple[type, tuple[type, ...]]] = {
    "open": (_INT, (_STR, _INT, _INT)),
    "write": (_SSIZE, (_INT, _POINTER, _SIZE)),
    "statx": (_INT, (_INT, _STR, _INT, ctypes.c_uint, _POINTER)),
    "scandir": (_INT, (_STR, _POINTER, _POINTER, _POINTER)),
    "readlink": (_SSIZE, (_STR, _POINTER, _SIZE)),
    "mkdir": (_INT, (_STR, _INT)),
    "rmdir": (_INT, (_STR,)),
    "unlink": (_INT, (_STR,)),
    "rename": (_INT, (_STR, _STR)),
    "linkat": (_INT, (_INT, _STR, _INT, _STR, _INT)),
    "symlink": (_INT, (_STR, _STR)),
    "chmod": (_INT, (_STR, _INT)),
    "utimensat": (_INT, (_INT, _STR, _POINTER, _INT)),
}

# linux/fcntl.h, linux/stat.h
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_SYMLINK_FOLLOW, _AT_EMPTY_PATH = -100, 0x100, 0x400, 0x1000
_STATX_BASIC_STATS = 0x7FF
# struct statx, which is the same on all architectures: mask to pad, inode to attributes, the times of access, birth,
# change and modification, and the devices.
_STATX = struct.Struct("=IIQ IIIHxx QQQQ qIxxxx qIxxxx qIxxxx qIxxxx IIII")
_STATX_BYTES = 256
# In struct dirent of 64-bit systems.
_NAME_OFFSET = 19


def _function(name: str) -> Callable[..., int]:
    result, arguments = _FUNCTIONS[name]
    return native.function(name, result, *arguments)


def _call(name: str, *arguments: object, path: str | int | None = None, path2: str | None = None) -> int:
    function = _function(name)
    while True:
        result = function(*arguments)
        if result >= 0:
            return result
        error = ctypes.get_errno()
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error), path, None, path2)


def _encode(path: str) -> bytes:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


def open(path: str, flags: int, mode: int = 0o777) -> int:
    """open(2); the descriptor is close-on-exec."""
    return _call("open", _encode(path), flags | os.O_CLOEXEC, mode, path=path)


def write(fd: int, data: bytes | memoryview) -> int:
    """write(2), counted: what finds no room is ENOSPC."""
    with native.memory_of(data) as (address, size_bytes):
        return _call("write", fd, address, size_bytes)


def stat(path: str | int) -> os.stat_result:
    """stat(2), or fstat(2) of a descriptor."""
    if isinstance(path, int):
        return _stat(path, b"", _AT_EMPTY_PATH, path)
    return _stat(_AT_FDCWD, _encode(path), 0, path)


def lstat(path: str) -> os.stat_result:
    """lstat(2)"""
    return _stat(_AT_FDCWD, _encode(path), _AT_SYMLINK_NOFOLLOW, path)


def _stat(directory: int, encoded: bytes, flags: int, path: str | int) -> os.stat_result:
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    _call("statx", directory, encoded, flags, _STATX_BASIC_STATS, buffer, path=path)
    fields = _STATX.unpack_from(buffer)
    (_, block_bytes, _, links, user, group, mode, inode, size_bytes, blocks, _) = fields[:11]
    (accessed, accessed_ns, _, _, changed, changed_ns, modified, modified_ns) = fields[11:19]
    major, minor = fields[21:]
    device = os.makedev(major, minor)
    plain = (mode, inode, device, links, user, group, size_bytes, accessed, modified, changed)
    more: dict[str, float] = {"st_blksize": block_bytes, "st_blocks": blocks, "st_rdev": 0}
    times = (("atime", accessed, accessed_ns), ("mtime", modified, modified_ns), ("ctime", changed, changed_ns))
    for name, seconds, rest_ns in times:
        more[f"st_{name}"] = seconds + rest_ns / 1e9
        more[f"st_{name}_ns"] = seconds * 1_000_000_000 + rest_ns
    return os.stat_result(plain, more)


def listdir(path: str) -> list[str]:
    """scandir(3), since closing the last directory stream would look at every redirected slot."""
    found = ctypes.POINTER(ctypes.c_void_p)()
    count = _call("scandir", _encode(path), ctypes.byref(found), None, None, path=path)
    names = []
    for number in range(count):
        entry = found[number]
        assert entry is not None
        names.append(os.fsdecode(ctypes.string_at(entry + _NAME_OFFSET)))
        _free()(entry)
    _free()(found)
    return [name for name in names if name not in (".", "..")]


@functools.cache
def _free() -> Callable[..., None]:
    free = ctypes.CDLL(None).free
    free.argtypes, free.restype = (_POINTER,), None
    return free


def readlink(path: str) -> str:
    """readlink(2)"""
    buffer = ctypes.create_string_buffer(4096)
    length = _call("readlink", _encode(path), buffer, len(buffer), path=path)
    return os.fsdecode(buffer.raw[:length])


def mkdir(path: str, mode: int = 0o777) -> None:
    """mkdir(2)"""
    _call("mkdir", _encode(path), mode, path=path)


def rmdir(path: str) -> None:
    """rmdir(2)"""
    _call("rmdir", _encode(path), path=path)


def unlink(path: str) -> None:
    """unlink(2)"""
    _call("unlink", _encode(path), path=path)


def rename(source: str, target: str) -> None:
    """rename(2)"""
    _call("rename", _encode(source), _encode(target), path=source, path2=target)


def link(source: str, target: str, *, src_dir_fd: int | None = None) -> None:
    """link(2), or with `src_dir_fd` linkat(2), which follows a symlink at the source, such as /proc/self/fd/3."""
    directory, flags = (_AT_FDCWD, 0) if src_dir_fd is None else (src_dir_fd, _AT_SYMLINK_FOLLOW)
    _call("linkat", directory, _encode(source), _AT_FDCWD, _encode(target), flags, path=source, path2=target)


def symlink(target: str, path: str) -> None:
    """symlink(2)"""
    _call("symlink", _encode(target), _encode(path), path=target, path2=path)


def chmod(path: str, mode: int) -> None:
    """chmod(2)"""
    _call("chmod", _encode(path), mode, path=path)


def utime(path: str) -> None:
    """utimensat(2) with the time that it is now."""
    _call("utimensat", _AT_FDCWD, _encode(path), None, 0, path=path)
