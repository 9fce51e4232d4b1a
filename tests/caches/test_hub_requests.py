"""Paths of the Hub's server, and what they ask for."""

from __future__ import annotations

import pytest

from diskless.caches.hub_requests import Asked, read


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/org/name/resolve/main/config.json", Asked("file", "models", "org/name", "main", "config.json")),
        ("/gpt2/resolve/main/onnx/model.onnx", Asked("file", "models", "gpt2", "main", "onnx/model.onnx")),
        ("/datasets/org/name/resolve/v1/a%20b.csv", Asked("file", "datasets", "org/name", "v1", "a b.csv")),
        ("/org/name/resolve/refs%2Fpr%2F1/x", Asked("file", "models", "org/name", "refs/pr/1", "x")),
        ("/api/models/org/name", Asked("info", "models", "org/name", "main")),
        ("/api/models/gpt2/revision/v1", Asked("info", "models", "gpt2", "v1")),
        ("/api/spaces/org/name/revision/main", Asked("info", "spaces", "org/name", "main")),
        ("/api/models/org/name/tree/main", Asked("tree", "models", "org/name", "main")),
        ("/api/models/org/name/tree/main/a/b", Asked("tree", "models", "org/name", "main", "a/b")),
        ("/api/datasets/org/name/paths-info/main", Asked("paths-info", "datasets", "org/name", "main")),
        ("/api/models/org/name/refs", Asked("refs", "models", "org/name", "main")),
        ("/api/models/gpt2/refs", Asked("refs", "models", "gpt2", "main")),
    ],
)
def test_what_a_mirror_answers(path: str, asked: Asked):
    assert read(path) == asked


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/whoami-v2",
        "/api/models",
        "/api/models/org/name/xet-read-token/main",
        "/api/models/org/name/commits/main",
        "/api/models/org/name/tree",
        "/org/name/raw/main/config.json",
        "/org/name/resolve/main/",
        "/org/name/resolve/main/../../../secret",
        "/org/name/resolve/..%2F..%2Fsecret/config.json",
        "/org/name/resolve/%2Fetc%2Fpasswd/config.json",
        "/api/models/org/name/tree/main/..",
    ],
)
def test_what_is_the_hubs_alone(path: str):
    assert read(path) is None
