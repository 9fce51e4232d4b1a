"""mount(verify=True): nobody reads what was not compared with the store's checksum, however it was loaded."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import diskless
from diskless import native_api as native
from tests.loader import stored
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.programs import until

MIB = 1 << 20
BIG = os.urandom(9 * MIB)
OBJECTS = {"m/big": BIG, "m/config": b"{}", "m/empty": b""}


class Damaging:
    """A server that damages the object that is big as long as `damages` says so."""

    def __init__(self, *, checksums: bool = True) -> None:
        self.damages = True
        self.go = threading.Event()
        self.go.set()
        self.server = FaultServer(OBJECTS, plan=self._plan)
        if checksums:
            for key, data in OBJECTS.items():
                self.server.checksums[key] = stored.full_object("CRC64NVME", data)

    def _plan(self, get: Get) -> Fault | None:
        if get.key == "m/big":
            self.go.wait(60)
            return Fault(damage=get.end % 1000) if self.damages else None
        return None

    def mount(self, **options: object) -> diskless.Mount:
        return diskless.mount(f"{self.server.url}/m", storage_options=self.server.storage_options, **options)

    def prefetch(self, **options: object) -> diskless.Job:
        return diskless.prefetch(f"{self.server.url}/m", storage_options=self.server.storage_options, **options)


def _contents(path: str) -> dict[str, bytes]:
    return {f"m/{file.name}": file.read_bytes() for file in Path(path).iterdir()}


@pytest.fixture
def model(s3_env, bucket):
    """Objects that a client of today has uploaded: with a checksum, and one in parts."""
    client = s3_env.client
    for number, algorithm in enumerate(("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")):
        data = BIG[: 100 * (number + 1)]
        client.put_object(Bucket=bucket.name, Key=f"m/{algorithm}", Body=data, ChecksumAlgorithm=algorithm)
    return bucket


def test_what_a_store_serves_is_verified(model, backing):
    with diskless.mount(f"{model.url}/m", verify=True, backing=backing) as path:
        assert Path(path, "CRC64NVME").read_bytes() == BIG[:300]
        assert len(os.listdir(path)) == 5


def test_one_object_is_verified(model, backing):
    with diskless.mount(f"{model.url}/m/SHA256", verify=True, backing=backing) as path:
        assert Path(path).read_bytes() == BIG[:500]


def test_what_does_not_match_is_an_error_and_nothing_is_left(backing):
    damaging = Damaging()
    with damaging.server:
        with pytest.raises(diskless.ChecksumMismatch, match="m/big") as caught:
            damaging.mount(verify=True, backing=backing)
        assert isinstance(caught.value, diskless.TransferError) and isinstance(caught.value, OSError)
        assert diskless.mounts() == []
        damaging.damages = False
        with damaging.mount(verify=True, backing=backing) as path:
            assert _contents(path) == OBJECTS


def test_an_object_without_a_checksum_is_named(backing):
    damaging = Damaging(checksums=False)
    damaging.server.checksums["m/config"] = {"ETag": '"0123456789abcdef0123456789abcdef-2"'}
    with damaging.server, pytest.raises(diskless.InvalidOption, match=r"no checksum for s3://faulty/m/config"):
        damaging.mount(verify=True, backing=backing)


@pytest.mark.parametrize("value", ["yes", 1, None, "CRC32"])
def test_anything_but_true_or_false_is_refused(s3_env, value):
    with pytest.raises(diskless.InvalidOption, match="verify="):
        diskless.mount("s3://models/bert", verify=value)
    with pytest.raises(diskless.InvalidOption, match="verify="):
        diskless.prefetch("s3://models/bert", verify=value)


def test_bytes_that_were_loaded_without_it_are_compared(backing):
    damaging = Damaging()
    with damaging.server as server:
        damaging.damages = False
        with damaging.mount(backing=backing) as path, damaging.mount(verify=True, backing=backing) as verified:
            assert _contents(path) == _contents(verified) == OBJECTS
            assert server.heads.count("m/big") == 1
            assert server.sent_bytes("m/big") == len(BIG), "it is held once"
            with damaging.mount(verify=True, backing=backing):
                assert server.heads.count("m/big") == 1, "it was compared already"


def test_wrong_bytes_that_were_loaded_without_it_are_fetched_anew(backing):
    damaging = Damaging()
    with damaging.server as server:
        with damaging.mount(backing=backing) as path:
            assert _contents(path)["m/big"] != BIG
            damaging.damages = False
            with damaging.mount(verify=True, backing=backing) as verified:
                assert _contents(verified) == OBJECTS
                assert verified != path
            assert _contents(path)["m/big"] != BIG, "who has it keeps it"
        assert server.sent_bytes("m/big") == 2 * len(BIG)


def test_a_mount_waits_for_a_prefetch_without_it_and_compares(backing):
    damaging = Damaging()
    with damaging.server as server:
        damaging.go.clear()
        job = damaging.prefetch(backing=backing)
        job.wait_for_names()
        threading.Timer(0.2, damaging.go.set).start()
        damaging.damages = False
        with damaging.mount(verify=True, backing=backing) as path:
            assert _contents(path) == OBJECTS
        assert server.sent_bytes("m/big") == len(BIG)
        job.close()


def test_a_prefetch_without_it_that_fails_is_done_anew(backing):
    damaging = Damaging()
    with damaging.server:
        damaging.damages = False
        damaging.go.clear()
        job = damaging.prefetch(backing=backing)
        job.wait_for_names()
        threading.Timer(0.2, job.cancel).start()
        threading.Timer(0.4, damaging.go.set).start()
        with damaging.mount(verify=True, backing=backing) as path:
            assert _contents(path) == OBJECTS
        job.close()


def test_a_prefetch_with_it_is_joined(backing):
    damaging = Damaging()
    with damaging.server as server:
        damaging.damages = False
        job = damaging.prefetch(verify=True, backing=backing)
        with damaging.mount(verify=True, backing=backing) as path:
            assert _contents(path) == OBJECTS
        assert server.heads.count("m/big") == 1
        job.close()


needs_tree = pytest.mark.skipif(not native.available(), reason="needs the Tree")


@needs_tree
def test_in_the_background_a_file_opens_when_it_is_verified():
    damaging = Damaging()
    damaging.go.clear()
    with damaging.server as server:
        first = threading.Event()

        def plan(get: Get) -> Fault | None:
            if get.key == "m/big" and get.end == len(BIG) and not first.is_set():
                first.set()
                return Fault(damage=3)
            return None

        server.plan = plan
        mount = damaging.mount(verify=True, load="background")
        assert Path(mount.path, "big").read_bytes() == BIG
        assert first.is_set() and server.sent_bytes("m/big") == 2 * len(BIG)
        mount.wait()
        mount.close()


@needs_tree
def test_in_the_background_a_file_that_does_not_match_never_opens():
    damaging = Damaging()
    damaging.go.clear()
    with damaging.server:
        mount = damaging.mount(verify=True, load="background")
        threading.Timer(0.2, damaging.go.set).start()
        with pytest.raises(OSError, match="Input/output error"):
            Path(mount.path, "big").read_bytes()
        with pytest.raises(diskless.ChecksumMismatch):
            mount.wait()
        mount.close()


@needs_tree
def test_in_the_background_bytes_that_come_without_it_are_compared_before_they_show():
    damaging = Damaging()
    with damaging.server:
        damaging.go.clear()
        loose = damaging.mount(load="background")
        threading.Timer(0.2, damaging.go.set).start()
        loose.wait()
        damaging.damages = False
        mount = damaging.mount(verify=True, load="background")
        assert Path(mount.path, "big").read_bytes() == BIG
        mount.close()
        loose.close()


@needs_tree
def test_in_the_background_bytes_that_are_still_coming_without_it_are_waited_for():
    damaging = Damaging()
    with damaging.server:
        damaging.go.clear()
        loose = damaging.mount(load="background")
        threading.Timer(0.3, damaging.go.set).start()
        mount = damaging.mount(verify=True, load="background")
        assert damaging.go.is_set(), "no name was shown before"
        with pytest.raises(diskless.ChecksumMismatch):
            mount.wait()
        mount.close()
        loose.close()


# Lazily.


@needs_tree
def test_lazily_a_file_is_verified_when_it_is_opened():
    damaging = Damaging()
    damaging.damages = False
    with damaging.server as server:
        mount = damaging.mount(verify=True, load="lazy")
        assert server.heads == []
        assert Path(mount.path, "big").read_bytes() == BIG
        assert server.heads == ["m/big"]
        assert _contents(mount.path) == OBJECTS
        mount.close()


@needs_tree
def test_lazily_a_file_that_does_not_match_opens_when_it_does():
    damaging = Damaging()
    with damaging.server as server:
        mount = damaging.mount(verify=True, load="lazy")
        for times in (2, 4):
            with pytest.raises(OSError, match="Input/output error"):
                Path(mount.path, "big").read_bytes()
            until(lambda: isinstance(mount.refusals.get("big"), diskless.ChecksumMismatch))
            assert server.sent_bytes("m/big") == times * len(BIG), "each open has it fetched twice"
        damaging.damages = False
        assert Path(mount.path, "big").read_bytes() == BIG
        until(lambda: mount.refusals == {})
        mount.wait()
        assert _contents(mount.path) == OBJECTS
        mount.close()


@needs_tree
def test_lazily_a_file_that_was_dropped_is_verified_again():
    damaging = Damaging()
    damaging.damages = False
    with damaging.server as server:
        server.objects["m/other"] = BIG[::-1]
        server.checksums["m/other"] = stored.full_object("SHA256", BIG[::-1])
        mount = damaging.mount(verify=True, load="lazy", budget=10 * MIB)
        for _ in range(2):
            assert Path(mount.path, "big").read_bytes() == BIG
            assert Path(mount.path, "other").read_bytes() == BIG[::-1]
        damaging.damages = True
        with pytest.raises(OSError, match="Input/output error"):
            Path(mount.path, "big").read_bytes()
        damaging.damages = False
        assert Path(mount.path, "big").read_bytes() == BIG
        mount.close()


@needs_tree
def test_lazily_who_wants_all_may_come_while_held_bytes_are_compared(monkeypatch):
    from diskless import job

    compare = job.Job._verify_held

    def meanwhile(self, *arguments):
        self.fetch_all()
        compare(self, *arguments)

    monkeypatch.setattr(job.Job, "_verify_held", meanwhile)
    damaging = Damaging()
    damaging.damages = False
    with damaging.server:
        mount = damaging.mount(verify=True, load="lazy")
        mount.wait()
        assert [file.lazy for file in mount._files.values()] == [False] * 3
        assert _contents(mount.path) == OBJECTS
        mount.close()
