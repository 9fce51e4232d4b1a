"""push: what goes up comes back the same, all of it or nothing, and nothing is left when it fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import diskless
from diskless import native_api as native
from diskless.sources import manifest
from tests.servers import free_port
from tests.sources.stub_server import Answer, Asked, StubServer, s3_error
from tests.upload_store import UploadStore, storage_options, write_files

MIB = 1 << 20
BIG = os.urandom(17 * MIB + 5)
FILES = {"config.json": b"{}", "empty": b"", "weights/big.bin": BIG, "weights/ü + %41&.txt": b"name"}

pytestmark = pytest.mark.usefixtures("short_upload_pauses")


@pytest.fixture
def directory(tmp_path) -> Path:
    return write_files(tmp_path / "model", FILES)


def _contents(path: str) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


# There and back, by moto.


def test_a_directory_comes_back_the_same(s3_env, bucket, directory, backing):
    done = diskless.push(directory, f"{bucket.url}/m")
    assert (done.url, done.files, done.size_bytes) == (f"{bucket.url}/m", 4, sum(map(len, FILES.values())))
    with diskless.mount(f"{bucket.url}/m", verify=True, backing=backing) as path:
        assert _contents(path) == FILES
    head = s3_env.client.head_object(Bucket=bucket.name, Key="m/config.json", ChecksumMode="ENABLED")
    assert "ChecksumCRC64NVME" in head


@pytest.mark.skipif(not native.available(), reason="needs the Tree")
def test_a_scratch_is_saved_and_comes_back(s3_env, bucket):
    with diskless.scratch() as path:
        write_files(Path(path), FILES)
        diskless.push(path, f"{bucket.url}/m/")
    with diskless.mount(f"{bucket.url}/m", verify=True) as path:
        assert _contents(path) == FILES


def test_a_mount_is_pushed_elsewhere(s3_env, bucket, directory, backing):
    diskless.push(directory, f"{bucket.url}/m")
    with diskless.mount(f"{bucket.url}/m", backing=backing) as mounted:
        diskless.push(mounted, f"{bucket.url}/copy")
        mount = diskless.mounts()[0]
        assert diskless.push(mount, f"{bucket.url}/again", allow_patterns="*.json").files == 1
    with diskless.mount(f"{bucket.url}/copy", verify=True, backing=backing) as path:
        assert _contents(path) == FILES


@pytest.mark.skipif(not native.available(), reason="needs the Tree")
def test_a_mount_that_still_loads_is_waited_for(s3_env, bucket, directory):
    diskless.push(directory, f"{bucket.url}/m")
    mount = diskless.mount(f"{bucket.url}/m", load="background", verify=True)
    diskless.push(mount, f"{bucket.url}/copy")
    mount.close()
    with diskless.mount(f"{bucket.url}/copy", verify=True) as path:
        assert _contents(path) == FILES


def _private_mib() -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1024


def test_no_second_copy_is_held(s3_env, bucket, tmp_path):
    with open(tmp_path / "large", "wb") as file:
        for _ in range(4):
            file.write(BIG)
    seen: list[float] = []
    before = _private_mib()
    diskless.push(tmp_path / "large", f"{bucket.url}/large", progress=lambda done, total: seen.append(_private_mib()))
    assert len(seen) > 2 and max(seen) - before < 24, (before, max(seen))


def test_the_whole_bucket_may_be_the_prefix(s3_env, bucket, directory):
    diskless.push(directory, bucket.url)
    with diskless.mount(bucket.url, verify=True) as path:
        assert _contents(path) == FILES


@pytest.mark.parametrize(("url", "key"), [("/m/a", "m/a"), ("/m/", "m/big.bin"), ("", "big.bin")])
@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 8 * MIB + 1])
def test_a_file_goes_to_a_key_or_keeps_its_name(s3_env, bucket, tmp_path, url, key, size):
    (tmp_path / "big.bin").write_bytes(BIG[:size])
    diskless.push(tmp_path / "big.bin", bucket.url + url)
    assert s3_env.client.get_object(Bucket=bucket.name, Key=key)["Body"].read() == BIG[:size]
    assert len(s3_env.client.list_objects_v2(Bucket=bucket.name)["Contents"]) == 1, "no manifest of one file"


def test_many_small_files(s3_env, bucket, tmp_path):
    many = {f"{number % 7}/{number}": b"%d" % number for number in range(150)}
    diskless.push(write_files(tmp_path / "many", many), f"{bucket.url}/m")
    with diskless.mount(f"{bucket.url}/m", verify=True) as path:
        assert _contents(path) == many


def test_links_are_followed_as_in_a_hubs_cache(s3_env, bucket, tmp_path):
    write_files(tmp_path, {"blobs/1": b"one", "blobs/2": b"two", "snapshot/file": b"f"})
    (tmp_path / "snapshot/model").symlink_to("../blobs/1")
    (tmp_path / "snapshot/sub").symlink_to("../blobs")
    diskless.push(tmp_path / "snapshot", f"{bucket.url}/m")
    with diskless.mount(f"{bucket.url}/m", verify=True) as path:
        assert _contents(path) == {"file": b"f", "model": b"one", "sub/1": b"one", "sub/2": b"two"}


def test_patterns_choose(s3_env, bucket, directory):
    done = diskless.push(directory, f"{bucket.url}/m", allow_patterns=["*.json", "weights/"], ignore_patterns="*.bin")
    assert done.files == 2
    with pytest.raises(diskless.NotFound, match="none of the 4 objects"):
        diskless.push(directory, f"{bucket.url}/n", allow_patterns="*.onnx")


def test_progress_grows_to_the_whole(s3_env, bucket, directory):
    seen: list[tuple[int, int]] = []
    diskless.push(directory, f"{bucket.url}/m", progress=lambda done, total: seen.append((done, total)))
    total = sum(map(len, FILES.values()))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen) and seen[-1] == (total, total)


# What is there already.


def test_what_is_there_is_replaced_only_when_asked(s3_env, bucket, directory):
    for key in ("m/config.json", "m/other", "m2/x"):
        bucket.put(key, b"before")
    with pytest.raises(diskless.AlreadyExists, match=rf"{bucket.url}/m holds 2 objects already \(config.json, other\)"):
        diskless.push(directory, f"{bucket.url}/m")
    assert s3_env.client.get_object(Bucket=bucket.name, Key="m/config.json")["Body"].read() == b"before"
    diskless.push(directory, f"{bucket.url}/m", overwrite=True)
    with diskless.mount(f"{bucket.url}/m", verify=True) as path:
        assert _contents(path) == FILES, "what else is there does not show"
    again = write_files(directory.parent / "again", {"config.json": b"2"})
    diskless.push(again, f"{bucket.url}/m", overwrite=True)
    with diskless.mount(f"{bucket.url}/m", verify=True) as path:
        assert _contents(path) == {"config.json": b"2"}


def test_a_file_is_replaced_only_when_asked(s3_env, bucket, directory):
    for key in ("m", "mm", "m/x"):
        bucket.put(key, b"before")
    with pytest.raises(FileExistsError, match=rf"{bucket.url}/m holds 1 object already"):
        diskless.push(directory / "config.json", f"{bucket.url}/m")
    diskless.push(directory / "config.json", f"{bucket.url}/m", overwrite=True)
    assert s3_env.client.get_object(Bucket=bucket.name, Key="m")["Body"].read() == b"{}"


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_object_where_the_directory_would_be_is_named(s3_env, bucket, directory, overwrite):
    bucket.put("m", b"an object")
    with pytest.raises(diskless.AlreadyExists, match=rf"{bucket.url}/m is an object, and would be read in place"):
        diskless.push(directory, f"{bucket.url}/m", overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_where_the_object_would_be_is_named(s3_env, bucket, directory, overwrite):
    for key in ("m-1", "m.txt", "m/a"):  # the first two are before it in a listing
        bucket.put(key, b"")
    file = next(path for path in Path(directory).rglob("*") if path.is_file())
    with pytest.raises(
        diskless.AlreadyExists, match=rf"{bucket.url}/m/ is a directory \(with a\).*such as {bucket.url}/m/m"
    ):
        diskless.push(file, f"{bucket.url}/m", overwrite=overwrite)
    with pytest.raises(diskless.AlreadyExists, match="is a directory"), diskless.open(f"{bucket.url}/m", "wb") as new:
        new.write(b"x")
    new.discard()
    diskless.push(file, f"{bucket.url}/m/")
    assert bucket.get(f"m/{file.name}") == file.read_bytes()


# What makes no sense.


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("gs://b/k", diskless.InvalidURL, "gs://"),
        ("gs://models/k", diskless.InvalidURL, "only S3 is"),
        ("file:///tmp/here", diskless.InvalidURL, "only S3 is"),
        ("/tmp/here", diskless.InvalidURL, "no URL"),
        ("s3://models/a//b", diskless.InvalidURL, "empty"),
        (3, diskless.InvalidURL, "not int"),
        ("s3://no-such-bucket/m", diskless.NotFound, "no such bucket"),
    ],
)
def test_urls_that_make_no_sense(s3_env, directory, url, kind, said):
    with pytest.raises(kind, match=said):
        diskless.push(directory, url)


def _fifo(path: Path) -> None:
    os.mkfifo(path / "x")


def _dangling(path: Path) -> None:
    (path / "x").symlink_to("nowhere")


def _circle(path: Path) -> None:
    (path / "x").symlink_to(path)


def _unreadable_name(path: Path) -> None:
    (path / "line\nbreak").touch()


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path / "x"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_fifo, "x cannot be pushed: it is no file"),
        (_socket, "x cannot be pushed: it is no file"),
        (_dangling, "x cannot be pushed: No such file .*leads nowhere"),
        (_circle, "x cannot be pushed: this link leads to a directory that it is in"),
        (_unreadable_name, "cannot be pushed: it holds control characters"),
    ],
)
def test_what_cannot_be_an_object_is_named_before_anything_is_sent(no_uploads, tmp_path, make, said):
    (tmp_path / "model").mkdir()
    make(tmp_path / "model")
    with pytest.raises(diskless.InvalidOption, match=said):
        diskless.push(tmp_path / "model", "s3://models/m", storage_options=storage_options(no_uploads))


@pytest.fixture
def no_uploads(s3_env):
    """A server that nothing may be sent to."""
    with StubServer(UploadStore()) as server:
        yield server
        assert [asked for asked in server.asked if asked.method != "GET"] == []


def test_nothing_to_push_is_named(no_uploads, tmp_path):
    options = storage_options(no_uploads)
    with pytest.raises(diskless.NotFound, match=r"nothing to push at .*/nothing: No such file"):
        diskless.push(tmp_path / "nothing", "s3://models/m", storage_options=options)
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / manifest.NAME).touch()
    with pytest.raises(diskless.NotFound, match="holds no file"):
        diskless.push(tmp_path / "model", "s3://models/m", storage_options=options)
    with pytest.raises(diskless.InvalidOption, match="bytes"):
        diskless.push(os.fsencode(tmp_path), "s3://models/m")  # type: ignore[arg-type]
    with pytest.raises(diskless.InvalidOption, match="overwrite="):
        diskless.push(tmp_path, "s3://models/m", overwrite="yes")  # type: ignore[arg-type]


# A store that compares every checksum, and fails on demand.


def test_every_request_carries_a_right_checksum(s3_env, directory):
    store = UploadStore()
    with StubServer(store) as server:
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server))
        assert {
            key.removeprefix("m/"): data for key, data in store.objects.items() if manifest.NAME not in key
        } == FILES
        puts = [
            asked.path for asked in server.asked if asked.method in ("PUT", "POST") and "uploadId" not in asked.target
        ]
        assert puts[0].endswith(manifest.NAME) and puts[-1].endswith(manifest.NAME)
        assert len([asked for asked in server.asked if "partNumber" in asked.query]) == 3
    assert store.uploads == {} and store.aborted == []


def test_without_tls_bodies_are_signed_and_with_it_not(s3_env, directory, tmp_path):
    from tests.sources.certificates import make_certificates

    certificates = make_certificates(tmp_path)
    for certificate in (None, certificates.server):
        store = UploadStore()
        with StubServer(store, certificate) as server:
            options = {**storage_options(server), "verify": str(certificates.authority)}
            diskless.push(directory, "s3://models/m", storage_options=options)
            sums = {asked.headers["x-amz-content-sha256"] for asked in server.asked if "partNumber" in asked.query}
            assert (sums == {"UNSIGNED-PAYLOAD"}) is (certificate is not None)
        assert store.objects["m/weights/big.bin"] == BIG


def test_without_the_native_library_it_is_crc32(s3_env, bucket, directory, monkeypatch):
    monkeypatch.setattr(native, "has_checksums", lambda: False)
    diskless.push(directory, f"{bucket.url}/m")
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_env.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    with diskless.mount(f"{bucket.url}/m", verify=True) as path:
        assert _contents(path) == FILES


@pytest.mark.parametrize(
    "answer", [s3_error(503, "SlowDown"), s3_error(400, "BadDigest"), s3_error(500, "InternalError")]
)
def test_what_may_pass_is_tried_again(s3_env, directory, answer):
    seen: dict[str, int] = {}
    lock = threading.Lock()

    def fault(asked: Asked) -> Answer | None:
        with lock:
            seen[f"{asked.method} {asked.target}"] = seen.get(f"{asked.method} {asked.target}", 0) + 1
            return answer if asked.method != "GET" and seen[f"{asked.method} {asked.target}"] in (1, 3) else None

    store = UploadStore(fault)
    with StubServer(store) as server:
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server))
    assert store.objects["m/weights/big.bin"] == BIG and store.uploads == {}


def test_an_answer_that_was_lost_after_the_upload_was_complete(s3_env, directory):
    lost: list[str] = []

    def fault(asked: Asked) -> Answer | None:
        if asked.method == "POST" and "uploadId" in asked.query and not lost:
            lost.append(asked.target)
            assert store._answer(asked).status == 200
            return Answer(200, b"<Error><Code>InternalError</Code></Error>")
        return None

    store = UploadStore(fault)
    with StubServer(store) as server:
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server))
    assert lost and store.objects["m/weights/big.bin"] == BIG


def test_a_failure_in_the_middle_leaves_no_upload_and_shows_nothing(s3_env, directory):
    denied = s3_error(403, "AccessDenied")
    store = UploadStore(lambda asked: denied if asked.query.get("partNumber") == "2" else None)
    with StubServer(store) as server:
        options = storage_options(server)
        with pytest.raises(diskless.AccessDenied) as caught:
            diskless.push(directory, "s3://models/m", storage_options=options)
        said = str(caught.value)
        assert said.startswith("s3://models/m/weights/big.bin: access denied") and "s3:PutObject" in said
        assert "of 4 files are at s3://models/m, with a manifest that keeps them from readers: push again" in said
        assert store.uploads == {} and store.aborted == ["m/weights/big.bin"]
        store.fault = lambda asked: _whole(store, asked)
        with pytest.raises(diskless.ObjectChanged, match="a push to it is under way, or has died"):
            diskless.mount("s3://models/m", storage_options=options)
        store.fault = lambda asked: None
        diskless.push(directory, "s3://models/m", storage_options=options, overwrite=True)
        assert store.objects["m/weights/big.bin"] == BIG


def _whole(store: UploadStore, asked: Asked) -> Answer | None:
    """Answer a request for all of an object."""
    data = store.objects.get(asked.path.removeprefix("/models/"))
    return Answer(200, data) if asked.method == "GET" and data is not None else None


def test_an_upload_that_cannot_be_aborted_is_named(s3_env, directory):
    def fault(asked: Asked) -> Answer | None:
        if asked.method == "DELETE" or asked.query.get("partNumber") == "2":
            return s3_error(403, "AccessDenied")
        return None

    with (
        StubServer(UploadStore(fault)) as server,
        pytest.raises(
            diskless.AccessDenied, match=r"1 multipart uploads could not be aborted \(such as m/weights/big.bin\)"
        ),
    ):
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server))


def test_a_server_that_is_not_there(s3_env, directory):
    options = {"key": "AKID", "secret": "s", "region": "us-east-1", "endpoint_url": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(diskless.SourceUnavailable, match="cannot be reached"):
        diskless.push(directory, "s3://models/m", storage_options=options)


@pytest.mark.parametrize("change", ["longer", "shorter", "touched", "replaced", "gone"])
def test_a_file_that_changes_meanwhile_is_named(s3_env, directory, change):
    file = directory / "weights" / "big.bin"

    def fault(asked: Asked) -> Answer | None:
        if asked.query.get("partNumber") == "1":
            if change == "longer":
                file.write_bytes(BIG + b"more")
            elif change == "shorter":
                os.truncate(file, MIB)
            elif change == "touched":
                os.utime(file)
            elif change == "replaced":
                (directory.parent / "new").write_bytes(BIG)
                os.rename(directory.parent / "new", file)
            else:
                file.unlink()
        return None

    store = UploadStore(fault)
    with (
        StubServer(store) as server,
        pytest.raises(diskless.ObjectChanged, match=r"weights/big.bin (changed|went) while it was pushed"),
    ):
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server))
    assert store.uploads == {}
    assert json.loads(store.objects[f"m/{manifest.NAME}"])["complete"] is False


def test_an_error_of_the_users_progress_function_stops_it(s3_env, directory):
    def progress(done: int, total: int) -> None:
        raise ZeroDivisionError

    store = UploadStore()
    with StubServer(store) as server, pytest.raises(ZeroDivisionError):
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server), progress=progress)
    assert store.uploads == {} and not json.loads(store.objects[f"m/{manifest.NAME}"])["complete"]


PUSH = """
import sys, diskless
print("begun", flush=True)
diskless.push(sys.argv[1], "s3://models/m", storage_options={"key": "AKID", "secret": "secret", "region": "us-east-1",
              "endpoint_url": sys.argv[2]})
