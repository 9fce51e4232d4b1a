"""What S3's answers about an object's checksum mean."""

from __future__ import annotations

import pytest

from diskless.errors import AccessDenied, DisklessError, InvalidOption, ObjectChanged, SourceUnavailable, TransferError
from diskless.sources import Object, open_source, resolve
from diskless.sources.checksums import Checksum
from tests.sources.stub_server import Answer, Asked, StubServer, s3_error

OPTIONS = {"key": "AKIDTEST", "secret": "test-secret", "region": "us-east-1"}
MD5 = '"0123456789abcdef0123456789abcdef"'
ENTRY = Object("dir/a b", "a b", 10, MD5, None, 0)


def _checksum(answer, *, bucket: str = "models", entry: Object = ENTRY, **options) -> tuple[Checksum, list[Asked]]:
    with StubServer(answer if callable(answer) else lambda asked: answer) as server:
        source = open_source(
            resolve(f"s3://{bucket}/dir", storage_options={**OPTIONS, "endpoint_url": server.url, **options})
        )
        return source.checksum(entry), server.asked


def test_one_signed_request_asks_for_the_version_that_was_listed(no_env):
    answer = Answer(200, headers={"x-amz-checksum-crc64nvme": "AAAAAAAAAAE=", "etag": MD5})
    found, (asked,) = _checksum(answer, requester_pays=True)
    assert found == Checksum("CRC64NVME", bytes(7) + b"\1")
    assert (asked.method, asked.target) == ("HEAD", "/models/dir/a%20b")
    assert asked.headers["x-amz-checksum-mode"] == "ENABLED" and asked.headers["if-match"] == MD5
    assert asked.headers["x-amz-request-payer"] == "requester"
    assert "x-amz-checksum-mode" in asked.headers["authorization"], "it is signed, too"


def test_without_credentials_nothing_is_signed(no_env):
    with StubServer(lambda asked: Answer(200, headers={"x-amz-checksum-crc32": "AAAAAQ=="})) as server:
        source = open_source(resolve("s3://models", storage_options={"anon": True, "endpoint_url": server.url}))
        assert source.checksum(ENTRY) == Checksum("CRC32", b"\0\0\0\1")
        assert "authorization" not in server.asked[0].headers


def test_the_first_of_several_is_taken_and_text_comes_back(no_env):
    headers = {"x-amz-checksum-sha256": "A" * 43 + "=", "x-amz-checksum-crc32c": "AAAAAg=="}
    found, _ = _checksum(Answer(200, headers=headers))
    assert found == Checksum("CRC32C", b"\0\0\0\2") and Checksum.parse(found.text) == found


def test_a_manifests_is_not_asked_for(no_env):
    entry = Object("a", "a", 10, MD5, None, 0, "CRC32C AAAAAg==")
    found, asked = _checksum(Answer(500), entry=entry)
    assert found == Checksum("CRC32C", b"\0\0\0\2") and asked == []


@pytest.mark.parametrize(
    ("headers", "bucket", "why"),
    [
        ({"x-amz-server-side-encryption": "aws:kms"}, "models", "key of KMS"),
        ({"x-amz-server-side-encryption": "aws:kms:dsse"}, "models", "key of KMS"),
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, "models", "key of the customer"),
        ({"etag": '"5f-1000"'}, "models", "uploaded in parts"),
    ],
)
def test_an_etag_that_is_no_md5_is_none(no_env, headers, bucket, why):
    with pytest.raises(InvalidOption, match=rf"s3://{bucket}/dir/a b, and its ETag .* is no MD5, .*{why}"):
        _checksum(Answer(200, headers={"etag": MD5, **headers}), bucket=bucket)


@pytest.mark.parametrize("headers", [{}, {"x-amz-server-side-encryption": "AES256"}])
def test_a_plain_etag_is_an_md5(no_env, headers):
    found, _ = _checksum(Answer(200, headers={"etag": MD5, **headers}))
    assert found.algorithm == "MD5" and found.shown == MD5.strip('"')


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (s3_error(403, "AccessDenied"), AccessDenied, "s3://models/dir/a b: access denied"),
        (s3_error(404, "NoSuchKey"), ObjectChanged, "s3://models/dir/a b was deleted"),
        (s3_error(412, "PreconditionFailed"), ObjectChanged, "s3://models/dir/a b was replaced"),
        (s3_error(501, "NotImplemented"), SourceUnavailable, "s3://models/dir/a b: the server answered 501"),
        (Answer(200, headers={"x-amz-checksum-crc32": "AAAA"}), TransferError, "is no CRC32 checksum"),
        (Answer(200, headers={"x-amz-checksum-crc32": "?<&>"}), TransferError, "is no CRC32 checksum"),
    ],
)
def test_a_refusal_names_the_object(no_env, answer, kind, said):
    with pytest.raises(kind, match=said):
        _checksum(answer)


def _in_parts(attributes: Answer, *sizes: int):
    def answer(asked: Asked) -> Answer:
        if "attributes" in asked.target:
            return attributes
        if "partNumber" in asked.query:
            size = sizes[int(asked.query["partNumber"]) - 1]
            return Answer(206, headers={"content-length": str(size), "x-amz-mp-parts-count": str(len(sizes))})
        return Answer(200, headers={"x-amz-checksum-crc32": "AAAAAQ==", "x-amz-checksum-type": "COMPOSITE"})

    return answer


PARTS = "".join(f"<Part><Size>{size}</Size></Part>" for size in (7, 3))
PARTS = f"<R><ObjectParts><IsTruncated>false</IsTruncated>{PARTS}</ObjectParts></R>"


@pytest.mark.parametrize(
    "attributes",
    [
        Answer(200, PARTS.encode()),
        Answer(200, b"<R/>"),
        Answer(200, b"no XML"),
        s3_error(403, "AccessDenied"),
        s3_error(501, "N"),
    ],
)
def test_the_parts_of_a_composite_one_are_asked_for(no_env, attributes):
    found, _ = _checksum(_in_parts(attributes, 7, 3))
    assert found == Checksum("CRC32", b"\0\0\0\1", (7, 10)) and found.shown == "AAAAAQ==-2"


def test_parts_that_contradict_the_object_are_an_error(no_env):
    with pytest.raises(DisklessError, match="it tells of 2 with 11 of 10 bytes"):
        _checksum(_in_parts(s3_error(405, "MethodNotAllowed"), 7, 4))
