"""`diskless push`: what it prints, and its exit status."""

from __future__ import annotations

import json

import pytest

import diskless
from diskless.cli import main


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.bin"):
        (tmp_path / "model" / name).write_bytes(name.encode())
    return str(tmp_path / "model")


def test_a_directory_goes_up(s3_env, bucket, directory, capsys):
    assert main(["push", directory, f"{bucket.url}/m"]) == 0
    assert capsys.readouterr().out.startswith(f"2 files, 20 B to {bucket.url}/m in ")
    with diskless.mount(f"{bucket.url}/m", verify=True) as path:
        assert open(f"{path}/config.json").read() == "config.json"


def test_json_is_for_programs(s3_env, bucket, directory, capsys):
    assert main(["push", directory, f"{bucket.url}/m", "--json", "--ignore", "*.bin"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said.pop("seconds") > 0
    assert said == {"url": f"{bucket.url}/m", "files": 1, "size_bytes": 11}


def test_what_is_there_is_replaced_only_when_asked(s3_env, bucket, directory, capsys):
    bucket.put("m/x", b"x")
    assert main(["push", directory, f"{bucket.url}/m"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"diskless: {bucket.url}/m holds 1 object already (x): ")
    assert "or with --overwrite, which" in said.err
    assert main(["push", directory, f"{bucket.url}/m", "--overwrite", "--allow", "*.json"]) == 0
    assert capsys.readouterr().out.startswith("1 file, 11 B")
