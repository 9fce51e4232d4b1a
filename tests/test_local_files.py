"""What is found to be pushed: what cannot be an object is an error only where the patterns keep it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import diskless
from diskless.local_files import find


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name in ("v1/a.bin", "v2/b.bin", "checkpoints/c.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "checkpoints/latest").symlink_to("nowhere")
    return tmp_path


@pytest.mark.parametrize(
    ("allowed", "ignored"),
    [(None, ["checkpoints/*"]), (None, ["*latest"]), (["v1/*"], None), (["*.bin"], None), (["*"], ["*/latest"])],
)
def test_a_link_that_leads_nowhere_is_left_out_by_patterns(model, allowed, ignored):
    found = [file.name for file in find(str(model), allowed, ignored)]
    assert found == ["checkpoints/c.bin", "v1/a.bin", "v2/b.bin"]


@pytest.mark.parametrize(
    ("allowed", "ignored"),
    [(None, None), (None, ["v1/*"]), (["checkpoints/*"], None), (["checkpoints/latest/*.bin"], None), (["*est"], [])],
)
def test_a_link_that_leads_nowhere_and_is_kept_is_an_error(model, allowed, ignored):
    with pytest.raises(diskless.InvalidOption, match=r"latest cannot be pushed: .*leads nowhere"):
        find(str(model), allowed, ignored)


@pytest.mark.parametrize(
    ("allowed", "ignored", "refused"),
    [
        (None, None, True),
        (None, ["v2/round/*"], False),
        (None, ["v2/*.bin"], True),
        (["v1/*"], None, False),
        (["v2/*.bin"], None, True),
        (["*.bin"], None, True),
    ],
)
def test_a_circle_is_left_out_where_nothing_in_it_is_kept(model, allowed, ignored, refused):
    os.unlink(model / "checkpoints/latest")
    (model / "v2/round").symlink_to("..")
    if refused:
        with pytest.raises(diskless.InvalidOption, match="leads to a directory that it is in"):
            find(str(model), allowed, ignored)
    else:
        assert len(find(str(model), allowed, ignored)) == 3


def test_push_passes_its_patterns_on(model, s3_env, bucket):
    pushed = diskless.push(model, f"{bucket.url}/m", ignore_patterns="checkpoints/")
    assert pushed.files == 2
    with diskless.mount(f"{bucket.url}/m") as path:
        assert sorted(os.listdir(path)) == ["v1", "v2"]
