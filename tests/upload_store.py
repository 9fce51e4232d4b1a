"""UploadStore: a bucket in memory that takes uploads and refuses what S3 would; a StubServer answers with it."""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from awscrt import checksums

from tests.sources.stub_server import Answer, Asked, StubServer, s3_error

BUCKET = "models"
_CRCS = {"crc64nvme": (checksums.crc64nvme, 8), "crc32": (zlib.crc32, 4)}


def storage_options(server: StubServer) -> dict[str, str]:
    """Return with what `push` and `mount` reach the server that answers for a store."""
    return {"key": "AKID", "secret": "secret", "region": "us-east-1", "endpoint_url": server.url}


def write_files(path: Path, files: dict[str, bytes]) -> Path:
    """Make a directory of these files, by their path in it."""
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


class UploadStore:
    """`objects` are the bytes by key; `fault` is asked first about every request, and may answer it.

    Of the checksums it takes those that it `knows`, one with every body; where it knows none, bodies without.
    """

    def __init__(
        self,
        fault: Callable[[Asked], Answer | None] = lambda asked: None,
        knows: Collection[str] = tuple(_CRCS),
        refusal: Answer | None = None,
    ) -> None:
        self.knows = knows
        self.refusal = refusal or s3_error(400, "InvalidRequest", "<Why>not a checksum that is known here</Why>")
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.aborted: list[str] = []
        self.fault = fault
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Answer:
        found = self.fault(asked)
        if found is not None:
            return found
        with self._lock:
            return self._answer(asked)

    def _answer(self, asked: Asked) -> Answer:
        key = unquote(asked.path).removeprefix(f"/{BUCKET}").lstrip("/")
        sent = asked.headers["x-amz-content-sha256"]
        if sent not in (hashlib.sha256(asked.body).hexdigest(), "UNSIGNED-PAYLOAD"):
            return s3_error(400, "XAmzContentSHA256Mismatch")
        if asked.method in ("PUT", "POST") and "authorization" not in asked.headers:
            return s3_error(403, "AccessDenied")
        upload = asked.query.get("uploadId")
        names = {name for name in _CRCS if f"x-amz-checksum-{name}" in asked.headers}
        names |= (
            {asked.headers["x-amz-checksum-algorithm"].lower()}
            if "x-amz-checksum-algorithm" in asked.headers
            else set()
        )
        if not names <= set(self.knows):
            return self.refusal
        if asked.method == "GET":
            return self._uploads(asked.query["prefix"]) if "uploads" in asked.target else self._list(asked)
        if asked.method == "HEAD":
            if key not in self.objects:
                return Answer(404)
            headers = {
                "etag": _etag(self.objects[key]),
                "x-amz-checksum-crc64nvme": _crc("crc64nvme", self.objects[key]),
            }
            return Answer(200, headers=headers)
        if upload is not None and upload not in self.uploads:
            return s3_error(404, "NoSuchUpload")
        if asked.method == "DELETE":
            del self.uploads[str(upload)]
            self.aborted.append(key)
            return Answer(204)
        if asked.method == "POST" and upload is None:
            assert asked.headers.get("x-amz-checksum-type") == ("FULL_OBJECT" if self.knows else None)
            self.uploads[f"id-{len(self.uploads)}/{key}"] = (key, {})
            return Answer(200, f"<R><UploadId>{escape(list(self.uploads)[-1])}</UploadId></R>".encode())
        if asked.method == "POST":
            return self._complete(key, str(upload), asked)
        if not self._right(asked, asked.body):
            return s3_error(400, "BadDigest")
        if upload is None:
            self.objects[key] = asked.body
        else:
            self.uploads[upload][1][int(asked.query["partNumber"])] = asked.body
        return Answer(200, headers={"etag": _etag(asked.body)})

    def _complete(self, key: str, upload: str, asked: Asked) -> Answer:
        parts = self.uploads[upload][1]
        listed = [
            {of.tag: of.text for of in part if of.text is not None}
            for part in ElementTree.fromstring(asked.body).iter("Part")
        ]
        name = next((name for name in _CRCS if f"x-amz-checksum-{name}" in asked.headers), None)
        expected = [
            {"PartNumber": str(number), "ETag": _etag(parts[number])}
            | ({f"Checksum{name.upper()}": _crc(name, parts[number])} if name else {})
            for number in sorted(parts)
        ]
        if listed != expected:
            return s3_error(400, "InvalidPart")
        data = b"".join(parts[number] for number in sorted(parts))
        if not self._right(asked, data) or int(asked.headers.get("x-amz-mp-object-size", len(data))) != len(data):
            return s3_error(400, "BadDigest")
        self.objects[key] = data
        del self.uploads[upload]
        return Answer(200, f"<R><ETag>{escape(_etag(data))}</ETag></R>".encode())

    def _right(self, asked: Asked, data: bytes) -> bool:
        """Whether the checksum that came along is that of the data; one has to, if any is known."""
        return not self.knows or any(asked.headers.get(f"x-amz-checksum-{name}") == _crc(name, data) for name in _CRCS)

    def _list(self, asked: Asked) -> Answer:
        prefix = asked.query.get("prefix", "")
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>{escape(_etag(data))}</ETag></Contents>"
            for key, data in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        return Answer(200, f"<ListBucketResult>{contents}</ListBucketResult>".encode())

    def _uploads(self, prefix: str) -> Answer:
        found = "".join(
            f"<Upload><Key>{escape(key)}</Key><UploadId>{escape(upload)}</UploadId></Upload>"
            for upload, (key, _) in self.uploads.items()
            if key.startswith(prefix)
        )
        return Answer(200, f"<R><IsTruncated>false</IsTruncated>{found}</R>".encode())


def _crc(name: str, data: bytes) -> str:
    compute, size = _CRCS[name]
    return base64.b64encode(compute(data).to_bytes(size, "big")).decode()


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'
