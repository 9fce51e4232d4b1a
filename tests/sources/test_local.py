"""file://: a directory of this machine, each file pinned to its inode."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import diskless
from diskless.errors import InvalidOption, NotFound, ObjectChanged
from diskless.sources import open_source, resolve

LARGE = bytes(range(256)) * (9 << 12)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model %20#?"
    (directory / "deep").mkdir(parents=True)
    (directory / "config.json").write_bytes(b"{}")
    (directory / "deep" / "weights~$.bin").write_bytes(LARGE)
    (directory / "empty").write_bytes(b"")
    os.symlink(directory / "config.json", directory / "link")
    os.symlink(directory, directory / "deep" / "round")  # leads back: followed once
    os.symlink("nowhere", directory / "dangling")
    os.mkfifo(directory / "fifo")
    return directory


def test_a_directory_is_mounted_with_what_links_lead_to(backing, model, caplog):
    with diskless.mount(f"file://{model}", backing=backing) as path:
        if backing == "tree":
            assert path == f"/diskless/file{model}"
        found = {os.path.relpath(os.path.join(at, name), path) for at, _, names in os.walk(path) for name in names}
        assert found == {"config.json", "deep/weights~$.bin", "empty", "link"}
        assert Path(path, "deep/weights~$.bin").read_bytes() == LARGE
        assert Path(path, "link").read_bytes() == b"{}"
        assert os.stat(f"{path}/link").st_mtime_ns == os.stat(model / "config.json").st_mtime_ns
    assert "'dangling' is left out: it is a link that leads nowhere" in caplog.text
    assert "'fifo' is left out: it is no regular file" in caplog.text


def test_a_directory_shows_at_every_path_that_leads_to_it(tmp_path):
    for name in ("v1", "v2/deep"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "weights").write_text(name)
    os.symlink("v2", tmp_path / "current")
    os.symlink("v1", tmp_path / "zzz")
    os.symlink("../../v2", tmp_path / "v2/deep/round")
    with diskless.mount(f"file://{tmp_path}") as path:
        found = {str(file.relative_to(path)): file.read_text() for file in Path(path).rglob("weights")}
    assert found == {
        "v1/weights": "v1",
        "zzz/weights": "v1",
        "v2/deep/weights": "v2/deep",
        "current/deep/weights": "v2/deep",
    }


def test_one_file_is_mounted_in_the_background_and_shared(model):
    url = f"file://{model}/deep/weights~$.bin"
    with diskless.mount(url, load="background") as path, diskless.mount(f"file://{model}") as whole:
        assert Path(path).read_bytes() == Path(whole, "deep/weights~$.bin").read_bytes() == LARGE


@pytest.mark.parametrize("change", ["replaced", "written", "deleted"])
def test_a_file_that_changes_is_an_error(model, change):
    source = open_source(resolve(f"file://{model}/config.json"))
    (entry,) = source.list().objects
    before = os.stat(model / "config.json")
    if change == "replaced":
        (model / "other").write_bytes(b"[]")
        os.replace(model / "other", model / "config.json")
    elif change == "written":
        (model / "config.json").write_bytes(b"[]")
        os.utime(model / "config.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        os.unlink(model / "config.json")
    with pytest.raises(ObjectChanged, match=r"config\.json was (replaced|deleted) while it was read"):
        list(source.read(entry, 0, 2))


def test_nothing_there_and_nothing_in_it_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"nothing does not exist on the disks of this machine"):
        diskless.mount(f"file://{tmp_path}/nothing")
    with pytest.raises(NotFound, match=f"no file is below file://{tmp_path}"):
        diskless.mount(f"file://{tmp_path}")


def test_it_takes_no_options(tmp_path):
    with pytest.raises(InvalidOption, match="a file:// URL takes none, and there is 'key'"):
        resolve(f"file://{tmp_path}", storage_options={"key": "x"})
