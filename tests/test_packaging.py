"""What pip makes of the project: one wheel for all Pythons, and a working package where nothing native can be built."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the sources"),
]


def _wheel(into: Path, *settings: str) -> Path:
    words = [word for setting in settings for word in ("--config-settings", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(into), *words, str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = into.glob("*.whl")
    return wheel


def _python(wheel: Path, code: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code with the contents of a wheel, and obstore from here, on its path."""
    installed = directory / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    obstore = importlib.util.find_spec("obstore")
    assert obstore is not None and obstore.origin is not None
    path = os.pathsep.join([str(installed), str(Path(obstore.origin).parent.parent)])
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        cwd=directory,
    )


def test_one_wheel_serves_every_python_of_an_architecture(s3_env, bucket, tmp_path):
    wheel = _wheel(tmp_path / "wheels")
    assert wheel.name.startswith("diskless-") and "-py3-none-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert "diskless/libdiskless.so" in names
    assert "diskless/py.typed" in names
    assert all(name.endswith((".py", "py.typed", "libdiskless.so")) for name in names), names

    bucket.put("model/config.json", b"{}")
    code = (
        f"import diskless\nwith diskless.mount('{bucket.url}/model') as path: print(open(path + '/config.json').read())"
    )
    done = _python(wheel, code, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "{}"), done.stderr


def test_where_nothing_native_can_be_built_the_directory_backing_serves(s3_env, bucket, tmp_path):
    """As on macOS or musl: the build says so, the import works, and mount names the setting that serves."""
    wheel = _wheel(tmp_path / "wheels", "cmake.define.DISKLESS_HAS_GLIBC=OFF")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]

    bucket.put("model/config.json", b"{}")
    code = f"""
import os, diskless
try:
    diskless.mount("{bucket.url}/model")
except diskless.BackingUnavailable as error:
    print(error)
os.environ["DISKLESS_BACKING"] = "directory:{tmp_path}/ram"
with diskless.mount("{bucket.url}/model") as path:
    print(path.startswith("{tmp_path}/ram"), open(path + "/config.json").read())
"""
    done = _python(wheel, code, tmp_path)
    assert done.returncode == 0, done.stderr
    refusal, served = done.stdout.splitlines()
    assert "native library" in refusal and "DISKLESS_BACKING=directory:" in refusal
    assert served == "True {}"
