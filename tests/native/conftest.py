"""Fixtures of the native library's tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diskless import native_api as native
from tests.native.tree import Build, NativeTree, Once, build_library, build_program, sanitizer_options


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
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make something in a directory of its own, once for all tests and all processes that run them."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        into = base / f"once-{name}"
        into.mkdir(exist_ok=True)
        with open(into / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (into / "made").exists():
                make(into)
                (into / "made").touch()
        return into

    return make_once


@pytest.fixture(scope="session")
def build(once: Once) -> Build:
    """Build the library ("library") or the program of a folder with a sanitizer: `build("library", "thread")`."""
    if not any(map(shutil.which, filter(None, [os.environ.get("CXX"), "c++", "g++"]))):
        pytest.skip("no C++ compiler")

    def build_once(what: str, sanitizer: str = "") -> Path:
        def make(into: Path) -> None:
            options = sanitizer_options(sanitizer)
            build_library(into, *options) if what == "library" else build_program(what, into, *options)

        into = once(f"{what}-{sanitizer or 'plain'}", make)
        return into / ("libdiskless.so" if what == "library" else what)

    return build_once
