"""Where a transfer runs: in a Loader process, or in threads of this one, with retries that do not wait."""

from __future__ import annotations

import os

import pytest

from diskless.loader import process, transfer


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "DISKLESS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Loader as threads of this process, where its pauses can be made short."""
    monkeypatch.setattr(process, "_threads_only", True)
    monkeypatch.setattr(process, "_control", None)
    monkeypatch.setattr(transfer, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(transfer, "LONGEST_PAUSE_S", 0.01)


@pytest.fixture(params=["process", "threads"])
def either_way(request: pytest.FixtureRequest) -> None:
    """Both ways in turn."""
    if request.param == "threads":
        request.getfixturevalue("in_threads")
