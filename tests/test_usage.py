"""diskless.usage(): what is held, what is to come, and what is left."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import diskless
from diskless import native_api as native
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.programs import until

MIB = 1 << 20
OBJECTS = {"m/a": os.urandom(8 * MIB), "m/b": os.urandom(2 * MIB)}


def test_what_is_held_and_freed(backing: str) -> None:
    before = diskless.usage()
    with FaultServer(OBJECTS) as server:
        mount = diskless.mount(f"{server.url}/m", storage_options=server.storage_options, backing=backing)
        now = diskless.usage()
        assert (now.files - before.files, now.held_bytes - before.held_bytes) == (2, 10 * MIB)
        assert now.reserved_bytes == now.droppable_bytes == 0
        assert now.limit and now.limit_bytes and 0 < (now.free_bytes or 0) <= now.limit_bytes
        mount.close()
    after = diskless.usage()
    assert (after.files, after.held_bytes) == (before.files, before.held_bytes)


@pytest.mark.skipif(not native.available(), reason="needs the Tree")
def test_what_is_to_come_is_reserved() -> None:
    go = threading.Event()

    def plan(get: Get) -> Fault | None:
        go.wait(20)
        return None

    with FaultServer(OBJECTS, plan=plan) as server:
        options = server.storage_options
        with diskless.mount(f"{server.url}/m", load="background", storage_options=options):
            now = diskless.usage()
            assert (now.held_bytes, now.reserved_bytes) == (0, 10 * MIB)
            go.set()
            diskless.mounts()[-1].wait()
            now = diskless.usage()
            assert (now.held_bytes, now.reserved_bytes) == (10 * MIB, 0)


@pytest.mark.skipif(not native.available(), reason="needs the Tree")
def test_lazy_files_take_what_is_here() -> None:
    with (
        FaultServer(OBJECTS) as server,
        diskless.mount(f"{server.url}/m", load="lazy", storage_options=server.storage_options) as path,
    ):
        assert diskless.usage().held_bytes == 0 and diskless.usage().files == 2
        assert Path(path, "b").read_bytes() == OBJECTS["m/b"]
        now = diskless.usage()
        assert (now.held_bytes, now.droppable_bytes, now.reserved_bytes) == (2 * MIB, 2 * MIB, 0)


def test_scratches(backing: str) -> None:
    with diskless.scratch(backing=backing) as path:
        Path(path, "sub").mkdir()
        Path(path, "sub", "f").write_bytes(bytes(3 * MIB))
        os.link(f"{path}/sub/f", f"{path}/again")
        assert diskless.usage().scratch_bytes == 3 * MIB
        os.unlink(f"{path}/again")
        os.unlink(f"{path}/sub/f")
        assert diskless.usage().scratch_bytes == 0
    assert diskless.usage().scratch_bytes == 0


@pytest.mark.skipif(not native.available(), reason="needs the Tree")
def test_a_child_counts_its_own() -> None:
    with diskless.scratch() as path:
        Path(path, "f").write_bytes(bytes(MIB))
        child = os.fork()
        if child == 0:
            Path(path, "g").write_bytes(bytes(MIB))
            os._exit(0 if diskless.usage().scratch_bytes == 2 * MIB else 1)
        assert os.waitpid(child, 0)[1] == 0
        until(lambda: diskless.usage().scratch_bytes == MIB)
