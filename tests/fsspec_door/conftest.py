"""ram:// on each Backing, and a directory in it that is gone again after the test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from diskless import native_api as native
from diskless.filesystem import RamFileSystem

needs_tree = pytest.mark.skipif(not native.available(), reason="the Tree does not work here")
DIRECTORY = f"directory:/dev/shm/diskless-test-{os.getpid()}"


@pytest.fixture(params=[pytest.param("tree", marks=needs_tree), "directory"])
def fs(request: pytest.FixtureRequest) -> RamFileSystem:
    # One of its own: a transaction that failed leaves its mark in older versions of fsspec.
    return RamFileSystem(backing="tree" if request.param == "tree" else DIRECTORY, skip_instance_cache=True)


@pytest.fixture
def tree_fs() -> RamFileSystem:
    if not native.available():
        pytest.skip("the Tree does not work here")
    return RamFileSystem(backing="tree", skip_instance_cache=True)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a directory in ram://, such as ``/diskless/test-1f``."""
    chosen = request.getfixturevalue("tree_fs" if "tree_fs" in request.fixturenames else "fs")
    path = f"/diskless/test-{uuid.uuid4().hex[:12]}"
    chosen.mkdir(path)
    yield path
    chosen.rm(path, recursive=True)
