"""Programs that change how all their sockets behave, which the connections to the Loader must not heed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.loader.fault_server import FaultServer
from tests.programs import BY_A_PROCESS, MOUNT, run

# Shorter than any load takes.
DEFAULT = "import socket; socket.setdefaulttimeout(0.01)"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer({"big": b"b" * (3 << 20), "small": b"s"}) as server:
        yield server


def test_a_default_timeout_from_the_start_changes_nothing(server):
    assert run(server, f"{DEFAULT}\n{MOUNT}") == BY_A_PROCESS


def test_a_default_timeout_that_is_set_between_two_loads_changes_nothing(server):
    assert run(server, f"{MOUNT}\n{DEFAULT}\n{MOUNT}") == BY_A_PROCESS * 2


def test_gevents_sockets_change_nothing(server):
    pytest.importorskip("gevent")
    assert run(server, f"from gevent import monkey; monkey.patch_all()\n{MOUNT}") == BY_A_PROCESS
