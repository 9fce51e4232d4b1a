"""A small S3 server on loopback that fails on demand, byte for byte as a test wants it."""

from __future__ import annotations

import functools
import hashlib
import math
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.restarting_server import Listener, RestartingServer

BUCKET = "faulty"


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer to a GET of an object; nothing by default."""

    status: int | None = None  # this answer instead of the bytes …
    code: str = "SlowDown"  # … with this S3 error code
    close_after: int | None = None  # so many bytes of the body, then the connection ends
    resets: bool = False  # … by a reset, with what the client has not read yet
    hang_after: int | None = (
        None  # so many bytes of the body, then nothing until the server stops or the client gives up
    )
    piece_bytes: int = 64 << 10  # what is sent at a time …
    pause_s: float = 0.0  # … after waiting so long
    short_by: int = 0  # a body that ends properly, too early
    extra: bytes = b""  # more than was asked for, behind it …
    extra_before: bytes = b""  # … or in front of it
    damage: int | None = None  # the byte of the body at this place, or its last one, is another
    ignores_range: bool = False  # 200 and the whole object
    ignores_if_match: bool = False  # whatever the object is now
    content_range: str | None = None  # in place of the true one


@dataclass
class Get:
    """One GET of an object: `end` is exclusive, `sent` the bytes of the body that were written to the connection."""

    number: int
    key: str
    start: int
    end: int
    access_key: str
    sent: int = 0
    settled: threading.Event = field(default_factory=threading.Event)  # nothing more is sent


# Called for each GET of an object, before it is answered; it may also change the server's objects.
Plan = Callable[[Get], Fault | None]


class FaultServer(RestartingServer):
    """Serves `objects` (bytes by key) of one bucket to `storage_options`."""

    def __init__(
        self,
        objects: Mapping[str, bytes],
        *,
        hang_after: int | None = None,
        plan: Plan | None = None,
        page_size: int = 1000,
    ) -> None:
        self.objects = dict(objects)
        self.url = f"s3://{BUCKET}"
        self.plan: Plan = plan or (lambda get: Fault(hang_after=hang_after))
        self.page_size = page_size
        # By key: what a HEAD tells beside the ETag, and the sizes of the parts that the object was uploaded in.
        self.checksums: dict[str, Mapping[str, str]] = {}
        self.part_sizes: dict[str, list[int]] = {}
        self.tells_attributes = True  # GetObjectAttributes
        # Guards the lists below.
        self.lock = threading.Lock()
        self.gets: list[Get] = []
        self.list_requests = 0
        self.heads: list[str] = []  # keys
        self.hanging = threading.Event()  # set once an answer hangs
        self._http: _Listener | None = None
        self._port = 0

    @property
    def storage_options(self) -> dict[str, str]:
        return {
            "key": "AKIDFAULT",
            "secret": "fault-secret",
            "region": "us-east-1",
            "endpoint_url": f"http://127.0.0.1:{self._port}",
        }

    @property
    def s3fs_options(self) -> dict[str, Any]:
        """The same in the words of s3fs, for a filesystem of the test's own."""
        given = self.storage_options
        client = {"region_name": given["region"], "endpoint_url": given["endpoint_url"]}
        return {"key": given["key"], "secret": given["secret"], "client_kwargs": client, "skip_instance_cache": True}

    def start(self) -> None:
        """Listen, at the port of the last time."""
        self.stopped = threading.Event()
        self._http = _Listener(self._port, self)
        self._port = self._http.port

    def stop(self) -> None:
        """Refuse connections from now on and end those there are."""
        http, self._http = self._http, None
        if http is None:
            return
        self.stopped.set()
        http.end()

    def disconnect(self) -> None:
        """End the connections there are."""
        if self._http is not None:
            self._http.disconnect()

    def sent_bytes(self, key: str) -> int:
        """All bytes of this object that were sent, those that were sent twice counted twice."""
        gets = [get for get in self.gets if get.key == key]
        assert all(get.settled.wait(20) for get in gets), "an answer does not end"
        return sum(get.sent for get in gets)

    def etag(self, key: str) -> str:
        return _etag(self.objects[key])


@functools.lru_cache
def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


