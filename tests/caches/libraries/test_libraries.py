"""Libraries predict from a cache in RAM what they predict from the disk, by their own calls and with their own checks.

Each runs in programs of its own. What wants torchvision or triton is skipped unless it is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from diskless import native_api as native
from tests.caches.libraries.needed import PATH, need
from tests.programs import environment
from tests.sandbox import needs_sandbox, sandbox
from tests.servers import Bucket

pytestmark = [pytest.mark.skipif(not native.available(), reason="needs the Tree"), pytest.mark.slow]
UNUSED = os.urandom(1 << 20)


class Case(NamedTuple):
    """`directory` is where the library keeps on the disk what the mirror has in `prefix`."""

    name: str
    directory: str
    prefix: str
    # What the library says of a file of another checksum, when it cannot fetch it again.
    error: str
    only: str
    modules: tuple[str, ...]
    checks: bool = True  # else what is wrong with the file has to show


CASES = [
    Case("torch", ".cache/torch/hub", "torch/hub", "RuntimeError", "torch", ("torch",), checks=False),
    Case("tiktoken", "tmp/data-gym-cache", "tiktoken", "ConnectionError", "tiktoken", ("tiktoken",)),
    Case("nltk", "nltk_data", "nltk", "BadZipFile", "nltk", ("nltk",), checks=False),
    Case("keras", ".keras/models", "keras/models", "Exception", "keras", ("keras", "torch")),
]
# What packages.txt is for.
APART = [
    Case("clip", ".cache/clip", "clip", "URLError", "clip", ("clip", "torchvision", "pkg_resources")),
    Case("easyocr", ".EasyOCR/model", "easyocr/model", "URLError", "easyocr", ("easyocr", "torchvision")),
    Case("whisper", ".cache/whisper", "whisper", "URLError", "whisper", ("whisper",)),
    Case("open_clip", ".cache/clip", "clip", "RuntimeError", "clip", ("open_clip", "torchvision")),
]


def _play(home: Path, *words: str, within: list[str] | None = None) -> Any:
    temporary = home / "tmp" if words[0] == "make" else home.with_name("temporary")
    if within is None:
        temporary.mkdir(parents=True, exist_ok=True)
    else:
        home, temporary = Path("/nonexistent"), Path("/tmp")
    settings = {"HOME": str(home), "TMPDIR": str(temporary), "MPLCONFIGDIR": str(home.with_name("matplotlib"))}
    env = {name: value for name, value in environment().items() if not name.startswith(("XDG_", "TORCH_", "KERAS_"))}
    env |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    env |= {**settings, "PYTHONPATH": PATH, "PYTHONDONTWRITEBYTECODE": "1", "KERAS_BACKEND": "torch"}
    env["OMP_NUM_THREADS"] = "1"  # many tests at once, and sums in one order
    program = [*(within or ()), sys.executable, "-W", "ignore", "-m", "tests.caches.libraries.play", *words]
    done = subprocess.run(program, capture_output=True, text=True, timeout=100, env=env, cwd=home.parent, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(
    scope="module",
    params=[*CASES, *(pytest.param(case, marks=pytest.mark.apart) for case in APART)],
    ids=lambda case: case.name,
)
def on_disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What a library has and says on a disk, and wrong files under the same names."""
    case = request.param
    need(*case.modules)
    home = tmp_path_factory.mktemp(case.name) / "home"
    told = _play(home, "make", case.name)
    right = {each.relative_to(home / case.directory): each.read_bytes() for each in _files(home / case.directory)}
    if case.checks:
        elsewhere = (
            Path(f"{home}-wrong", case.directory)
            if not case.directory.startswith("tmp/")
            else Path(f"{home}/tmp-wrong", case.directory.removeprefix("tmp/"))
        )
        wrong = {each.relative_to(elsewhere): each.read_bytes() for each in _files(elsewhere)}
        assert wrong.keys() == right.keys() and wrong != right
    else:
        wrong = {
            name: data[: len(data) // 2] if name.suffix in (".pth", ".zip") else data for name, data in right.items()
        }
    yield case, told, right, wrong


def _files(directory: Path) -> list[Path]:
    return [each for each in directory.rglob("*") if each.is_file()]


@pytest.mark.parametrize("imported", ["before", pytest.param("in a sandbox", marks=needs_sandbox)])
def test_a_prediction_from_ram_is_that_from_the_disk(on_disk, imported: str, s3_env, bucket: Bucket, tmp_path: Path):
    case, from_disk, right, wrong = on_disk
    for mirror, files in (("mirror", right), ("wrong", wrong)):
        for name, data in files.items():
            bucket.put(f"{mirror}/{case.prefix}/{name}", data)
        bucket.put(f"{mirror}/{case.prefix}/unused.bin", UNUSED)
    home = tmp_path / "home"
    urls = f"{bucket.url}/mirror", f"{bucket.url}/wrong"
    within = sandbox() if imported != "before" else None
    told = _play(home, "use", case.name, case.only, imported, *urls, from_disk["made"], within=within)

    assert told["said"] == from_disk["said"]
    assert told["asked"] == [] and told["wrote"] == []
    assert not home.exists() and not (tmp_path / "temporary" / "data-gym-cache").exists()
    held = {name.removeprefix(f"{case.prefix}/"): size for name, size in told["held"].items() if size}
    needed = {str(name) for name, data in right.items() if data}
    assert held.keys() == needed and "unused.bin" not in held
    # What is wrong is refused, as on a disk, and nothing is predicted from it.
    assert "wrong" not in told and told["error"].startswith(f"{case.error}:")
