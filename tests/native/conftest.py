"""Fixtures of the native library's tests."""

from __future__ import annotations

from collections.abc import Iterator

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
