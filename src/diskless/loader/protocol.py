"""Messages between a user and the Loader: small JSON objects and descriptors.

To a process they go over a SEQPACKET socket: one `send` is one `recv` (unix(7)); each message is far smaller than the
socket's buffer, and long lists go in pieces. To a thread they go through two queues.
"""

from __future__ import annotations

import array
import contextlib
import errno
import itertools
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from diskless.errors import DescriptorLimit

if TYPE_CHECKING:
    import queue

Message = dict[str, object]
_Item = TypeVar("_Item")

# Both sides come from one installation; a mismatch means that the package was replaced under a running process.
VERSION = 1
MAX_MESSAGE_BYTES = 32 << 10
MAX_DESCRIPTORS = 253  # SCM_MAX_FD, unix(7)
_DESCRIPTOR_BYTES = array.array("i").itemsize
# Descriptors that were sent and not yet received count, for all processes of a user together, against the limit of the
# sender (ETOOMANYREFS, unix(7)): this long we wait for others to receive theirs.
_IN_FLIGHT_PATIENCE_S, _IN_FLIGHT_PAUSE_S = 10.0, 0.005
# Messages that wait in a queue before `offer` finds it full.
_QUEUED = 32


class Channel(Protocol):
    """One end of a connection. Sending and receiving may be done by different threads."""

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send one message; BrokenPipeError when the other side is gone."""

    def offer(self, message: Message) -> bool:
        """Send one message unless that would block; whether it was sent."""

    def receive(self) -> tuple[Message, list[int]]:
        """Return the next message and its descriptors (close-on-exec).

        Raises EOFError when the other side is gone, DescriptorLimit when not all descriptors fit this process.
        """

    def end(self) -> None:
        """Let both sides see the end, also where a forked process holds a copy of the connection."""

    def close(self) -> None:
        """Let go of this end; the other one sees it."""


class SocketChannel:
    """A connection to another process."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > MAX_MESSAGE_BYTES or len(descriptors) > MAX_DESCRIPTORS:
            raise ValueError(f"a message of {len(data)} bytes and {len(descriptors)} descriptors is too long")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        until = time.monotonic() + _IN_FLIGHT_PATIENCE_S
        while True:
            try:
                self._socket.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
                return
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS or time.monotonic() > until:
                    raise
            time.sleep(_IN_FLIGHT_PAUSE_S)

    def offer(self, message: Message) -> bool:
        data = json.dumps(message, separators=(",", ":")).encode()
        try:
            self._socket.send(data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[Message, list[int]]:
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                MAX_MESSAGE_BYTES, socket.CMSG_SPACE(MAX_DESCRIPTORS * _DESCRIPTOR_BYTES), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            raise EOFError from None
        descriptors = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(content[: len(content) - len(content) % _DESCRIPTOR_BYTES])
        if not data:
            raise EOFError
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            for fd in descriptors:
                os.close(fd)
            raise _too_many()
        return json.loads(data), descriptors.tolist()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


class QueueChannel:
    """A connection to another thread; works on every system."""

    def __init__(self, inbox: _Queue, outbox: _Queue, ended: list[bool]) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._ended = ended  # of one item, which both ends see

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        if self._ended[0]:
            raise BrokenPipeError(errno.EPIPE, "the connection has ended")
        # As JSON, so that nothing is shared and a thread is told just what a process would be.
        self._outbox.put((json.dumps(message), _copies(descriptors)))
        if self._ended[0]:  # meanwhile: the other side may not look any more
            _drain(self._outbox)

    def offer(self, message: Message) -> bool:
        if self._ended[0] or self._outbox.qsize() >= _QUEUED:
            return False
        self.send(message)
        return True

    def receive(self) -> tuple[Message, list[int]]:
        item = self._inbox.get()
        if item is None:
            self._inbox.put(None)  # for the next call
            raise EOFError
        data, descriptors = item
        if descriptors is None:
            raise _too_many()
        return json.loads(data), descriptors

    def end(self) -> None:
        self._ended[0] = True
        self._inbox.put(None)
        self._outbox.put(None)

    def close(self) -> None:
        self.end()
        _drain(self._inbox)


# None ends it. Descriptors that are None did not all fit.
if TYPE_CHECKING:
    _Queue = queue.SimpleQueue[tuple[str, list[int] | None] | None]


def _copies(descriptors: Sequence[int]) -> list[int] | None:
    copies: list[int] = []
    try:
        for fd in descriptors:
            copies.append(os.dup(fd))
    except OSError as error:
        for fd in copies:
            os.close(fd)
        if error.errno != errno.EMFILE:
            raise
        return None
    return copies


def _drain(messages: _Queue) -> None:
    import queue

    with contextlib.suppress(queue.Empty):
        while True:
            for fd in (messages.get_nowait() or ("", ()))[1] or ():
                os.close(fd)
    messages.put(None)


def _too_many() -> DescriptorLimit:
    return DescriptorLimit(
        "files cannot be handed to the Loader: it may not have that many descriptors (RLIMIT_NOFILE). Raise the limit "
        "(`ulimit -Hn`), or choose fewer files with allow_patterns="
    )


def queues() -> tuple[QueueChannel, QueueChannel]:
    """Return the two ends of a new connection between threads."""
    import queue  # late: a Loader process needs none

    there: _Queue = queue.SimpleQueue()
    here: _Queue = queue.SimpleQueue()
    ended = [False]
    return QueueChannel(here, there, ended), QueueChannel(there, here, ended)


def pieces(items: Iterable[_Item], most: int, *, size_bytes: int = MAX_MESSAGE_BYTES // 2) -> Iterator[list[_Item]]:
    """Yield the items in lists of at most `most`, each below `size_bytes` as JSON."""
    rest, fitting = iter(items), most
    while piece := list(itertools.islice(rest, fitting)):
        parts = list(_halves(piece, size_bytes))
        yield from parts
        fitting = max(len(part) for part in parts)  # what follows is likely to be as large


def _halves(piece: list[_Item], size_bytes: int) -> Iterator[list[_Item]]:
    """Yield the items in as few lists below `size_bytes` as halving makes; one that is larger stands alone."""
    if len(piece) == 1 or len(json.dumps(piece)) <= size_bytes:
        yield piece
        return
    middle = len(piece) // 2
    yield from _halves(piece[:middle], size_bytes)
    yield from _halves(piece[middle:], size_bytes)