"""


def _pushing(directory: Path, server: StubServer) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PUSH, str(directory), server.url], stderr=subprocess.PIPE)


def _holding(number: str) -> tuple[UploadStore, threading.Event, threading.Event]:
    """A store that holds one part back: the event that tells so, and the one that lets it go."""
    came, go = threading.Event(), threading.Event()

    def fault(asked: Asked) -> Answer | None:
        if asked.query.get("partNumber") == number and not go.is_set():
            came.set()
            go.wait(30)
        return None

    return UploadStore(fault), came, go


def test_a_process_that_dies_leaves_what_the_next_push_aborts(s3_env, directory):
    store, came, go = _holding("2")
    with StubServer(store) as server:
        process = _pushing(directory, server)
        assert came.wait(30)
        process.kill()
        process.communicate()
        go.set()
        assert len(store.uploads) == 1
        assert json.loads(store.objects[f"m/{manifest.NAME}"])["complete"] is False
        store.uploads["another's"] = ("m/another", {})
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server), overwrite=True)
        assert store.aborted == ["m/weights/big.bin"] and list(store.uploads) == ["another's"]
        assert json.loads(store.objects[f"m/{manifest.NAME}"])["complete"] is True


def test_ctrl_c_aborts_at_once(s3_env, directory):
    store, came, go = _holding("2")
    with StubServer(store) as server:
        process = _pushing(directory, server)
        assert came.wait(30)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert time.monotonic() - began < 10, "it did not wait for the answer"
        assert b"KeyboardInterrupt" in said and b"the push to s3://models/m did not end. " in said
        assert store.uploads == {}
        go.set()


def test_credentials_are_renewed_in_the_middle(s3_env, directory):
    """As a role's: the session has others when the store refuses these."""
    from dataclasses import replace

    from diskless import sources
    from diskless.sources import Credentials

    made: list[str] = []

    def refresh() -> Credentials:
        made.append(f"AKID{len(made)}")
        return Credentials(made[-1], "s")

    def fault(asked: Asked) -> Answer | None:
        old = "Credential=old/" in asked.headers["authorization"] and "partNumber" in asked.query
        return s3_error(403, "ExpiredToken") if old else None

    store, resolve = UploadStore(fault), sources.resolve

    def resolved(*arguments: object, **options: object) -> object:
        return replace(resolve(*arguments, **options), credentials=Credentials("old", "s"), refresh=refresh)

    with StubServer(store) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "resolve", resolved)
        diskless.push(directory, "s3://models/m", storage_options=storage_options(server))
    assert store.objects["m/weights/big.bin"] == BIG and made == ["AKID0"]
