"""`diskless ls` lists what a Mount of the URL would show, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from diskless.cli import main
from tests.loader.fault_server import FaultServer

OBJECTS = {"m/config.json": b"x" * 512, "m/d/model.safetensors": b"y" * 1_234_567, "m/up/../x": b"", "n": b""}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    with FaultServer(OBJECTS) as server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.storage_options["key"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.storage_options["secret"])
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.storage_options["endpoint_url"])
        yield server


def test_one_line_a_file_and_the_sum(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", f"{server.url}/m"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "            512  2026-01-02 03:04:05  config.json",
        "      1,234,567  2026-01-02 03:04:05  d/model.safetensors",
        "2 files, 1.2 MiB",
    ]
    assert server.gets == []


def test_for_programs_it_is_one_json_document(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--json", f"{server.url}/m"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["url"] == f"{server.url}/m"
    assert said["files"][0] == {
        "path": "config.json",
        "key": "m/config.json",
        "size_bytes": 512,
        "modified": "2026-01-02T03:04:05Z",
        "etag": server.etag("m/config.json"),
        "version": None,
    }
    assert [each["key"] for each in said["refused"]] == ["m/up/../x"] and said["refused"][0]["reason"]


def test_patterns_choose(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", f"{server.url}/m", "--allow", "*.json", "--allow", "d/", "--ignore", "*.safetensors"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["1 file, 512 B"]


def test_what_cannot_be_listed_is_one_line(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    for url, said in [(f"{server.url}/none", "none"), ("s3://b/../k", "'..'"), (f"{server.url}/m", "--allow")]:
        words = ["ls", url, *(["--allow", "*.bin"] if said == "--allow" else [])]
        assert main(words) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.startswith("diskless: ") and captured.err.count("\n") == 1


def test_a_name_cannot_move_the_cursor_of_a_terminal(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.objects = {"m/\u202egnp.exe": b"", "m/ä": b""}
    assert main(["ls", f"{server.url}/m"]) == 0
    said = capsys.readouterr().out
    assert "\u202e" not in said and "\\u202egnp.exe" in said and "  ä\n" in said
