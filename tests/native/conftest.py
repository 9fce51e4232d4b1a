"""Fixtures of the native library's tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from diskless import native_api as native
from tests.native.tree import NativeTree


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = native.unavailable()
    if reason is None:
        return
    for item in items:
        if "tests/native" in str(item.path):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def tree() -> Iterator[NativeTree]:
    with NativeTree() as made:
        yield made


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user can search; pytest keeps those of tmp_path for their owner."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o711)
        yield Path(path)
