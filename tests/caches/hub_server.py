"""A small Hugging Face hub on loopback, for clients whose HF_ENDPOINT points to it, that fails on demand.

Files in LFS are redirected to a CDN as the hub does. That has a port of its own: the client takes a file's metadata
from the redirect, and would follow a redirect to the same origin instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from tests.caches.hub_routes import Answer, Request, answer
from tests.caches.repository import Repository
from tests.restarting_server import Listener, RestartingServer


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer; nothing by default."""

    status: int | None = None  # this answer instead of the right one …
    retry_after: int | None = None  # … with a Retry-After of so many seconds
    garbage: bytes | None = None  # this body instead of the right answer, and none of its headers
    close_after: int | None = None  # so many bytes of the body, then the connection ends
    drops: bool = False  # the connection ends without an answer


# Called for each request, one after the other, before it is answered; it may also change the repositories.
Plan = Callable[[Request], Fault | None]


def first(count: int, fault: Fault, where: str = "") -> Plan:
    """The plan by which the next `count` requests fail, of those that have `where` in `GET /path?query`."""
    left = count

    def plan(request: Request) -> Fault | None:
        nonlocal left
        if left == 0 or where not in f"{request.method} {request.path}":
            return None
        left -= 1
        return fault

    return plan


class HubServer(RestartingServer):
    """Serves `repositories` at `endpoint`: models by `org/name`, datasets by `datasets/org/name`."""

    def __init__(self, repositories: Mapping[str, Repository] | None = None, *, page_size: int = 1000) -> None:
        self.repositories = dict(repositories or {})
        self.page_size = page_size  # of the listing of a tree
        self.redirects_small_files = False  # to a cache on the same origin, as the hub does with many
        self.tokens: set[str] = set()  # valid ones, beside those of the repositories' readers
        self.plan: Plan = lambda request: None
        self.lock = threading.Lock()  # guards the two lists
        self.requests: list[Request] = []
        self.unknown: list[Request] = []  # what no hub that is written here knows to answer
        self._servers: list[_Listener] = []
        self._ports = [0, 0]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def cdn(self) -> str:
        return f"http://127.0.0.1:{self._ports[1]}"

    def start(self) -> None:
        """Listen, at the ports of the last time."""
        self._servers = [_Listener(port, self, bool(which)) for which, port in enumerate(self._ports)]
        self._ports = [server.port for server in self._servers]

    def stop(self) -> None:
        """Refuse connections from now on and end those there are."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.end()

    def asked(self) -> list[str]:
        """All requests so far, as `GET /path?query 200`, and those before are forgotten."""
        with self.lock:
            asked, self.requests[:] = [str(request) for request in self.requests], []
        return asked

    def find(self, repo_id: str) -> tuple[str, Repository] | None:
        """The repository of this name, in whatever case, or that was once called so, with its own name."""
        if repo_id in self.repositories:
            return repo_id, self.repositories[repo_id]
        for name, repository in self.repositories.items():
            if name.lower() == repo_id.lower() or repo_id in repository.other_ids:
                return name, repository
        return None

    def knows(self, token: str) -> bool:
        return token in self.tokens or any(token in each.readers for each in self.repositories.values())


class _Listener(Listener):
    def __init__(self, port: int, hub: HubServer, is_cdn: bool) -> None:
        self.hub, self.is_cdn = hub, is_cdn
        super().__init__(port, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the body would wait for the client to acknowledge the head
    server: _Listener

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.server.hub
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with hub.lock:
            request = Request(len(hub.requests), self.command, self.path, headers, body, self.server.is_cdn)
            hub.requests.append(request)
            fault = hub.plan(request) or Fault()
        if fault.drops:
            self.close_connection = True
            return
        if fault.status is not None:
            retry = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._send(request, Answer(fault.status, b'{"error": "as the test wants it"}', retry), fault)
        elif fault.garbage is not None:
            self._send(request, Answer(200, fault.garbage), fault)
        else:
            self._send(request, answer(hub, request), fault)

    do_HEAD = do_POST = do_GET

    def _send(self, request: Request, told: Answer, fault: Fault) -> None:
        request.status = told.status
        self.send_response(told.status)
        for name, value in {**told.headers, "Content-Length": str(len(told.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method != "HEAD":
            body = told.body[: fault.close_after]
            request.sent = len(body)
            self.connection.sendall(body)
            self.close_connection |= fault.close_after is not None