class _Listener(Listener):
    def __init__(self, port: int, faults: FaultServer) -> None:
        self.faults = faults
        super().__init__(port, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if bucket != BUCKET:
            self._refuse(404, "NoSuchBucket")
        elif key and "attributes" in parse_qs(parts.query, keep_blank_values=True):
            self._attributes(key)
        elif key:
            self._object(key)
        else:
            self._list({name: values[0] for name, values in parse_qs(parts.query).items()})

    def do_HEAD(self) -> None:
        faults, parts = self.server.faults, urlsplit(self.path)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        with faults.lock:
            faults.heads.append(key)
        if key not in faults.objects:
            self._head(404, {}, 0)
        elif self.headers.get("if-match") not in (None, faults.etag(key)):
            self._head(412, {}, 0)
        elif number := parse_qs(parts.query).get("partNumber"):
            sizes = faults.part_sizes[key]
            self._head(206, {"x-amz-mp-parts-count": str(len(sizes))}, sizes[int(number[0]) - 1])
        else:
            enabled = self.headers.get("x-amz-checksum-mode") == "ENABLED"
            told = faults.checksums.get(key, {}) if enabled else {}
            self._head(200, {"ETag": faults.etag(key), **told}, len(faults.objects[key]))

    def _attributes(self, key: str) -> None:
        """GetObjectAttributes, two parts a page."""
        faults = self.server.faults
        if not faults.tells_attributes:
            self._refuse(403, "AccessDenied")
            return
        after, sizes = int(self.headers["x-amz-part-number-marker"]), faults.part_sizes[key]
        page = "".join(
            f"<Part><PartNumber>{number + 1}</PartNumber><Size>{sizes[number]}</Size></Part>"
            for number in range(after, min(after + 2, len(sizes)))
        )
        more = str(after + 2 < len(sizes)).lower()
        self._answer(
            200,
            f"<GetObjectAttributesResponse><ObjectParts><IsTruncated>{more}</IsTruncated>"
            f"<NextPartNumberMarker>{after + 2}</NextPartNumberMarker>{page}</ObjectParts>"
            "</GetObjectAttributesResponse>".encode(),
        )

    def _list(self, query: dict[str, str]) -> None:
        """ListObjectsV2; the continuation token is the last key of the page before."""
        faults = self.server.faults
        with faults.lock:
            faults.list_requests += 1
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        keys = sorted(key for key in faults.objects if key.startswith(prefix) and key > after)
        page, more = keys[: faults.page_size], len(keys) > faults.page_size
        contents = "".join(
            f"<Contents><Key>{quote(key, errors='surrogateescape')}</Key><Size>{len(faults.objects[key])}</Size>"
            f"<ETag>{escape(faults.etag(key))}</ETag><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        self._answer(
            200,
            f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token}{contents}</ListBucketResult>".encode(),
        )

    def _object(self, key: str) -> None:
        faults = self.server.faults
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        assert asked is not None, "the Loader always asks for ranges"
        signer = re.search(r"Credential=([^/]+)/", self.headers.get("authorization", ""))
        with faults.lock:
            get = Get(len(faults.gets), key, int(asked[1]), int(asked[2]) + 1, signer[1] if signer else "")
            faults.gets.append(get)
        try:
            self._answer_get(get)
        finally:
            get.settled.set()

    def _answer_get(self, get: Get) -> None:
        faults, key = self.server.faults, get.key
        fault = faults.plan(get) or Fault()
        data = faults.objects.get(key)
        if fault.status is not None:
            self._refuse(fault.status, fault.code)
        elif data is None:
            self._refuse(404, "NoSuchKey")
        elif not fault.ignores_if_match and self.headers.get("if-match") not in (None, faults.etag(key)):
            self._refuse(412, "PreconditionFailed")
        elif fault.ignores_range:
            self._send(get, fault, 200, data, {"ETag": faults.etag(key)})
        else:
            body = data[get.start : get.end]
            where = fault.content_range or f"bytes {get.start}-{get.start + len(body) - 1}/{len(data)}"
            if fault.damage is not None and body:
                place = min(fault.damage, len(body) - 1)
                body = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
            body = fault.extra_before + body[: len(body) - fault.short_by] + fault.extra
            self._send(get, fault, 206, body, {"ETag": faults.etag(key), "Content-Range": where})

    def _send(self, get: Get, fault: Fault, status: int, body: bytes, headers: dict[str, str]) -> None:
        faults = self.server.faults
        self._head(status, headers, len(body))
        stop_at = fault.close_after if fault.close_after is not None else fault.hang_after
        position, end = 0, len(body) if stop_at is None else min(stop_at, len(body))
        while position < end:
            if fault.pause_s and self._is_left_within(fault.pause_s):
                break
            count = self.connection.send(body[position : min(end, position + fault.piece_bytes)])
            position += count
            get.sent += count
        get.settled.set()
        if fault.hang_after is not None:
            faults.hanging.set()
            self._is_left_within(math.inf)
        if stop_at is not None:
            self.close_connection = True
        if fault.resets:
            # A close that does not linger is a reset (SO_LINGER, socket(7)); http.server would shut down first.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _is_left_within(self, seconds: float) -> bool:
        """Wait; whether the server was stopped or the client has ended the connection meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.server.faults.stopped.wait(min(left, 0.05)) or _is_gone(self.connection):
                return True
        return False

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode())

    def _answer(self, status: int, body: bytes) -> None:
        self._head(status, {"Content-Type": "application/xml"}, len(body))
        self.connection.sendall(body)

    def _head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Last-Modified", formatdate(1767323045, usegmt=True))
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _is_gone(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
