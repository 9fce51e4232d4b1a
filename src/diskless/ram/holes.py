"""Holes: gives the memory of a part of a RAM file back to the system (fallocate(2), FALLOC_FL_PUNCH_HOLE)."""

from __future__ import annotations

import os

_KEEP_SIZE, _PUNCH_HOLE = 1, 2


def punch(fd: int, start: int, size_bytes: int) -> None:
    """Make a hole, which reads as zeros; OSError where the file is sealed or its filesystem has none."""
    import ctypes  # late: most transfers drop nothing

    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)
    if fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, start, size_bytes) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
