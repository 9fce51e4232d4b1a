"""Starts the Loader process. Small, and apart from what talks to it, which is imported while the Loader gets ready."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading

from diskless import native_api as native
from diskless.forks import at_fork

# Isolated (-I) Python finds neither PYTHONPATH nor AWS Lambda's /var/task, so it is handed this process's sys.path,
# behind its own: a json.py in the user's directory must not replace the standard one. No site (-S) starts faster.
# diskless itself comes from where this process has it, whatever else the path holds, and without its __init__, which
# is for users.
_PROGRAM = (
    "import sys; home, *path = sys.argv[1:]; diskless = sys.modules['diskless'] = type(sys)('diskless'); "
    "diskless.__path__ = [home]; sys.path += [p for p in path if p not in sys.path]; "
    "from diskless.loader.main import main; main()"
)
# What would change how the Loader itself runs.
_NOT_INHERITED = ("LD_PRELOAD", "LD_AUDIT", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")
# A buffer that glibc gives back to the system is taken anew, and cleared, for the next: a sixth of what a transfer
# costs. So the last ones of each thread stay (mallopt(3)), unless the user says otherwise.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 20)}

# Guards what is here and in `process`. Held around fork, so that no child gets a copy of a socket that nobody has noted
# yet: the Loader would not see the parent end. Re-entrant, since a signal handler may fork.
lock = threading.RLock()
# A Loader that nobody has talked to yet: our end of its control socket, and its number for `kill` and `native.reap`.
_begun: tuple[socket.socket, int] | None = None
# Programs that were started and not yet reaped, by that number.
_started: set[int] = set()


def begin() -> None:
    """Start a Loader for the next `take`, which says what is wrong where none can be started."""
    global _begun
    with lock, contextlib.suppress(OSError):
        _begun = _begun or _start()


def take() -> tuple[socket.socket, int]:
    """Return the control socket of a Loader that greets there, and the number to `kill` it with.

    Raises OSError where none can be started.
    """
    global _begun
    with lock:
        taken = _begun or _start()
        _begun = None
        return taken


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new connection between processes; both wait as long as it takes."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # socket.setdefaulttimeout and gevent make both non-blocking, and the far end takes that along to who receives it.
    # By its descriptor: gevent's setblocking says nothing to the kernel.
    near.settimeout(None)
    os.set_blocking(far.fileno(), True)
    return near, far


def kill(started: int) -> None:
    """End a program that is no Loader, whatever it is. What stands between it and us has it as its only child."""
    with contextlib.suppress(OSError), open(f"/proc/{started}/task/{started}/children", encoding="ascii") as children:
        for pid in children.read().split():
            os.kill(int(pid), signal.SIGKILL)


def _start() -> tuple[socket.socket, int]:
    for started in list(_started):
        if native.reap(started):
            _started.discard(started)
    if not native.available():
        raise OSError("the native library is not there to start one")
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("this program is no Python interpreter")
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    path = [os.path.abspath(entry) for entry in sys.path]
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    argv = [sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, home, *path]
    near, far = pair()
    with far:
        try:
            started = native.spawn(sys.executable, argv, {**_MALLOC, **inherited}, [far.fileno()])
        except BaseException:
            near.close()
            raise
    _started.add(started)
    return near, started


def _forget_in_child() -> None:
    """A child has a copy of the parent's socket: closed here, or the Loader would not see the parent end."""
    global _begun
    if _begun is not None:
        _begun[0].close()
    _begun = None
    _started.clear()


at_fork(_forget_in_child, lock)
