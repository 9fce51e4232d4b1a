"""push to stores that do not know each checksum: the next that they know, and in the end none, with a warning."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

import diskless
from diskless import native_api as native
from diskless.sources import manifest
from tests.sources.certificates import make_certificates
from tests.sources.stub_server import Answer, Asked, StubServer, s3_error
from tests.upload_store import UploadStore, storage_options, write_files

BIG = os.urandom((17 << 20) + 5)
FILES = {"config.json": b"{}", "empty": b"", "weights/big.bin": BIG}
KNOWN = [("crc64nvme", "crc32"), ("crc32",), ()]
REFUSALS = [
    s3_error(400, "InvalidRequest", "<Message>Checksum algorithm provided is unsupported</Message>"),
    s3_error(400, "InvalidArgument", "<Message>Unsupported header 'x-amz-checksum-crc64nvme' received</Message>"),
    s3_error(501, "NotImplemented", "<Message>A header you provided implies what is not implemented</Message>"),
]

pytestmark = pytest.mark.usefixtures("short_upload_pauses")


@pytest.fixture
def directory(tmp_path) -> Path:
    return write_files(tmp_path / "model", FILES)


def _sent(store: UploadStore) -> dict[str, bytes]:
    return {key.removeprefix("m/"): data for key, data in store.objects.items() if not key.endswith(manifest.NAME)}


@pytest.mark.parametrize("has_library", [True, False])
@pytest.mark.parametrize("refusal", REFUSALS, ids=["request", "argument", "not-implemented"])
@pytest.mark.parametrize("knows", KNOWN, ids=["both", "crc32", "none"])
def test_the_best_checksum_that_is_known_is_sent(s3_env, directory, caplog, monkeypatch, knows, refusal, has_library):
    if not has_library:
        monkeypatch.setattr(native, "has_checksums", lambda: False)
    store = UploadStore(knows=knows, refusal=refusal)
    with StubServer(store) as server, caplog.at_level(logging.WARNING, "diskless"):
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server))
    assert _sent(store) == FILES and store.uploads == {}
    written = json.loads(store.objects[f"m/{manifest.NAME}"])
    best = "CRC64NVME" if native.has_checksums() and (not knows or "crc64nvme" in knows) else "CRC32"
    assert written["complete"] and {file["checksum"].split()[0] for file in written["files"]} == {best}
    said = " ".join(record.getMessage() for record in caplog.records)
    assert ("no checksum, only a signature" in said) is (knows == ())


def test_what_has_no_checksum_is_signed_where_there_is_tls_too(s3_env, directory, tmp_path):
    certificates = make_certificates(tmp_path)
    with StubServer(UploadStore(knows=()), certificates.server) as server:
        options = {**storage_options(server), "verify": str(certificates.authority)}
        diskless.push(directory / "weights/big.bin", "s3://models/m", storage_options=options)
        parts = [asked for asked in server.asked if "partNumber" in asked.query]
    assert len(parts) == 3 and all(asked.headers["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD" for asked in parts)


@pytest.mark.parametrize("where", ["uploads", "partNumber", "uploadId"])
def test_a_multipart_upload_that_is_refused_on_its_way_is_aborted_and_begun_anew(s3_env, directory, where):
    """Some stores say so at the beginning of an upload, some at each part, some at its end."""

    def fault(asked: Asked) -> Answer | None:
        carries = any("crc64nvme" in f"{name}{value}".lower() for name, value in asked.headers.items())
        at = "uploads" in asked.target if where == "uploads" else where in asked.query
        return REFUSALS[0] if carries and at and not (where == "uploadId" and asked.method == "PUT") else None

    store = UploadStore(fault)
    with StubServer(store) as server:
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server))
    assert _sent(store) == FILES and store.uploads == {}
    assert (len(store.aborted) > 0) is (where != "uploads" and native.has_checksums())


@pytest.mark.parametrize("code", ["BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "InvalidPart"])
def test_a_checksum_that_does_not_match_is_never_left_out(s3_env, directory, code):
    wrong = s3_error(400, code, "<Message>The x-amz-checksum-crc64nvme you specified did not match</Message>")
    store = UploadStore(lambda asked: wrong if asked.query.get("partNumber") == "2" else None)
    with StubServer(store) as server, pytest.raises(diskless.DisklessError, match=code):
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server))
    assert "weights/big.bin" not in _sent(store) and store.uploads == {}


def test_a_refusal_that_is_about_something_else_is_the_error(s3_env, directory):
    refused = s3_error(400, "InvalidRequest", "<Message>The storage class you specified is not valid</Message>")
    store = UploadStore(lambda asked: refused if asked.query.get("partNumber") == "2" else None)
    with StubServer(store) as server, pytest.raises(diskless.TransferError, match="400 InvalidRequest"):
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server))
    assert len([key for key in store.aborted if key.endswith("big.bin")]) == 1, "it was sent once"
