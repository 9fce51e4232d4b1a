"""What a store says of a multipart upload that it is to complete, and whether it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from diskless.errors import SourceUnavailable, TransferError
from diskless.sources import resolve
from diskless.sources.checksums import Checksum
from diskless.sources.s3_upload import ATTEMPTS, S3Upload, Uploaded
from tests.sources.stub_server import Answer, Asked, StubServer

DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = b'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
# S3 sends blanks for as long as it puts an object together.
BLANKS = b" \n" * 300
FAILED = b"<Error><Code>InternalError</Code></Error>"
DONE = b"<CompleteMultipartUploadResult><ETag>&quot;1&quot;</ETag></CompleteMultipartUploadResult>"
CHECKSUM = Checksum("CRC64NVME", bytes(8))

pytestmark = pytest.mark.usefixtures("no_env", "short_upload_pauses")


@contextmanager
def _completing(*bodies: bytes) -> Iterator[tuple[S3Upload, list[Asked]]]:
    """An upload to a store that answers 200 with these bodies in turn, the last one again and again."""
    asked_to_complete: list[Asked] = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "HEAD":
            return Answer(404)
        asked_to_complete.append(asked)
        return Answer(200, bodies[min(len(asked_to_complete), len(bodies)) - 1])

    with StubServer(answer) as server:
        options = {"key": "AKID", "secret": "secret", "region": "us-east-1", "endpoint_url": server.url}
        upload = S3Upload(resolve("s3://models/m", storage_options=options), threading.Event())
        yield upload, asked_to_complete
        upload.close()


def _complete(upload: S3Upload) -> str | None:
    return upload.complete("m", "id", [Uploaded(1, '"1"', CHECKSUM)], CHECKSUM, 5)


@pytest.mark.parametrize(
    "body",
    [
        FAILED,
        BLANKS + FAILED,
        DECLARATION + BLANKS + FAILED,
        BLANKS + DECLARATION + FAILED,
        DECLARATION + BLANKS + FAILED.replace(b"<Error>", b"<Error " + NAMESPACE + b">"),
    ],
    ids=["at once", "blanks", "blanks in the XML", "blanks before the XML", "with a namespace"],
)
def test_a_failure_behind_200_is_one_and_tried_again(body):
    with _completing(body) as (upload, asked):
        with pytest.raises(SourceUnavailable, match="s3://models/m: the server answered 500 InternalError"):
            _complete(upload)
        assert len(asked) == ATTEMPTS
    with _completing(body, BLANKS + DONE) as (upload, asked):
        assert _complete(upload) == '"1"' and len(asked) == 2


@pytest.mark.parametrize(
    "body",
    [
        DONE,
        DECLARATION + BLANKS + DONE,
        BLANKS + DECLARATION + DONE,
        DECLARATION + DONE.replace(b"Result>", b"Result " + NAMESPACE + b">", 1),
    ],
    ids=["at once", "blanks in the XML", "blanks before the XML", "with a namespace"],
)
def test_an_upload_that_is_complete_has_an_etag(body):
    with _completing(body) as (upload, asked):
        assert _complete(upload) == '"1"' and len(asked) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "did not say that the upload is complete"),
        (BLANKS, "did not say that the upload is complete"),
        (b"<html>Sign in</html>", "did not say that the upload is complete"),
        (DECLARATION + BLANKS, "something that is no XML"),
        (BLANKS + FAILED[:-5], "something that is no XML"),
    ],
    ids=["nothing", "blanks", "another page", "cut off", "cut off in an error"],
)
def test_what_does_not_say_that_it_is_complete_is_an_error(body, said):
    with _completing(body) as (upload, _), pytest.raises(TransferError, match=said):
        _complete(upload)
