"""`libdiskless.so` through ctypes: the only module that knows the C interface (native/diskless.h)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

_LIBRARY = os.path.join(os.path.dirname(os.path.realpath(__file__)), "libdiskless.so")

_INT, _LONG, _LONGLONG, _UINT, _STR = ctypes.c_int, ctypes.c_long, ctypes.c_longlong, ctypes.c_uint, ctypes.c_char_p
_ULONGLONG = ctypes.c_ulonglong
_STRINGS = ctypes.POINTER(ctypes.c_char_p)
_FUNCTIONS: dict[str, tuple[type[ctypes._SimpleCData[int]], tuple[type, ...]]] = {
    "memfd": (_INT, (_STR,)),
    "guard": (_INT, (_INT,)),
    "release": (_INT, (_INT,)),
    "seal": (_INT, (_INT,)),
    "root_add": (_INT, (_STR,)),
    "root_remove": (_INT, (_STR,)),
    "scratch_add": (_INT, (_STR, _UINT, _LONGLONG)),
    "scratch_remove": (_INT, (_STR,)),
    "scratch_used": (_LONGLONG, ()),
    "set_file": (_INT, (_STR, _INT, _UINT, _LONGLONG, _INT)),
    "place_file": (_INT, (_STR, _INT, _UINT, _LONGLONG, _INT)),
    "gate_make": (_INT, ()),
    "gate_free": (_INT, (_INT,)),
    "gate_settle": (_INT, (_INT, _INT)),
    "gate_ask": (_INT, (_INT,)),
    "gate_state": (_INT, (_INT,)),
    "gate_descriptors": (_INT, (ctypes.POINTER(_INT), ctypes.POINTER(_INT))),
    "set_directory": (_INT, (_STR, _UINT, _LONGLONG)),
    "set_symlink": (_INT, (_STR, _STR)),
    "remove": (_INT, (_STR,)),
    "contains": (_INT, (_STR,)),
    "set_space": (_INT, (_LONGLONG, _LONGLONG)),
    "activate": (_INT, ()),
    "deactivate": (_INT, ()),
    "patched_slots": (_LONG, ()),
    "take_message": (_INT, (_STR, _INT)),
    "crc": (_ULONGLONG, (_INT, _ULONGLONG, ctypes.c_void_p, _ULONGLONG)),
    "crc_combine": (_ULONGLONG, (_INT, _ULONGLONG, _ULONGLONG, _ULONGLONG)),
    "spawn": (_INT, (_STR, _STRINGS, _STRINGS, ctypes.POINTER(_INT), _INT)),
    "reap": (_INT, (_INT,)),
}


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, "diskless_" + name)
        function.restype, function.argtypes = result, arguments
    library.diskless_function.restype, library.diskless_function.argtypes = ctypes.c_void_p, (_STR,)
    return library


def _call(name: str, *arguments: object, path: str | None = None) -> int:
    result: int = getattr(_library(), "diskless_" + name)(*arguments)
    if result < 0:
        raise OSError(-result, os.strerror(-result), path)
    return result


@functools.cache
def unavailable() -> str | None:
    """Say in words what this system lacks for the Tree, or None where it works."""
    if sys.platform != "linux":
        return f"the Tree needs Linux with glibc, and this is {sys.platform}"
    if not os.path.exists(_LIBRARY):
        return f"the native library was not built for this system ({_LIBRARY} is missing; it needs glibc)"
    if not os.path.exists("/proc/self/fd"):
        return "/proc is not mounted, and RAM files are reopened through /proc/self/fd"
    try:
        _library()
        fd = memfd("probe")
    except OSError as error:
        return f"the system refuses RAM files: {error}"
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return f"RAM files cannot be reopened through /proc/self/fd: {error}"
    finally:
        release(fd)
    return None


def available() -> bool:
    """Whether the native library is there and memfds and /proc work."""
    return unavailable() is None


def memfd(name: str) -> int:
    """Make an empty RAM file and return its guarded, close-on-exec descriptor (memfd_create(2))."""
    return _call("memfd", name.encode("utf-8", "replace")[:200])


def guard(fd: int) -> int:
    """Move `fd` out of the way of programs that close ranges of numbers; returns the new number."""
    return _call("guard", fd)


def release(fd: int) -> None:
    """Close a descriptor made by `memfd` or `guard`."""
    _call("release", fd)


def seal(fd: int) -> None:
    """Make a RAM file immutable for ever (F_SEAL_WRITE and its relatives, fcntl(2))."""
    _call("seal", fd)


def is_sealed(fd: int) -> bool:
    """Whether a RAM file was made immutable."""
    import fcntl

    return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)


def root_add(path: str) -> None:
    """Let the Tree show at `path`."""
    _call("root_add", os.fsencode(path), path=path)


def root_remove(path: str) -> None:
    """Take the root at `path` away with everything below it."""
    _call("root_remove", os.fsencode(path), path=path)


def scratch_add(path: str, mode: int, budget_bytes: int) -> None:
    """Make an empty directory at `path` that may be written; `budget_bytes` of 0 is as much as there is."""
    _call("scratch_add", os.fsencode(path), mode, budget_bytes, path=path)


def scratch_remove(path: str) -> None:
    """Take a scratch away with everything in it; files that are open or mapped go on working."""
    _call("scratch_remove", os.fsencode(path), path=path)


def scratch_used() -> int:
    """Return the bytes that the files of all scratches take."""
    return _call("scratch_used")


def set_file(path: str, fd: int, mode: int, mtime_ns: int, gate: int = -1) -> None:
    """Name a RAM file; parents are created. Who opens it waits at its gate, if it has one."""
    _call("set_file", os.fsencode(path), fd, mode, mtime_ns, gate, path=path)


def place_file(path: str, fd: int, mode: int, mtime_ns: int, gate: int = -1) -> None:
    """Name a RAM file in a directory of a scratch, which exists; who begins it anew gets another file of that name."""
    _call("place_file", os.fsencode(path), fd, mode, mtime_ns, gate, path=path)


def gate_make() -> int:
    """Return the number of a new gate, which is closed."""
    return _call("gate_make")


def gate_free(gate: int) -> None:
    """Give a gate back once no name leads to its file."""
    _call("gate_free", gate)


def gate_settle(gate: int, *, complete: bool) -> None:
    """Open a gate, or let those who wait there fail; what was settled before stays as it is."""
    _call("gate_settle", gate, complete)


def gate_ask(gate: int) -> None:
    """Have the Loader fetch a file, as an open of it would."""
    _call("gate_ask", gate)


def gate_opened(gate: int) -> bool | None:
    """Whether the file is complete; None while that is open."""
    return {0: None, 1: True, 2: False}[_call("gate_state", gate)]


def gate_descriptors() -> tuple[int, int]:
    """Return what the Loader is handed: the page with the gates, and the event by which it learns of readers."""
    memory, event = _INT(), _INT()
    _call("gate_descriptors", ctypes.byref(memory), ctypes.byref(event))
    return memory.value, event.value


def set_directory(path: str, mode: int, mtime_ns: int) -> None:
    """Make a directory of the Tree; parents are created."""
    _call("set_directory", os.fsencode(path), mode, mtime_ns, path=path)


def remove(path: str) -> None:
    """Remove a name: a file, or a directory that is empty."""
    _call("remove", os.fsencode(path), path=path)


def contains(path: str) -> bool:
    """Whether `path` leads into the Tree as it shows now, whatever is or is not there."""
    return "\0" not in path and _call("contains", os.fsencode(path), path=path) > 0


def set_space(total_bytes: int, free_bytes: int) -> None:
    """Set what statvfs(3) answers in the Tree."""
    _call("set_space", total_bytes, free_bytes)


def activate() -> None:
    """Redirect libc's path calls in all loaded objects; counted."""
    _call("activate")


