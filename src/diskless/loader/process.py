"""The Loader process as the user's process sees it: started by the first job, shared by all, replaced when it dies."""

from __future__ import annotations

import logging
import os
import select
import threading
import weakref

from diskless.forks import at_fork
from diskless.loader import start
from diskless.loader.protocol import VERSION, Channel, SocketChannel, queues
from diskless.loader.serve import Service
from diskless.loader.transfer import known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from diskless.sources import Source

_log = logging.getLogger("diskless")
_GREETING_S = 2.0
# Left for the rest of the program where the descriptor limit has to be raised.
_SPARE_DESCRIPTORS = 64

# Guarded by `start.lock`, all of it.
_control: SocketChannel | None = None
_greeted = False  # by a Loader, once
_threads_only = False
# Every connection, and the Loader it was handed to.
_channels: weakref.WeakKeyDictionary[Channel, SocketChannel | None] = weakref.WeakKeyDictionary()


def connect(source: Source | None = None) -> Channel:
    """Return a connection for one job: to the Loader process, or to a thread here where there can be no process.

    A `source` that exists in this process only is read by a thread.

    Raises EOFError where the Loader ends before it has greeted, though another could be started: it was killed.
    """
    with start.lock:
        return _to_thread(source) if source is not None else _to_process() or _to_thread(None)


def can_start() -> bool:
    """Whether there is a Loader process, or one can be started."""
    with start.lock:
        try:
            return (_control or _launch()) is not None
        except EOFError:
            return True


def in_process() -> bool:
    """Whether jobs are served by threads of this process."""
    return _threads_only


def lost(channel: Channel) -> None:
    """Note that the Loader behind a connection died: until all its sockets are closed it would be handed more."""
    with start.lock:
        if _control is not None and _channels.get(channel) is _control:
            _forget()


def make_room(files: int, *, in_thread: bool = False) -> None:
    """Raise the soft limit on descriptors for what a thread of this process is about to be handed."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not (_threads_only or in_thread) or soft == resource.RLIM_INFINITY:
        return
    try:
        in_use = len(os.listdir("/proc/self/fd"))
    except OSError:
        in_use = soft  # there is no /proc: surely enough
    need = in_use + files + _SPARE_DESCRIPTORS
    if need > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need if hard == resource.RLIM_INFINITY else min(need, hard), hard))


def _to_process() -> Channel | None:
    """Return a connection to the Loader, started when there is none; None where none can be."""
    for _ in range(2):
        control = _control or _launch()
        if control is None:
            return None
        near, far = start.pair()
        channel = SocketChannel(near)
        _channels[channel] = control
        with far:
            try:
                control.send({"op": "job"}, [far.fileno()])
                return channel
            except OSError:  # it ended meanwhile
                channel.close()
                _forget()
    return None


def _to_thread(source: Source | None) -> Channel:
    here, there = queues()
    _channels[here] = _channels[there] = None
    try:
        threading.Thread(target=Service(there, source).run, name="diskless-loader", daemon=True).start()
    except RuntimeError as error:
        here.close()
        there.close()
        raise known(error) from None
    return here


def _launch() -> SocketChannel | None:
    global _control, _greeted, _threads_only
    if _threads_only:
        return None
    control = started = None
    try:
        near, started = start.take()
        control = SocketChannel(near)
        greets = select.poll()
        greets.register(near, select.POLLIN)
        if not greets.poll(_GREETING_S * 1000):
            raise OSError(f"no greeting within {_GREETING_S:.0f} s")
        greeting, _ = control.receive()
        if greeting.get("version") != VERSION:
            raise OSError("another version of diskless answered")
    except (OSError, EOFError, ValueError) as error:
        if control is not None:
            control.close()
        if started is not None:
            start.kill(started)
        if _greeted and isinstance(error, EOFError):
            raise
        _threads_only = True
        _log.info("no Loader process (%s): transfers run in threads of this process", error or "it ended at once")
        return None
    _control, _greeted = control, True
    return control


def _forget() -> None:
    global _control
    if _control is not None:
        _control.close()
    _control = None


def _close_in_child() -> None:
    """A child has copies of the parent's sockets: closed here, or the Loader would not see the parent end."""
    _forget()
    for channel in list(_channels):
        channel.close()


at_fork(_close_in_child)
