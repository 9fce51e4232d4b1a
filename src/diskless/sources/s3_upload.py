"""S3Upload: the requests by which objects come to be: PutObject, and the five of a multipart upload.

Every body carries its checksum, which the store compares; the whole of a multipart upload too. Source:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html and
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from diskless.errors import (
    AccessDenied,
    Cancelled,
    CredentialsError,
    DisklessError,
    InvalidURL,
    NotFound,
    SourceUnavailable,
    TransferError,
)
from diskless.sources import xml
from diskless.sources.checksums import Checksum
from diskless.sources.failures import WRITING, failure
from diskless.sources.s3 import S3Source
from diskless.sources.spec import Object, SourceSpec

ATTEMPTS = 6
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
# How stores say that they do not know a checksum; one that does not match is none of these (BadDigest, InvalidDigest).
_UNKNOWN = re.compile(r"<Code>(?:InvalidRequest|InvalidArgument|UnsupportedArgument|NotImplemented)</Code>")
_ABOUT_CHECKSUMS = re.compile(r"checksum|crc|<Code>NotImplemented", re.IGNORECASE)
_CONDITIONS = ("if-match", "if-none-match")
_ABOUT_CONDITIONS = re.compile(r"if-(?:none-)?match|conditional", re.IGNORECASE)
_ALWAYS: Mapping[str, str] = {}
_NOTHING: Mapping[str, str] = {}
_METADATA = "x-amz-meta-"


class ChecksumRefused(TransferError):
    """The store does not know the checksum that a request carries. A push goes on with another, or without."""


class PreconditionFailed(TransferError):
    """Something else is at the key than was asked for: somebody else has written there."""


class _ConditionRefused(TransferError):
    """The store knows no conditional writes."""


class Body(NamedTuple):
    """Bytes to be sent, as often as an upload is tried."""

    size_bytes: int
    checksum: Checksum
    sha256: str  # in hexadecimal, or UNSIGNED-PAYLOAD
    pieces: Callable[[], Iterable[memoryview]]

    @staticmethod
    def of(content: bytes, checksum: Checksum) -> Body:
        return Body(len(content), checksum, hashlib.sha256(content).hexdigest(), lambda: [memoryview(content)])


class Uploaded(NamedTuple):
    """A part that the store has, by its number."""

    number: int
    etag: str
    checksum: Checksum


class S3Upload:
    """Writes objects of one bucket. Used by several threads, each with connections of its own, until `close`.

    Requests that fail in a way that may pass are tried again after a pause, with jitter; each method raises what the
    store says in the end, or Cancelled once `stop` is set. InvalidURL where it is not in S3.
    """

    def __init__(self, spec: SourceSpec, stop: threading.Event) -> None:
        if spec.url.scheme != "s3":
            raise InvalidURL(f"{spec.display} cannot be written: only S3 is, such as s3://bucket/prefix")
        self._spec = spec
        self._stop = stop
        self._source = S3Source(spec, spec.refresh)
        self.sends_checksums = True  # False for a store that refuses them all; not changed while requests are made

    @property
    def signs_bodies(self) -> bool:
        """Whether a body's SHA-256 is wanted: without TLS, or a checksum, the signature is what protects it."""
        return not self.sends_checksums or self._source.endpoint.url.startswith("http:")

    def close(self) -> None:
        """End all connections."""
        self._source.connections.close()

    def keys(self, prefix: str) -> tuple[list[str], bool]:
        """Return the first keys that begin with `prefix`, and whether there are more."""
        objects, more = self._source.page({"prefix": prefix})
        return [entry.key for entry in objects], more is not None

    def objects(self, prefix: str) -> list[Object]:
        """Return all objects whose keys begin with `prefix`."""
        found: list[Object] = []
        parameters = {"prefix": prefix}
        while True:
            objects, more = self._source.page(parameters)
            found += objects
            if more is None:
                return found
            parameters["continuation-token"] = more

    def metadata(self, key: str) -> Mapping[str, str]:
        """Return what was said of an object when it was written, by names in lower case; empty for one that is not."""
        try:
            headers, _ = self._send("HEAD", key, {}, {})
        except NotFound:
            return {}
        return {name[len(_METADATA) :]: told for name, told in headers.items() if name.startswith(_METADATA)}

    def put(
        self,
        key: str,
        body: Body,
        conditions: Mapping[str, str] = _ALWAYS,
        metadata: Mapping[str, str] = _NOTHING,
    ) -> str | None:
        """Write an object in one request, and `metadata` with it; returns its ETag.

        `conditions` are ``{"if-none-match": "*"}`` for a new object, ``{"if-match": etag}`` to replace just that one:
        PreconditionFailed where they do not hold. A store that knows no such thing writes.
        """
        said = self._checksum_headers(body.checksum) | _said(metadata)
        try:
            headers, _ = self._send_if(conditions, "PUT", key, {}, said, body)
        except PreconditionFailed:
            # The answer to an attempt that succeeded may have been lost.
            etag = self._etag_of(key, body.checksum)
            if etag is None:
                raise
            return etag
        return headers.get("etag")

    def create(self, key: str, algorithm: str, metadata: Mapping[str, str] = _NOTHING) -> str:
        """Begin a multipart upload of an object with `metadata`, and return its id."""
        wanted = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": "FULL_OBJECT"}
        headers = (wanted if self.sends_checksums else {}) | _said(metadata)
        _, answer = self._send("POST", key, {"uploads": ""}, headers)
        upload = xml.text(answer, "UploadId") if answer is not None else ""
        if not upload:
            raise TransferError(f"{self._named(key)}: the store began no multipart upload: is the endpoint right?")
        return upload

    def put_part(self, key: str, upload: str, number: int, body: Body) -> Uploaded:
        """Write one part; numbers begin at 1."""
        parameters = {"partNumber": str(number), "uploadId": upload}
        headers, _ = self._send("PUT", key, parameters, self._checksum_headers(body.checksum), body)
        return Uploaded(number, headers.get("etag", ""), body.checksum)

    def complete(
        self,
        key: str,
        upload: str,
        parts: Sequence[Uploaded],
        checksum: Checksum,
        size_bytes: int,
        conditions: Mapping[str, str] = _ALWAYS,
    ) -> str | None:
        """Let the parts become the object, if its checksum is this; returns its ETag. `conditions` as for `put`."""
        name = f"Checksum{checksum.algorithm}"
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag>"
            + (f"<{name}>{part.checksum.shown}</{name}>" if self.sends_checksums else "")
            + "</Part>"
            for part in sorted(parts)
        )
        content = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        headers = {
            f"x-amz-checksum-{checksum.algorithm.lower()}": checksum.shown,
            "x-amz-checksum-type": "FULL_OBJECT",
            "x-amz-mp-object-size": str(size_bytes),
        }
        sent = headers if self.sends_checksums else {}
        try:
            _, answer = self._send_if(conditions, "POST", key, {"uploadId": upload}, sent, Body.of(content, checksum))
            # An answer that was cut off, or is somebody else's, is no word that the object is there.
            if answer is None or not (answer.tag == "CompleteMultipartUploadResult" or xml.text(answer, "ETag")):
                raise TransferError(
                    f"{self._named(key)}: the store did not say that the upload is complete; push again, and if that "
                    "does not help, see whether a proxy changes what passes"
                )
        except DisklessError as error:
            # The answer to an attempt that succeeded may have been lost.
            etag = self._etag_of(key, checksum)
            if etag is None:
                raise error from None
            with contextlib.suppress(DisklessError):  # else the same bytes were there before
                self.abort(key, upload)
            return etag
        return xml.text(answer, "ETag") or None

    def abort(self, key: str, upload: str) -> None:
        """Let the store forget the parts."""
        self._send("DELETE", key, {"uploadId": upload}, {}, stoppable=False)

    def uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Return key and id of the multipart uploads under way below `prefix`."""
        found: list[tuple[str, str]] = []
        parameters = {"uploads": "", "prefix": prefix}
        while True:
            _, answer = self._send("GET", "", parameters, {})
            if answer is None:
                return found
            found += [(xml.text(item, "Key"), xml.text(item, "UploadId")) for item in answer.iter("Upload")]
            if xml.text(answer, "IsTruncated") != "true":
                return found
            parameters["key-marker"] = xml.text(answer, "NextKeyMarker")
            parameters["upload-id-marker"] = xml.text(answer, "NextUploadIdMarker")

    def _etag_of(self, key: str, checksum: Checksum) -> str | None:
        """Return the ETag of an object if it is there with this checksum, and the store can say so."""
        try:
            headers, _ = self._send("HEAD", key, {}, {"x-amz-checksum-mode": "ENABLED"})
        except DisklessError:
            return None
        there = headers.get(f"x-amz-checksum-{checksum.algorithm.lower()}") == checksum.shown
        return headers.get("etag") if there else None

    def _send_if(
        self,
        conditions: Mapping[str, str],
        method: str,
        key: str,
        parameters: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body,
    ) -> tuple[Mapping[str, str], Any]:
        try:
            return self._send(method, key, parameters, {**headers, **conditions}, body)
        except _ConditionRefused:
            return self._send(method, key, parameters, headers, body)

    def _send(
        self,
        method: str,
        key: str,
        parameters: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        stoppable: bool = True,
    ) -> tuple[Mapping[str, str], Any]:
        """Return headers and, where there is any, XML of an answer that is a success."""
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            used = self._source.current() if not self._spec.anonymous else None
            try:
                return self._send_once(method, key, parameters, headers, body)
            except (AccessDenied, CredentialsError, SourceUnavailable) as error:
                if isinstance(error, (AccessDenied, CredentialsError)) and not self._source.renewed(used):
                    raise
                if attempt == ATTEMPTS:
                    raise type(error)(f"{error} ({ATTEMPTS} attempts)") from None
            # Jitter keeps many clients from coming back together.
            if self._stop.wait(pause_s * random.uniform(0.5, 1.5)) and stoppable:
                raise Cancelled(f"the upload to {self._spec.display} was stopped")
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
        raise AssertionError("unreachable: there is at least one attempt")

    def _send_once(
        self, method: str, key: str, parameters: Mapping[str, str], headers: Mapping[str, str], body: Body | None
    ) -> tuple[Mapping[str, str], Any]:
        said: Mapping[str, str] = {**headers, **({"content-length": str(body.size_bytes)} if body is not None else {})}
        target, said = self._source.signed(method, parameters, key, said, *((body.sha256,) if body is not None else ()))
        sent = body.pieces() if body is not None else None
        status, answer_headers, content = self._source.connections.mine().request(method, target, said, sent)
        text = content.decode("utf-8", "replace")
        answer = self._parsed(key, content) if 200 <= status < 300 else None
        # CompleteMultipartUpload may find out late that it fails, when it has said 200, and blanks while it was at it.
        failed_late = answer is not None and answer.tag == "Error"
        if not 200 <= status < 300 or failed_late:
            if any(name in headers for name in _CONDITIONS):
                if status == 412 or (status == 404 and "if-match" in headers):
                    raise PreconditionFailed(f"{self._named(key)} was written by somebody else ({status})")
                if status == 501 or (status == 400 and _ABOUT_CONDITIONS.search(text)):
                    raise _ConditionRefused(f"{self._named(key)}: the server writes on no condition ({status})")
            if any(name.startswith("x-amz-checksum") for name in headers) and _refuses_checksum(status, text):
                raise ChecksumRefused(f"{self._named(key)}: the server refuses the checksum ({status})")
            shown = 500 if failed_late else status
            region = self._source.region
            raise failure(self._spec, shown, text, answer_headers, region, self._named(key), needs=WRITING)
        return answer_headers, answer

    def _parsed(self, key: str, content: bytes) -> Any:
        """Return the XML of an answer that is a success, None where it says nothing."""
        said = content.strip()  # no blank may stand before an XML declaration
        try:
            return xml.parse(said) if said else None
        except ValueError:
            raise TransferError(f"{self._named(key)}: the store answered with something that is no XML") from None

    def _named(self, key: str) -> str:
        return f"s3://{self._spec.url.bucket}/{key}" if key else f"s3://{self._spec.url.bucket}"

    def _checksum_headers(self, checksum: Checksum) -> dict[str, str]:
        if not self.sends_checksums:
            return {}
        return {
            "x-amz-sdk-checksum-algorithm": checksum.algorithm,
            f"x-amz-checksum-{checksum.algorithm.lower()}": base64.b64encode(checksum.digest).decode(),
        }


def _said(metadata: Mapping[str, str]) -> dict[str, str]:
    return {_METADATA + name: told for name, told in metadata.items()}


def _refuses_checksum(status: int, text: str) -> bool:
    return status in (400, 501) and bool(_UNKNOWN.search(text) and _ABOUT_CHECKSUMS.search(text))
