"""StubServer: an HTTP server on loopback that answers as a test says, and remembers what it was asked."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request, with the names of its headers in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    port: int = 0  # that the request came from: one for each connection

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def s3_error(status: int, code: str, more: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """Return an error as S3 words it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said by the server</Message>{more}</Error>"
    return Answer(status, body.encode(), headers or {})


def s3_listing(*entries: tuple[str, int], more: str = "", encoded: bool = True) -> Answer:
    """Return a page of ListObjectsV2 with these keys, already encoded as they are to be sent, and sizes."""
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>&quot;1&quot;</ETag>"
        "<LastModified>2026-01-02T03:04:05.678Z</LastModified></Contents>"
        for key, size in entries
    )
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    page = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    text = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{encoding}{page}{contents}'
    return Answer(200, f"{text}</ListBucketResult>".encode())


def s3_object(key: str, data: bytes) -> Callable[[Asked], Answer]:
    """Answer listings with this one object, and requests for ranges of it."""

    def answer(asked: Asked) -> Answer:
        if "list-type" in asked.query:
            return s3_listing((key, len(data)))
        first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
        headers = {
            "content-range": f"bytes {first}-{last}/{len(data)}",
            "etag": '"1"',
            "last-modified": "Fri, 02 Jan 2026 03:04:05 GMT",
        }
        return Answer(206, data[first : last + 1], headers)

    return answer


class StubServer:
    """Serves until the end of the `with` statement. With `certificate`, a file of chain and key, over TLS."""

    def __init__(self, answer: Callable[[Asked], Answer], certificate: Path | None = None) -> None:
        asked: list[Asked] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Asked(self.command, self.path, headers, self.rfile.read(length), self.client_address[1])
                asked.append(request)
                reply = answer(request)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if "content-length" not in {name.lower() for name in reply.headers}:
                    self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_GET = do_DELETE = do_PUT = do_POST = do_HEAD = do_CONNECT = handle_one

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that goes away, such as one that does not trust us

        self.asked = asked
        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake is made by the thread of the connection, at its first read.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )

    def __enter__(self) -> StubServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
