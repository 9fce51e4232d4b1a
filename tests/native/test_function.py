"""Calling libc's functions with the Tree in them, while nothing is redirected."""

from __future__ import annotations

import ctypes
import errno
import subprocess
import sys
import textwrap

from diskless import native_api as native
from tests.native.tree import error_of


def test_a_function_shows_the_tree_to_who_calls_it() -> None:
    """In a process of its own: the Tree stays visible to those calls."""
    script = """
        import ctypes, errno, os
        from diskless import native_api as native
        native.scratch_add("/diskless", 0o1777, 0)
        mkdir = native.function("mkdir", ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
        assert mkdir(b"/diskless/a", 0o755) == 0
        assert mkdir(b"/diskless/a", 0o755) == -1 and ctypes.get_errno() == errno.EEXIST
        assert mkdir(b"/nowhere/at/all", 0o755) == -1 and ctypes.get_errno() == errno.ENOENT
        assert not os.path.exists("/diskless/a") and native.patched_slots() == 0
        native.activate()
        assert os.path.isdir("/diskless/a")
        native.deactivate()
        assert not os.path.exists("/diskless/a") and native.patched_slots() == 0
        assert mkdir(b"/diskless/a/b", 0o755) == 0
        print("done")
    """
    source = f"import sys\nsys.path[:0] = {sys.path!r}\n" + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr


def test_a_function_that_the_tree_does_not_have_is_an_error() -> None:
    assert error_of(native.function, "getpid", ctypes.c_int) == errno.ENOSYS
