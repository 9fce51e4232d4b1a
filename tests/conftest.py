"""What all tests share: an S3 server on loopback, buckets in it, the two Backings, and where a transfer runs."""

from __future__ import annotations

import gc
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import fsspec
import pytest

from diskless import kept
from diskless.loader import process, transfer
from diskless.sources import s3_upload
from tests.programs import until
from tests.seaweedfs import SeaweedFS
from tests.servers import Bucket, S3Server

# A shell has its background jobs ignore it, which all that is started here would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server | SeaweedFS]:
    """moto, or, where DISKLESS_TEST_S3 is `seaweedfs`, that."""
    makes: dict[str, type[S3Server] | type[SeaweedFS]] = {"moto": S3Server, "seaweedfs": SeaweedFS}
    with makes[os.environ.get("DISKLESS_TEST_S3", "moto")]() as server:
        yield server


@pytest.fixture
def s3_env(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Server:
    """The environment of a user of that server, and nothing of the machine's own."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "DISKLESS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.credentials["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.credentials["aws_secret_access_key"])
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    return s3_server


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    return Bucket(s3_server, f"bucket-{uuid.uuid4().hex[:12]}")


@pytest.fixture(params=["tree", "directory"])
def backing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Each Backing in turn, as `backing=` takes it. In the end the directory holds what it held before."""
    if request.param == "tree":
        yield "tree"
        return
    directory = tmp_path / "ram"
    directory.mkdir()
    (directory / "theirs").write_text("kept")
    yield f"directory:{directory}"
    assert os.listdir(directory) == ["theirs"]


@pytest.fixture
def chosen_backing(s3_env: S3Server, backing: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each Backing in turn, chosen by the environment of a user of that server."""
    monkeypatch.setenv("DISKLESS_BACKING", backing)
    return backing


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Loader as threads of this process, where its pauses can be made short."""
    monkeypatch.setattr(process, "_threads_only", True)
    monkeypatch.setattr(process, "_control", None)
    monkeypatch.setattr(transfer, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(transfer, "LONGEST_PAUSE_S", 0.01)


@pytest.fixture(params=["process", "threads"])
def either_way(request: pytest.FixtureRequest) -> None:
    """Both ways in turn."""
    if request.param == "threads":
        request.getfixturevalue("in_threads")


@pytest.fixture
def short_upload_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that fails tries again at once."""
    monkeypatch.setattr(s3_upload, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(s3_upload, "LONGEST_PAUSE_S", 0.01)


@pytest.fixture
def polars() -> Iterator[ModuleType]:
    """polars, which has a handler for SIGINT of its own, after which that interrupts no waiting thread any more."""
    yield pytest.importorskip("polars")
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGINT))


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """After each test nothing is in RAM that `ramcache::` keeps: others count what is."""
    yield
    if not kept._kept:
        return

    def let_go() -> bool:
        while kept.drop_one():
            pass
        return not kept._kept

    # pyarrow's threads close files a little after it has returned what was in them.
    gc.collect()
    until(let_go)
    fsspec.AbstractFileSystem.clear_instance_cache()
