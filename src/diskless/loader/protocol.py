"""Messages between a user's process and the Loader: small JSON objects and descriptors over a SEQPACKET socket.

One `send` is one `recv` (unix(7)); each message is far smaller than the socket's buffer, and long lists go in pieces.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from diskless.errors import DescriptorLimit

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


class Channel:
    """One end of a connection. Sending and receiving may be done by different threads."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send one message; BrokenPipeError when the other side is gone."""
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
        """Send one message unless that would block; whether it was sent."""
        data = json.dumps(message, separators=(",", ":")).encode()
        try:
            self._socket.send(data, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[Message, list[int]]:
        """Return the next message and its descriptors (close-on-exec).

        Raises EOFError when the other side is gone, DescriptorLimit when not all descriptors fit this process.
        """
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
            raise DescriptorLimit(
                "files cannot be handed to the Loader: it may not have that many descriptors (RLIMIT_NOFILE). Raise "
                "the limit (`ulimit -Hn`), or choose fewer files with allow_patterns="
            )
        return json.loads(data), descriptors.tolist()

    def end(self) -> None:
        """Let both sides see the end, also where a forked process holds a copy of the socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new connection."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def pieces(items: Iterable[_Item], most: int, *, size_bytes: int = MAX_MESSAGE_BYTES // 2) -> Iterator[list[_Item]]:
    """Yield the items in lists of at most `most`, each below `size_bytes` as JSON."""
    piece: list[_Item] = []
    length = 0
    for item in items:
        item_bytes = len(json.dumps(item)) + 1
        if piece and (len(piece) == most or length + item_bytes > size_bytes):
            yield piece
            piece, length = [], 0
        piece.append(item)
        length += item_bytes
    if piece:
        yield piece
