"""The Loader process as the user's process sees it: started by the first job, shared by all, replaced when it dies."""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import sys
import threading
import weakref
from pathlib import Path

from diskless.loader.protocol import VERSION, Channel, pair
from diskless.loader.serve import Service
from diskless.ram import native

_log = logging.getLogger("diskless")
_GREETING_S = 2.0
# Isolated (-I) Python finds neither PYTHONPATH nor AWS Lambda's /var/task, so it is handed this process's sys.path,
# behind its own: a json.py in the user's directory must not replace the standard one. No site (-S) starts faster.
_PROGRAM = (
    "import json, sys; sys.path += [p for p in json.loads(sys.argv[1]) if p not in sys.path]; "
    "from diskless.loader.main import main; main()"
)
# What would change how the Loader itself runs.
_NOT_INHERITED = ("LD_PRELOAD", "LD_AUDIT", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")

# Guards the two below. Made anew in a forked child, which has neither.
_lock = threading.Lock()
_control: Channel | None = None
_pid = 0
_threads_only = False
_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def connect() -> Channel:
    """Return a connection for one job: to the Loader process, or to a thread here where there can be no process."""
    near, far = pair()
    with _lock:
        if not _hand_over(far):
            threading.Thread(target=Service(Channel(far)).run, name="diskless-loader", daemon=True).start()
        else:
            far.close()
    channel = Channel(near)
    _channels.add(channel)
    return channel


def in_process() -> bool:
    """Whether jobs are served by threads of this process."""
    return _threads_only


def _hand_over(far: socket.socket) -> bool:
    """Give a connection's far end to the Loader, started when there is none; False where none can be."""
    for _ in range(2):
        control = _control or _launch()
        if control is None:
            return False
        try:
            control.send({"op": "job"}, [far.fileno()])
            return True
        except OSError:  # it ended meanwhile
            _forget()
    return False


def _launch() -> Channel | None:
    global _control, _pid, _threads_only
    if _threads_only:
        return None
    near, far = pair()
    try:
        _pid = _start(far)
        control = Channel(near)
        if not select.select([near], [], [], _GREETING_S)[0]:
            raise OSError(f"no greeting within {_GREETING_S:.0f} s")
        greeting, _ = control.receive()
        if greeting.get("version") != VERSION:
            raise OSError("another version of diskless answered")
    except (OSError, EOFError, ValueError) as error:
        near.close()
        _threads_only = True
        _log.info("no Loader process (%s): transfers run in threads of this process", error or "it ended at once")
        return None
    finally:
        far.close()
    _control = control
    return control


def _start(far: socket.socket) -> int:
    if not native.available():
        raise OSError("the native library is not there to start one")
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("this program is no Python interpreter")
    home = str(Path(__file__).resolve().parents[2])
    path = [entry for entry in sys.path if entry and os.path.isabs(entry)] + [home]
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    argv = [sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, json.dumps(path)]
    return native.spawn(sys.executable, argv, environment, [far.fileno()])


def _forget() -> None:
    global _control, _pid
    if _control is not None:
        _control.close()
        native.reap(_pid)
    _control, _pid = None, 0


def _after_fork_in_child() -> None:
    """A child has copies of the parent's sockets: closed here, or the Loader would not see the parent end."""
    global _lock, _control, _pid
    _lock = threading.Lock()
    if _control is not None:
        _control.close()
    _control, _pid = None, 0
    for channel in list(_channels):
        channel.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
