"""Two pushes to one place at the same moment, where the store writes on conditions: one wins, the other says so."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import diskless
from diskless.sources import s3_upload
from tests.sources.stub_server import Answer, Asked, StubServer, s3_error
from tests.upload_store import UploadStore

BIG = os.urandom((9 << 20) + 1)


def _directory(path: Path, name: str) -> Path:
    path.mkdir()
    (path / "name").write_text(name)
    (path / "big").write_bytes(name.encode() + BIG)
    return path


def _together(pushes: list[tuple[Path, str]], monkeypatch: pytest.MonkeyPatch, **options: bool) -> list[object]:
    """Push at the same moment: each has looked at what is there before any writes. Returns what became of each."""
    barrier = threading.Barrier(len(pushes))
    keys = s3_upload.S3Upload.keys
    seen = threading.local()

    def looked(self: s3_upload.S3Upload, prefix: str) -> tuple[list[str], bool]:
        found = keys(self, prefix)
        if (prefix.endswith("/") or prefix == "one") and not getattr(seen, "waited", False):
            seen.waited = True
            barrier.wait(60)
        return found

    monkeypatch.setattr(s3_upload.S3Upload, "keys", looked)
    ended: list[object] = [None] * len(pushes)

    def push(number: int) -> None:
        try:
            ended[number] = diskless.push(*pushes[number], **options)
        except diskless.DisklessError as error:
            ended[number] = error

    threads = [threading.Thread(target=push, args=(number,)) for number in range(len(pushes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    return ended


@pytest.fixture
def options(s3_env):
    keys = s3_env.credentials
    return {
        "key": keys["aws_access_key_id"],
        "secret": keys["aws_secret_access_key"],
        "region": "us-east-1",
        "endpoint_url": s3_env.endpoint,
    }


def test_one_of_two_directories_arrives_and_the_other_is_refused(s3_env, bucket, tmp_path, options):
    directories = [_directory(tmp_path / name, name) for name in ("a", "b")]
    with pytest.MonkeyPatch.context() as patched:
        ended = _together([(path, f"{bucket.url}/m") for path in directories], patched)
    refused = [number for number, end in enumerate(ended) if isinstance(end, diskless.AlreadyExists)]
    assert len(refused) == 1 and isinstance(ended[1 - refused[0]], diskless.push.__globals__["Pushed"])
    with diskless.mount(f"{bucket.url}/m", verify=True, storage_options=options) as path:
        assert Path(path, "name").read_text() == "ab"[1 - refused[0]]
        assert Path(path, "big").read_bytes() == b"ab"[1 - refused[0] : 2 - refused[0]] + BIG


@pytest.mark.parametrize("size", [100, len(BIG)])
def test_one_of_two_files_arrives_and_the_other_is_refused(s3_env, bucket, tmp_path, size):
    files = []
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() + BIG[:size])
        files.append(tmp_path / name)
    with pytest.MonkeyPatch.context() as patched:
        ended = _together([(path, f"{bucket.url}/one") for path in files], patched)
    assert sum(isinstance(end, diskless.DisklessError) for end in ended) <= 1
    won = [path for path, end in zip(files, ended, strict=True) if not isinstance(end, Exception)]
    there = s3_env.client.get_object(Bucket=bucket.name, Key="one")["Body"].read()
    assert [path.read_bytes() for path in won] == [there]


def test_a_push_that_was_overtaken_says_so(s3_env, bucket, tmp_path, options):
    directory = _directory(tmp_path / "a", "a")

    def overtake(done: int, total: int) -> None:
        if done == total:
            bucket.put("m/diskless-manifest.json", b"of another")

    with pytest.raises(diskless.ObjectChanged, match="another push to it has begun meanwhile"):
        diskless.push(directory, f"{bucket.url}/m", progress=overtake)
    assert s3_env.client.get_object(Bucket=bucket.name, Key="m/diskless-manifest.json")["Body"].read() == b"of another"


@pytest.mark.parametrize("answer", [s3_error(501, "NotImplemented"), s3_error(400, "InvalidArgument", "If-None-Match")])
def test_a_store_that_knows_no_conditions_is_written_to_without(s3_env, tmp_path, answer):
    def fault(asked: Asked) -> Answer | None:
        return answer if asked.method == "PUT" and {"if-match", "if-none-match"} & set(asked.headers) else None

    store = UploadStore(fault)
    with StubServer(store) as server:
        target = {"key": "AKID", "secret": "secret", "region": "us-east-1", "endpoint_url": server.url}
        diskless.push(_directory(tmp_path / "a", "a"), "s3://models/m", storage_options=target)
        assert any("x-amz-checksum-crc32" in asked.headers for asked in server.asked), "its checksums stay"
    assert store.objects["m/name"] == b"a" and b'"complete": true' in store.objects["m/diskless-manifest.json"]