def deactivate() -> None:
    """Undo one `activate`; the last one restores every slot."""
    _call("deactivate")


def patched_slots() -> int:
    """How many slots hold our functions at this moment."""
    return _call("patched_slots")


@functools.cache
def function(name: str, result: type, *arguments: type) -> Callable[..., int]:
    """Return libc's function of that name with the Tree in it, which shows to its callers whatever is redirected.

    It is called without the GIL and leaves its errno to `ctypes.get_errno`. Raises OSError (ENOSYS) where there is
    none of that name.
    """
    address = _library().diskless_function(name.encode())
    if not address:
        raise OSError(errno.ENOSYS, f"{name} is none of the functions that the Tree has")
    made: Callable[..., int] = ctypes.CFUNCTYPE(result, *arguments, use_errno=True)(address)
    return made


def take_messages() -> list[str]:
    """Return what the native library has to say to the user, each sentence once."""
    buffer = ctypes.create_string_buffer(640)
    sentences = []
    while _call("take_message", buffer, len(buffer)) > 0:
        sentences.append(os.fsdecode(buffer.value))
    return sentences


# As diskless.h numbers them.
_CRCS = {"CRC32": 0, "CRC32C": 1, "CRC64NVME": 2}


class _Buffer(ctypes.Structure):
    """CPython's Py_buffer, by which bytes that may not be written have an address (PEP 3118; stable since 3.11)."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("owner", ctypes.c_void_p),
        ("length", ctypes.c_ssize_t),
        ("rest", ctypes.c_char * 64),
    )


@contextlib.contextmanager
def memory_of(data: object) -> Iterator[tuple[int, int]]:
    """Lend the address and the size in bytes of a contiguous buffer, which stays where it is meanwhile."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(data), ctypes.byref(buffer), 0)
    try:
        yield buffer.address or 0, buffer.length
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


def has_checksums() -> bool:
    """Whether `crc` can be called."""
    return sys.platform == "linux" and os.path.exists(_LIBRARY)


def crc(algorithm: str, data: object, before: int = 0) -> int:
    """Return the CRC of a contiguous buffer that stands behind bytes whose CRC is `before`; the GIL is free meanwhile.

    `algorithm` is ``"CRC32"``, ``"CRC32C"`` or ``"CRC64NVME"``.
    """
    with memory_of(data) as (address, size_bytes):
        return _call("crc", _CRCS[algorithm], before, address, size_bytes)


def crc_combine(algorithm: str, first: int, second: int, second_bytes: int) -> int:
    """Return the CRC of two pieces, from the CRC of each and the size of the second."""
    return _call("crc_combine", _CRCS[algorithm], first, second, second_bytes)


def spawn(file: str, argv: Sequence[str], environment: Mapping[str, str], fds: Sequence[int]) -> int:
    """Start a program that is no child of this process as wait(2) sees it; `fds` become its descriptors 3, 4, …

    Returns the number to give to `reap`. Raises OSError when it cannot be started.
    """
    words = [os.fsencode(word) for word in argv]
    settings = [os.fsencode(name) + b"=" + os.fsencode(value) for name, value in environment.items()]
    return _call(
        "spawn",
        os.fsencode(file),
        (ctypes.c_char_p * (len(words) + 1))(*words, None),
        (ctypes.c_char_p * (len(settings) + 1))(*settings, None),
        (ctypes.c_int * max(1, len(fds)))(*fds),
        len(fds),
        path=file,
    )


def reap(pid: int) -> bool:
    """Forget a spawned program; False while it still runs."""
    return _call("reap", pid) > 0
