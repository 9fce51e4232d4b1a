"""Where the tests of the filesystem work: on a tmpfs, which shows that the test is right, then in a scratch."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import diskless


@contextlib.contextmanager
def tmpfs() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield path


@pytest.fixture(params=["tmpfs", "scratch"])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty directory."""
    if request.param == "tmpfs" and not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs a tmpfs at /dev/shm")
    before = os.getcwd()
    with tmpfs() if request.param == "tmpfs" else diskless.scratch(backing="tree") as path:
        yield Path(path)
        os.chdir(before)
