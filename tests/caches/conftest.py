"""A hub on loopback, and a user of it with an empty cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.caches import models
from tests.caches.client import Client
from tests.caches.hub_server import HubServer
from tests.caches.ram import Ram
from tests.caches.repository import Repository


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A hub without any repository. No test may ask it for something that it does not know."""
    with HubServer() as hub:
        yield hub
    assert [str(request) for request in hub.unknown] == []


@pytest.fixture
def client(hub: HubServer, tmp_path: Path) -> Client:
    home = tmp_path / "home"
    home.mkdir()
    return Client(hub, home)


@pytest.fixture
def ram(s3_env, client: Client, bucket, tmp_path: Path) -> Ram:
    return Ram(client, bucket, tmp_path)


@pytest.fixture
def bert(hub: HubServer) -> Repository:
    hub.repositories["org/bert"] = repository = Repository.of(models.sentence_bert())
    return repository


@pytest.fixture
def away(hub: HubServer) -> Iterator[None]:
    """Nothing may be asked of the hub."""
    before = len(hub.requests)
    yield
    assert [str(request) for request in hub.requests[before:]] == []
