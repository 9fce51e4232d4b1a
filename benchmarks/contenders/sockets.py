"""The limit of what Python can do: plain sockets, one buffer a thread, `recv_into` and `pwrite`; nothing is checked."""

from __future__ import annotations

import os
import queue
import socket
from urllib.parse import urlsplit

from benchmarks.contenders.at_once import by_threads
from benchmarks.contenders.target import Held, Target, Transfer

_THREADS, _PART_BYTES, _BUFFER_BYTES = 8, 32 << 20, 1 << 20


def bare_sockets(target: Target) -> Transfer:
    """Eight connections, parts of 32 MiB; the sizes are known."""
    if target.tls:
        raise NotImplementedError("it speaks no TLS")
    address = urlsplit(target.endpoint)
    host, port = address.hostname or "", address.port or 80

    def transfer() -> list[Held]:
        parts: queue.SimpleQueue[tuple[str, int, int, int]] = queue.SimpleQueue()
        paths: list[Held] = []
        for key, size in zip(target.keys, target.sizes, strict=True):
            descriptor = os.memfd_create("sockets")
            os.ftruncate(descriptor, size)
            paths.append(f"/proc/self/fd/{descriptor}")
            for start in range(0, size, _PART_BYTES):
                parts.put((key, descriptor, start, min(start + _PART_BYTES, size)))

        def fetch() -> None:
            buffer = memoryview(bytearray(_BUFFER_BYTES))
            with socket.create_connection((host, port)) as connection:
                while True:
                    try:
                        key, descriptor, position, end = parts.get_nowait()
                    except queue.Empty:
                        return
                    connection.sendall(
                        f"GET /{target.bucket}/{key} HTTP/1.1\r\nHost: {host}\r\n"
                        f"Range: bytes={position}-{end - 1}\r\n\r\n".encode()
                    )
                    _receive(connection, buffer, descriptor, position, end)

        by_threads(fetch, _THREADS)
        return paths

    return transfer


def _receive(connection: socket.socket, buffer: memoryview, descriptor: int, position: int, end: int) -> None:
    """Write the body of one answer from `position` to `end`."""
    count, body = 0, -1
    while body < 0:
        received = connection.recv_into(buffer[count:])
        if received == 0:
            raise EOFError("the server closed the connection")
        count += received
        body = bytes(buffer[:count]).find(b"\r\n\r\n")
    if b" 206 " not in bytes(buffer[:32]):
        raise OSError(f"the server answered {bytes(buffer[:32])!r}")
    position += os.pwrite(descriptor, buffer[body + 4 : count], position)
    while position < end:
        count = connection.recv_into(buffer)
        if count == 0:
            raise EOFError("the server closed the connection")
        position += os.pwrite(descriptor, buffer[:count], position)
