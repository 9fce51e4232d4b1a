"""fsspec's own tests of what every filesystem does."""

from __future__ import annotations

import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from diskless.filesystem import RamFileSystem


class RamFixtures(AbstractFixtures):
    @pytest.fixture
    def fs(self, fs: RamFileSystem) -> RamFileSystem:
        return fs

    @pytest.fixture
    def fs_path(self, place: str) -> str:
        return place

    @pytest.fixture
    def fs_join(self):
        return lambda *names: "/".join(map(str, names))


class TestCopy(AbstractCopyTests, RamFixtures):
    pass


class TestGet(AbstractGetTests, RamFixtures):
    pass


class TestPut(AbstractPutTests, RamFixtures):
    pass


class TestOpen(AbstractOpenTests, RamFixtures):
    pass


class TestPipe(AbstractPipeTests, RamFixtures):
    pass
