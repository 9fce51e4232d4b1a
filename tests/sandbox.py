"""Sandbox: a program where nothing can be written, not even in /tmp.

Root read-only, no /dev/shm, no /run, no home, an unprivileged user. It is the README's promise, by bubblewrap.
"""

from __future__ import annotations

import shutil
import sys

import pytest

# For the top of a program: it ends where something can be written after all.
NOTHING_WRITABLE = """
import os, sys
for path in ("/tmp", "/var/tmp", "/usr/tmp", "/dev/shm", "/run", os.path.expanduser("~"), "/", "."):
    try:
        open(os.path.join(path, "probe"), "w")
    except OSError:
        continue
    sys.exit(f"{path} is writable: this is no sandbox")
"""
HIDDEN = any(path.startswith(("/tmp/", "/run/", "/dev/shm/")) for path in (sys.prefix, __file__))
_MISSING = [program for program in ("bwrap", "strace") if shutil.which(program) is None]


# For tests, where there is no sandbox to be had, or no trace of it.
needs_sandbox = pytest.mark.skipif(
    HIDDEN or bool(_MISSING),
    reason="the Python that runs this lies in a directory that the sandbox hides"
    if HIDDEN
    else f"needs {_MISSING} (Debian: bubblewrap strace)",
)


def sandbox(*, tmp: bool = False) -> list[str]:
    """Return the words before a command that run it so; `tmp` gives it a /tmp of 1 MiB."""
    return [
        *("bwrap", "--unshare-user", "--uid", "65534", "--gid", "65534", "--unshare-pid"),
        *("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
        *("--tmpfs", "/dev/shm", "--remount-ro", "/dev/shm", "--remount-ro", "/dev"),
        *(("--size", str(1 << 20), "--tmpfs", "/tmp") if tmp else ()),
        *("--tmpfs", "/run", "--remount-ro", "/run"),
        *("--chdir", "/"),
    ]
