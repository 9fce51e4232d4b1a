"""fsspec's own tests of `get`, over two filesystems."""

from __future__ import annotations

import contextlib

import fsspec
import pytest
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests


@contextlib.contextmanager
def _over(protocol, **options):
    fs = fsspec.filesystem("ramcache", target_protocol=protocol, target_options=options, skip_instance_cache=True)
    # The tests and their fixtures make what they get, and remove it, through `fs`, which is read-only: the filesystem
    # beneath does it for them.
    for change in ("mkdir", "makedirs", "touch", "pipe", "rm"):
        setattr(fs, change, getattr(fs.fs, change))
    yield fs
    fs.clear_cache()


class TestGetFromFiles(AbstractFixtures, AbstractGetTests):
    @pytest.fixture
    def fs(self):
        with _over("file", auto_mkdir=True) as fs:
            yield fs

    @pytest.fixture
    def fs_path(self, tmp_path):
        return str(tmp_path / "beneath")


class TestGetFromS3(AbstractFixtures, AbstractGetTests):
    @pytest.fixture
    def fs(self, moto):
        with _over("s3", **moto) as fs:
            yield fs

    @pytest.fixture
    def fs_path(self, bucket):
        return bucket.name

    @pytest.fixture
    def supports_empty_directories(self):
        return False
