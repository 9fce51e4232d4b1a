"""python -m diskless.cache: programs with their caches in RAM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diskless import native_api as native
from tests.programs import SOURCE, environment

pytestmark = pytest.mark.skipif(not native.available(), reason="needs the Tree")
APP = """
import os, sys
print(sys.argv, __name__, sys.path[0])
print(open(os.path.expanduser("~/.cache/torch/hub/checkpoints/net.pth")).read())
import diskless, diskless.cache
print(callable(diskless.cache))
raise SystemExit(7)
"""


def run(directory: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    settings = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "diskless.cache", *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=directory,
        env=environment(PYTHONPATH=str(SOURCE), HOME=str(directory / "home"), **settings, **variables),
    )


@pytest.fixture
def app(s3_env, bucket, tmp_path: Path) -> Path:
    bucket.put("m/torch/hub/checkpoints/net.pth", b"from the mirror")
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "app.py").write_text(APP)
    return tmp_path


def test_a_program_and_a_module(app: Path, bucket):
    mirror = f"{bucket.url}/m"
    program = str(app / "programs" / "app.py")
    by_name = run(app, program, "-x", "1", DISKLESS_CACHE=mirror)
    assert by_name.returncode == 7, by_name.stderr
    shown = f"{[program, '-x', '1']} __main__ {app / 'programs'}"
    assert by_name.stdout.splitlines() == [shown, "from the mirror", "True"]
    as_module = run(app / "programs", "-m", "app", "-x", DISKLESS_CACHE=mirror)
    assert as_module.returncode == 7, as_module.stderr
    assert as_module.stdout.splitlines()[1:] == ["from the mirror", "True"]
    assert as_module.stdout.startswith(str([program, "-x"]))
    assert not (app / "home").exists()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has no such variable")
def test_with_a_safe_path_modules_are_found_where_they_are_without(app: Path, bucket):
    program = str(app / "programs" / "app.py")
    ended = run(app, program, DISKLESS_CACHE=f"{bucket.url}/m", PYTHONSAFEPATH="1")
    assert ended.stdout.splitlines()[0] == f"{[program]} __main__ {SOURCE}", ended.stderr


def test_what_makes_no_sense_is_one_line(app: Path, bucket):
    for words in ((), ("-m",), ("-x", "app.py")):
        ended = run(app, *words, DISKLESS_CACHE=f"{bucket.url}/m")
        assert ended.returncode == 1 and ended.stderr.startswith("usage: DISKLESS_CACHE=")
    unset = run(app, "programs/app.py")
    assert unset.returncode == 1 and unset.stderr.startswith("DISKLESS_CACHE is not set")
    empty = run(app, "programs/app.py", DISKLESS_CACHE=f"{bucket.url}/none")
    assert empty.returncode == 1 and empty.stderr.startswith(f"diskless.cache: no object at {bucket.url}/none")
    assert "Traceback" not in empty.stderr
