"""A manifest decides what a prefix is."""

from __future__ import annotations

import json
import zlib

import pytest

import diskless
from diskless.errors import ObjectChanged, TransferError
from diskless.sources import manifest, open_source, resolve
from diskless.sources.checksums import Checksum


def _file(path: str, data: bytes, etag: str | None = None) -> manifest.File:
    return manifest.File(path, len(data), Checksum("CRC32", zlib.crc32(data).to_bytes(4, "big")).text, etag)


@pytest.fixture
def model(s3_env, bucket):
    """Two files with a manifest, and one beside them."""
    for name in ("a", "sub/b", "stray"):
        bucket.put(f"m/{name}", name.encode())
    bucket.put(f"m/{manifest.NAME}", manifest.written([_file("a", b"a"), _file("sub/b", b"sub/b")]))
    return bucket


def _paths(url: str) -> list[str]:
    return [entry.path for entry in open_source(resolve(url)).list().objects]


@pytest.mark.parametrize("slash", ["", "/"])
def test_only_what_is_in_it_is_shown(model, slash):
    assert _paths(f"{model.url}/m{slash}") == ["a", "sub/b"]


def test_above_and_below_its_prefix_it_is_a_file_like_others(model):
    assert set(_paths(model.url)) == {"m/a", "m/sub/b", "m/stray", f"m/{manifest.NAME}"}
    assert _paths(f"{model.url}/m/sub") == ["b"]
    assert _paths(f"{model.url}/m/{manifest.NAME}") == [manifest.NAME]


def test_its_checksums_are_those_that_are_compared(model, backing):
    with diskless.mount(f"{model.url}/m", verify=True, backing=backing) as path:
        assert open(f"{path}/sub/b", "rb").read() == b"sub/b"
    wrong = manifest.File("a", 1, "CRC32 AAAAAA==", None)
    model.put(f"m/{manifest.NAME}", manifest.written([wrong]))
    with diskless.mount(f"{model.url}/m", backing=backing):
        pass
    with pytest.raises(diskless.ChecksumMismatch, match=r"m/a: .* should be AAAAAA==,"):
        diskless.mount(f"{model.url}/m", verify=True, backing=backing)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([_file("a", b"a"), _file("c", b"c")], "c is not there: a push is under way"),
        ([_file("a", b"longer")], "a has 1 bytes, and 6 in the manifest: a push is under way"),
        ([_file("a", b"a", '"another"')], "a has another ETag than in the manifest: a push is under way"),
    ],
)
def test_what_differs_from_the_listing_is_an_error(model, files, said):
    model.put(f"m/{manifest.NAME}", manifest.written(files))
    with pytest.raises(ObjectChanged, match=said):
        _paths(f"{model.url}/m")


def test_a_push_that_is_under_way_is_an_error(model):
    model.put(f"m/{manifest.NAME}", manifest.unfinished())
    with pytest.raises(ObjectChanged, match=rf"{model.url}/m: a push to it is under way, or has died"):
        diskless.mount(f"{model.url}/m")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"diskless_manifest": 1, "complete": true, "files": [{"path": "a"}]}',
        b'{"diskless_manifest": 1, "complete": true, "files": [{"path": "a", "size_bytes": 1, "checksum": "x y"}]}',
        b'{"diskless_manifest": 1, "complete": true, "files": {}, "files": 3}',
    ],
)
def test_one_that_is_none_is_named(model, content):
    model.put(f"m/{manifest.NAME}", content)
    with pytest.raises(TransferError, match=rf"{model.url}/m/{manifest.NAME} is no manifest"):
        _paths(f"{model.url}/m")


def test_one_of_a_later_version_is_not_guessed_at(model):
    model.put(f"m/{manifest.NAME}", json.dumps({"diskless_manifest": 2, "complete": True, "files": []}).encode())
    with pytest.raises(TransferError, match="is of version 2, and this diskless reads 1: update diskless"):
        _paths(f"{model.url}/m")
