"""Fixtures of the native library's tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from diskless import native_api as native
from tests.native.tree import Build, NativeTree, build_library, build_program, sanitizer_options


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


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build the library ("library") or the program of a folder with a sanitizer: `build("library", "thread")`.

    Each once, for all tests and all processes that run them.
    """
    if not any(map(shutil.which, filter(None, [os.environ.get("CXX"), "c++", "g++"]))):
        pytest.skip("no C++ compiler")
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def build_once(what: str, sanitizer: str = "") -> Path:
        into = base / f"built-{what}-{sanitizer or 'plain'}"
        into.mkdir(exist_ok=True)
        result = into / ("libdiskless.so" if what == "library" else what)
        with open(into / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                options = sanitizer_options(sanitizer)
                build_library(into, *options) if what == "library" else build_program(what, into, *options)
        return result

    return build_once
