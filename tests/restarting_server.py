"""What the HTTP servers of tests share that end connections as a test wants it, and start again where they were."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, TypeVar

_Self = TypeVar("_Self", bound="RestartingServer")


class RestartingServer:
    """Listens while it is open as a context manager, and between `start` and `stop`."""

    def start(self) -> None:
        raise NotImplementedError("each says what it listens with")

    def stop(self) -> None:
        raise NotImplementedError("each says what it listens with")

    def __enter__(self: _Self) -> _Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Listener(ThreadingHTTPServer):
    """Listens at a port of loopback, or any where that is 0, from the beginning until `end`."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), handler)
        self.port: int = self.server_address[1]
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def end(self) -> None:
        """Refuse connections from now on and end those there are."""
        self.shutdown()
        self.socket.close()
        self.disconnect()
        self.server_close()  # joins the threads that answer

    def disconnect(self) -> None:
        """End the connections there are."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # it has ended
                    connection.shutdown(socket.SHUT_RDWR)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request_thread(request, client_address)
        with self._lock:
            self._connections.remove(request)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that is killed ends its connections as it likes
