"""Keys of all kinds in one bucket: what can be a file is one, the rest is named, and nothing lies outside the Mount."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

import diskless
from tests.loader.fault_server import FaultServer

GOOD = [
    "config.json",
    "weights/a.bin",
    "%2e%2e",
    "weights/%2e%2e/x",
    "a b+c",
    "gr\u00fc\u00dfe/\U0001f600",
    "prefix/below",
    "n" * 255,
]
ODD = {
    "a//b": "an empty part between slashes",
    "/absolute": "an empty part between slashes",
    "../x": "a part '.' or '..'",
    "weights/../../x": "a part '.' or '..'",
    "./here": "a part '.' or '..'",
    "prefix": "prefix/ too, and a path cannot be both",
    "marker/": "an empty part between slashes",  # it holds bytes, so it is no mere marker
    "n" * 300: "a part is longer than 255 bytes",
    "new\nline": "control characters",
    "escape\x1b[31m": "control characters",
    "latin1 \udcfc": "not valid UTF-8",
}
CONTENTS = {key: f"the bytes of {key!r}".encode() for key in GOOD + list(ODD)}


@pytest.mark.parametrize("below", ["", "models/"])
def test_odd_keys_are_left_out_by_name_and_hide_no_others(backing, caplog, tmp_path, below):
    objects = {below + key: data for key, data in CONTENTS.items()} | {f"{below}weights/": b"", f"{below}empty/": b""}
    if below:
        objects["x"] = b"beside what is mounted"
    with (
        FaultServer(objects) as server,
        caplog.at_level(logging.WARNING, "diskless"),
        diskless.mount(f"{server.url}/{below}", storage_options=server.storage_options, backing=backing) as path,
    ):
        assert _files(path) == {key: CONTENTS[key] for key in GOOD}
        root, there_before = ("/diskless", set()) if backing == "tree" else (str(tmp_path), {"ram/theirs"})
        outside = {file for file in _files(root) if not Path(root, file).is_relative_to(path) and not _is_ours(file)}
        assert outside == there_before
        assert {get.key for get in server.gets} == {below + key for key in GOOD}, "it fetched what it left out"
        (mount,) = diskless.mounts()
    refused = dict(mount.stats.refused)
    assert set(refused) == {below + key for key in ODD} and len(mount.stats.refused) == len(ODD)
    warnings = [record.getMessage() for record in caplog.records]
    for key, why in ODD.items():
        assert why in refused[below + key]
        said = f"{server.url}/{below}".rstrip("/"), f"the key {below + key!r} is left out: ", why
        assert [message for message in warnings if all(words in message for words in said)], (key, warnings)
    assert len(warnings) == len(ODD) and not any("\n" in message or "\x1b" in message for message in warnings)


def _files(directory: str) -> dict[str, bytes]:
    return {
        os.path.relpath(os.path.join(parent, name), directory): Path(parent, name).read_bytes()
        for parent, _, names in os.walk(directory)
        for name in names
    }


def _is_ours(file: str) -> bool:
    """Whether it is of those that a Directory keeps beside what it shows (`ram/diskless-<pid>-…/.staging/0`)."""
    return file.split("/")[2:3] in ([".staging"], [".lock"])
