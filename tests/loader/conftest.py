"""No settings of this machine where a Loader is tested."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "DISKLESS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
