"""FsspecSource: any filesystem of fsspec, read in ranges, pinned to what was listed, shared only where that holds."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import uuid
import zipfile
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import diskless
from diskless.errors import (
    AccessDenied,
    InvalidOption,
    InvalidURL,
    MissingDependency,
    NotFound,
    ObjectChanged,
    TransferError,
)
from diskless.sources import filesystems, open_source, resolve
from tests.sources.stub_server import Answer, Asked, StubServer

LARGE = bytes(range(256)) * (9 << 12)  # 9 MiB: several requests
pytestmark = pytest.mark.usefixtures("no_env")


@pytest.fixture
def root() -> Iterator[str]:
    """A directory of the one memory filesystem there is."""
    name = uuid.uuid4().hex
    yield name
    for path in [path for path in MemoryFileSystem.store if path.startswith(f"/{name}/")]:
        del MemoryFileSystem.store[path]


@pytest.fixture
def model(root: str) -> str:
    memory = MemoryFileSystem()
    memory.pipe({f"/{root}/config.json": b"{}", f"/{root}/deep/weights.bin": LARGE, f"/{root}/empty": b""})
    return f"memory://{root}"


class Versioned(MemoryFileSystem):
    """A memory filesystem that names versions as object stores do, and remembers what it was asked for."""

    protocol = ("versioned",)
    cachable = False
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    ranges: list[tuple[int, int]]
    after_read = staticmethod(lambda path: None)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.store, self.pseudo_dirs, self.ranges = {}, [""], []

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        found = super().info(path, **options)
        if found["type"] == "file":
            found["ETag"] = hashlib.md5(self.store[self._strip_protocol(path)].getvalue()).hexdigest()
        return found

    def find(self, path: str, **options: Any) -> Any:
        return {name: self.info(name) for name in super().find(path)}

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        self.ranges.append((start, end))
        data = super().cat_file(path, start, end, **options)
        self.after_read(path)
        return data


class ByRequests(Versioned):
    protocol = ("versioned", "memory")  # "memory" is read by several threads


def _contents(path: str) -> dict[str, bytes]:
    found = {}
    for directory, _, names in os.walk(path):
        for name in names:
            whole = os.path.join(directory, name)
            with open(whole, "rb") as file:
                found[os.path.relpath(whole, path)] = file.read()
    return found


def test_a_directory_of_a_filesystem_is_mounted(backing, model, root):
    with diskless.mount(model, backing=backing) as path:
        assert _contents(path) == {"config.json": b"{}", "deep/weights.bin": LARGE, "empty": b""}
        if backing == "tree":
            assert path == f"/diskless/memory/{root}"


def test_one_file_of_a_filesystem_is_mounted(model, root):
    with diskless.mount(f"{model}/deep/weights.bin") as path:
        assert path == f"/diskless/memory/{root}/deep/weights.bin"
        assert open(path, "rb").read() == LARGE


def test_a_prefetch_is_joined_and_patterns_choose(model):
    job = diskless.prefetch(model, allow_patterns="*.json")
    with diskless.mount(model, allow_patterns="*.json") as path:
        assert _contents(path) == {"config.json": b"{}"}
        assert job.mounts == 1
    job.close()


def _zip(**members: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name.replace("__", "/"), data)
    return archive.getvalue()


def test_an_archive_is_mounted_whole_and_in_part(root):
    MemoryFileSystem().pipe(f"/{root}/a.zip", _zip(a=b"1", d__large=LARGE, d__b=b"2"))
    with diskless.mount(f"zip::memory://{root}/a.zip") as path:
        assert path == f"/diskless/zip/memory/{root}/a.zip"
        assert _contents(path) == {"a": b"1", "d/large": LARGE, "d/b": b"2"}
    with diskless.mount(f"zip://d::memory://{root}/a.zip") as path:
        assert path == f"/diskless/zip/memory/{root}/a.zip/d"
        assert _contents(path) == {"large": LARGE, "b": b"2"}
    with diskless.mount(f"zip://d/b::memory://{root}/a.zip") as path:
        assert open(path, "rb").read() == b"2"


def test_an_archive_in_s3_is_read_through_s3fs(s3_env, bucket):
    bucket.put("a.zip", _zip(a=b"1", b=LARGE))
    options = {
        "endpoint_url": s3_env.endpoint,
        "key": s3_env.credentials["aws_access_key_id"],
        "secret": s3_env.credentials["aws_secret_access_key"],
    }
    with diskless.mount(f"zip::{bucket.url}/a.zip", storage_options={"s3": options}) as path:
        assert _contents(path) == {"a": b"1", "b": LARGE}


def test_a_file_is_decompressed_once_though_it_is_read_in_parts(root, monkeypatch):
    opened = []
    plain = fsspec.get_filesystem_class("zip").open

    def counted(self: Any, path: str, *args: Any, **options: Any) -> Any:
        opened.append(path)
        return plain(self, path, *args, **options)

    monkeypatch.setattr(fsspec.get_filesystem_class("zip"), "open", counted)
    MemoryFileSystem().pipe(f"/{root}/a.zip", _zip(large=LARGE))
    with diskless.mount(f"zip::memory://{root}/a.zip") as path:
        assert _contents(path) == {"large": LARGE}
    assert opened == ["large"]


def test_a_filesystem_of_the_caller_is_read_in_ranges(caplog):
    mine = ByRequests()
    mine.pipe("/m/large", LARGE)
    with caplog.at_level(logging.WARNING, "diskless"), diskless.mount("/m", fs=mine, load="background") as path:
        assert path == "/diskless/versioned/m"
        assert _contents(path) == {"large": LARGE}
    assert max(end - start for start, end in mine.ranges) == 4 << 20 and len(mine.ranges) == 3
    assert "loaded eagerly, since a filesystem of this process" in caplog.text


def test_an_asynchronous_filesystem_is_read_through_its_own_loop(s3_env, bucket):
    import s3fs

    class Own(s3fs.S3FileSystem):
        pass

    bucket.put("m/large", LARGE)
    with diskless.mount(f"{bucket.url}/m", fs=Own(endpoint_url=s3_env.endpoint)) as path:
        assert _contents(path) == {"large": LARGE}


def test_a_repository_of_hugging_face_is_read_and_nothing_twice(monkeypatch):
    files = {"config.json": b"{}", "deep/weights.bin": LARGE}

    def entry(path: str) -> dict[str, Any]:
        data = files[path]
        return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def answer(asked: Asked) -> Answer:
        json_type = {"content-type": "application/json"}
        if "/resolve/" in asked.path:
            data = files[asked.path.partition("/resolve/main/")[2]]
            first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
            headers = {"etag": '"1"', "content-range": f"bytes {first}-{last}/{len(data)}"}
            return Answer(206, data[first : last + 1], headers)
        if "/tree/main" in asked.path:
            below = asked.path.partition("/tree/main")[2].strip("/")
            return Answer(
                200, json.dumps([entry(path) for path in files if path.startswith(below)]).encode(), json_type
            )
        return Answer(200, json.dumps({"id": "org/repo", "sha": "a" * 40, "siblings": []}).encode(), json_type)

    with StubServer(answer) as hub:
        with diskless.mount("hf://org/repo", storage_options={"endpoint": hub.url}) as path:
            assert path == "/diskless/hf/org/repo" and _contents(path) == files
        ranges = [asked.headers["range"] for asked in hub.asked if "/resolve/" in asked.path]
    sizes = [1 + int(last) - int(first) for first, last in (text[6:].split("-") for text in ranges)]
    assert sum(sizes) == sum(map(len, files.values())) and max(sizes) == 4 << 20


def test_bytes_of_a_named_version_are_shared_and_others_are_not(model):
    mine = ByRequests()
    mine.pipe("/m/a", b"12345")
    with diskless.mount("/m", fs=mine), diskless.mount("/m/a", fs=mine) as second:
        assert open(second, "rb").read() == b"12345"
        assert len(mine.ranges) == 1
    # A memory filesystem only says when a file was made.
    with diskless.mount(model) as first:
        with fsspec.open(f"{model}/config.json", "r+b") as file:
            file.write(b"[]")
        with diskless.mount(f"{model}/config.json") as second:
            assert open(f"{first}/config.json", "rb").read() == b"{}"
            assert open(second, "rb").read() == b"[]"


def test_two_filesystems_share_nothing_and_show_side_by_side():
    first, second = ByRequests(), ByRequests()
    first.pipe("/m/a", b"same")
    second.pipe("/m/a", b"same")
    with diskless.mount("/m", fs=first) as one, diskless.mount("/m", fs=second) as other:
        assert one != other and _contents(one) == _contents(other)
    assert len(first.ranges) == len(second.ranges) == 1


@pytest.mark.parametrize("kind", [Versioned, ByRequests])
@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_file_that_changes_while_it_is_read_is_an_error(kind, change, monkeypatch):
    mine = kind()
    mine.pipe("/m/a", b"12345")
    source = open_source(resolve("/m", fs=mine))
    (entry,) = source.list().objects
    chunks = source.read(entry, 0, 5)
    assert bytes(next(chunks)) == b"12345"
    mine.pipe("/m/a", b"54321") if change == "replaced" else mine.rm("/m/a")
    with pytest.raises(ObjectChanged, match=f"/m/a.* was {change} while it was read"):
        list(chunks)


def test_a_server_that_ignores_ranges_is_named(monkeypatch):
    class Careless(ByRequests):
        def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
            return super().cat_file(path, 0, None)

    mine = Careless()
    mine.pipe("/m/a", LARGE)
    with pytest.raises(TransferError, match=r"gave \d+ bytes for the range \d+ to \d+: it, or its server, ignores"):
        diskless.mount("/m", fs=mine)


def test_an_answer_that_is_short_for_ever_is_an_error_in_the_end(in_threads):
    class Short(ByRequests):
        def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
            return super().cat_file(path, start, end)[:3] if start == 0 else b""

    mine = Short()
    mine.pipe("/m/a", b"12345")
    with pytest.raises(
        TransferError, match=r"bytes 3 to 5 of 5 could not be fetched .* the answer ended 2 bytes early"
    ):
        diskless.mount("/m", fs=mine)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (PermissionError("no, token=PLANTED"), AccessDenied),
        (FileNotFoundError("PLANTED-option"), NotFound),
        (ValueError("https://me:PLANTED@host/"), TransferError),
    ],
)
def test_errors_of_a_filesystem_become_ours_without_its_secrets(error, ours, monkeypatch):
    def fail(self: Any, path: str, **options: Any) -> Any:
        raise error

    mine = ByRequests(token="PLANTED-option")
    monkeypatch.setattr(ByRequests, "info", fail)
    with pytest.raises(ours, match="versioned://m") as caught:
        diskless.mount("/m", fs=mine)
    assert "PLANTED" not in str(caught.value) and "PLANTED" not in str(caught.value.__context__)


def test_a_file_of_unknown_size_is_left_out_by_name(model, monkeypatch):
    plain = MemoryFileSystem.find

    def find(self: Any, path: str, **options: Any) -> Any:
        found = plain(self, path, **options)
        return {name: {**info, "size": None} if "deep" in name else info for name, info in found.items()}

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    with diskless.mount(model) as path:
        assert sorted(_contents(path)) == ["config.json", "empty"]


def test_nothing_there_is_not_found(root):
    with pytest.raises(NotFound, match=f"memory://{root}-not does not exist"):
        diskless.mount(f"memory://{root}-not")


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("s4://models/x", InvalidURL, "nobody here knows s4:// URLs; did you mean s3://"),
        ("htps://host/x", InvalidURL, "nobody here knows htps:// URLs; did you mean https://"),
        ("zzzzzzz://x", InvalidURL, "nobody here knows zzzzzzz:// URLs; one is s3://bucket/prefix"),
        ("simplecache::s3://models/x", InvalidURL, "simplecache:: keeps its copy on a disk; leave it out"),
        ("zip::s4://models/x.zip", InvalidURL, "nobody here knows s4:// URLs"),
        ("memory://a/../b", InvalidURL, "a part '.' or '..' cannot be in a path"),
        ("memory://a\nb", InvalidURL, "control characters"),
    ],
)
def test_nonsense_is_refused_by_name(url, kind, said):
    with pytest.raises(kind, match=said):
        resolve(url)


def test_a_missing_package_is_named(monkeypatch):
    def missing(scheme: str) -> Any:
        raise ImportError("no")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    for scheme, package in {
        "sftp": "paramiko",
        "hf": r'"diskless\[huggingface\]"',
        "zip": "what it asks for: no",
    }.items():
        with pytest.raises(MissingDependency, match=f"{scheme}:// needs a package .*: pip install {package}"):
            resolve(f"{scheme}://host/x")


def test_options_that_a_filesystem_does_not_take_are_said(monkeypatch):
    class Strict(MemoryFileSystem):
        cachable = False

        def __init__(self, known: str = "") -> None:
            super().__init__()

    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda scheme: Strict)
    monkeypatch.setattr("fsspec.core.get_filesystem_class", lambda scheme: Strict)
    monkeypatch.setattr("fsspec.core.filesystem", lambda scheme, **options: Strict(**options))
    with pytest.raises(InvalidOption, match=r"memory://x: its filesystem does not take .*'kee'") as caught:
        resolve("memory://x", storage_options={"kee": "PLANTED"})
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "fs", "said"),
    [
        ("memory://x", 3, "fs= is an fsspec filesystem, .*, not int"),
        ("memory://x", MemoryFileSystem, "not the class MemoryFileSystem"),
        ("s3://x", MemoryFileSystem(), "fs= reads memory://, and the URL is s3://"),
    ],
)
def test_what_is_no_filesystem_of_the_url_is_refused(url, fs, said):
    with pytest.raises(InvalidOption, match=said):
        resolve(url, fs=fs)


def test_a_password_is_neither_shown_nor_in_the_path(monkeypatch):
    monkeypatch.setattr(filesystems, "_check", lambda scheme: None)
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda text, **options: (MemoryFileSystem(), "/x"))
    first, second = resolve("sftp://me:PLA/NTED@host/x"), resolve("sftp://me:OTHER@host/x")
    assert first.display == "sftp://host/x" and first.url.place == "sftp/host/x"
    assert first.identity != second.identity and "NTED" not in first.identity + repr(first)
    assert resolve("zip://a::sftp://me:PLANTED@host/x").display == "zip://a::sftp://host/x"
