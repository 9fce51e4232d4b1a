"""What is skipped where a package is not installed; with DISKLESS_TEST_LIBRARIES=required, nothing is."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.programs import SOURCE

ROOT = Path(__file__).parents[3]
PACKAGES = Path(__file__).with_name("packages.txt").relative_to(ROOT)
# Read before a test clears the environment.
_REQUIRED = os.environ.get("DISKLESS_TEST_LIBRARIES") == "required"
# For programs that import the package and the tests.
PATH = os.pathsep.join((str(SOURCE), str(ROOT)))


def need(*modules: str) -> None:
    """Skip the test unless these can be imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        (pytest.fail if _REQUIRED else pytest.skip)(f"{', '.join(missing)} is not installed: see {PACKAGES}")
