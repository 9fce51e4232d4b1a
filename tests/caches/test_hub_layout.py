"""What of a mirror goes where: repositories found in its listing."""

from __future__ import annotations

import hashlib

import pytest

from diskless.caches.hub_layout import Repository, repositories
from diskless.sources import Object

COMMIT = "1" * 40
ETAG_OF_WEIGHTS, ETAG_OF_CONFIG = "a" * 64, "b" * 40


def listing(**contents: bytes) -> dict[str, Object]:
    """Objects whose ETags are those of their bytes, as a store has them that were put in one piece."""
    return {
        path: Object(path, path, len(data), hashlib.md5(data).hexdigest(), None, 0) for path, data in contents.items()
    }


def only(found: dict[tuple[str, str], Repository]) -> Repository:
    (repository,) = found.values()
    return repository


CACHE = {
    "models--org--name/refs/main": COMMIT.encode(),
    f"models--org--name/blobs/{ETAG_OF_WEIGHTS}": b"weights",
    f"models--org--name/blobs/{ETAG_OF_CONFIG}": b"{}",
    f"models--org--name/snapshots/{COMMIT}/model.safetensors": b"weights",
    f"models--org--name/snapshots/{COMMIT}/sub/config.json": b"{}",
    f"models--org--name/.no_exist/{COMMIT}/adapter.json": b"",
    f"models--org--name/trees/{COMMIT}.json": b"[]",
}


def test_copies_in_a_snapshot_are_links_to_the_blobs_again():
    repository = only(repositories(listing(**CACHE)))
    assert (repository.kind, repository.name, repository.folder) == ("models", "org/name", "models--org--name")
    assert not repository.plain and repository.commits == {COMMIT}
    assert repository.links == {
        f"snapshots/{COMMIT}/model.safetensors": ETAG_OF_WEIGHTS,
        f"snapshots/{COMMIT}/sub/config.json": ETAG_OF_CONFIG,
    }
    assert repository.texts == {"refs/main": COMMIT}, "it need not be fetched: its ETag tells"
    assert set(repository.files) == {
        f"blobs/{ETAG_OF_WEIGHTS}",
        f"blobs/{ETAG_OF_CONFIG}",
        f".no_exist/{COMMIT}/adapter.json",
        f"trees/{COMMIT}.json",
    }


def test_a_snapshot_without_blobs_has_blobs_made_for_it():
    files = {path: data for path, data in CACHE.items() if "/blobs/" not in path}
    files[f"models--org--name/snapshots/{COMMIT}/same.safetensors"] = b"weights"
    repository = only(repositories(listing(**files)))
    blobs = set(repository.links.values())
    assert len(blobs) == 2, "the two with the same bytes share one"
    assert {name for name in repository.files if name.startswith("blobs/")} == {f"blobs/{blob}" for blob in blobs}


def test_repositories_that_share_bytes_share_a_file():
    xet = "c" * 64
    files = CACHE | {path.replace("--name", "--other"): data for path, data in CACHE.items()}
    files = {f"blobs/{xet[:2]}/{xet}": b"weights", "org/plain/model.safetensors": b"weights", **files}
    found = repositories(listing(**files))
    assert {name for _, name in found} == {"org/name", "org/other", "org/plain"}
    sources = {
        repository.files[f"blobs/{blob}"]
        for repository in found.values()
        for path, blob in repository.links.items()
        if path.endswith("model.safetensors")
    }
    assert sources == {f"blobs/{xet[:2]}/{xet}"}


def test_what_lies_above_a_cache_is_told_so(caplog: pytest.LogCaptureFixture):
    assert repositories(listing(**{f"hub/{path}": data for path, data in CACHE.items()})) == {}
    assert "hub/ is a cache of huggingface_hub itself: the mirror's URL has to name it" in caplog.text


def test_copies_whose_etags_tell_nothing_are_files_of_their_own():
    objects = {
        path: entry._replace(etag=f"{number}-2") for number, (path, entry) in enumerate(listing(**CACHE).items())
    }
    repository = only(repositories(objects))
    weights = repository.links[f"snapshots/{COMMIT}/model.safetensors"]
    assert weights != ETAG_OF_WEIGHTS
    assert repository.files[f"blobs/{weights}"] == f"models--org--name/snapshots/{COMMIT}/model.safetensors"


def test_what_a_cache_has_beside_is_left_out():
    extra = {
        "CACHEDIR.TAG": b"",
        "version.txt": b"1",
        ".locks/models--org--name/x.lock": b"",
        "blobs/ab/abcdef": b"weights",
        ".huggingface-shared-blobs": b"",
        "models--org--name/blobs/cc.incomplete": b"half",
    }
    assert only(repositories(listing(**CACHE, **extra))) == only(repositories(listing(**CACHE)))


def test_plain_files_have_a_commit_that_follows_from_them():
    files = {"org/name/config.json": b"{}", "org/name/onnx/model.onnx": b"onnx"}
    repository = only(repositories(listing(**files)))
    commit = repository.texts["refs/main"]
    assert repository.plain and repository.commits == {commit} and len(commit) == 40
    assert set(repository.links) == {f"snapshots/{commit}/config.json", f"snapshots/{commit}/onnx/model.onnx"}
    assert sorted(repository.files.values()) == sorted(files)
    again = only(repositories(listing(**files)))
    changed = only(repositories(listing(**files | {"org/name/config.json": b"[]"})))
    assert again == repository and changed.texts["refs/main"] != commit


def test_folders_without_files_beside_them_are_revisions():
    files = {f"org/name/{revision}/config.json": b"{}" for revision in ("main", "v1", COMMIT)}
    repository = only(repositories(listing(**files | {"org/name/v1/more.json": b"[]"})))
    assert set(repository.texts) == {"refs/main", "refs/v1"} and COMMIT in repository.commits
    assert repository.texts["refs/main"] != repository.texts["refs/v1"]
    assert len(set(repository.links.values())) == 2, "the same bytes at three revisions are one file"


def test_names_of_all_kinds():
    found = repositories(
        listing(
            **{
                "gpt2/config.json": b"1",
                "models--bert/refs/main": b"2",
                f"models--bert/snapshots/{COMMIT}/config.json": b"2",
                "datasets/org/data/train.csv": b"3",
                f"datasets--org--other/snapshots/{COMMIT}/x": b"4",
                "spaces/org/app/app.py": b"5",
                "Org.2/Name_3.b-c/config.json": b"6",
            }
        )
    )
    assert set(found) == {
        ("models", "gpt2"),
        ("models", "bert"),
        ("datasets", "org/data"),
        ("datasets", "org/other"),
        ("spaces", "org/app"),
        ("models", "Org.2/Name_3.b-c"),
    }
    assert found["datasets", "org/data"].folder == "datasets--org--data"


@pytest.mark.parametrize("etag", ["", "W/weak", "d41d8cd98f00b204e9800998ecf8427e-1"])
def test_a_revision_whose_etag_does_not_tell_is_read(etag: str):
    objects = listing(**CACHE)
    objects["models--org--name/refs/main"] = objects["models--org--name/refs/main"]._replace(etag=etag)
    repository = only(repositories(objects))
    assert not repository.texts and "refs/main" in repository.files


def test_a_file_beside_repositories_makes_no_repository_of_their_organisation():
    files = {"org/README.md": b"", "org/.DS_Store": b"", "org/a/config.json": b"1", "org/b/w.bin": b"2"}
    assert {name for _, name in repositories(listing(**files))} == {"org/a", "org/b"}
    files = {"org/a/.DS_Store": b"", "org/a/v1/w.bin": b"1", "org/a/v2/w.bin": b"2"}
    assert set(only(repositories(listing(**files))).texts) == {"refs/v1", "refs/v2"}
    files = {"bert/config.json": b"", "bert/onnx/config.json": b"1", "bert/onnx/model.onnx": b"2"}
    assert {name for _, name in repositories(listing(**files))} == {"bert"}
    files = {"plain/notes.txt": b"", "plain/data/a.txt": b"1"}
    assert {name for _, name in repositories(listing(**files))} == {"plain"}
    files = {"clip/README.md": b"", "clip/modules.json": b"", "clip/0_CLIPModel/config.json": b"1"}
    assert {name for _, name in repositories(listing(**files))} == {"clip"}


@pytest.mark.parametrize("name", ["org/name", "squad"])
def test_a_hidden_file_of_gits_is_one_of_the_repository(name: str):
    files = {f"datasets/{name}/.gitattributes": b"", f"datasets/{name}/data/train.parquet": b"1"}
    repository = only(repositories(listing(**files)))
    assert repository.name == name and set(repository.texts) == {"refs/main"}


def test_folders_of_other_libraries_are_no_repositories():
    files = {"clip/ViT-B-32.pt": b"1", "easyocr/model/craft.pth": b"2", "org/name/config.json": b"3"}
    assert set(repositories(listing(**files), others=("clip", "easyocr"))) == {("models", "org/name")}


def test_a_repository_that_is_there_twice_is_the_copied_one(caplog: pytest.LogCaptureFixture):
    repository = only(repositories(listing(**CACHE, **{"org/name/config.json": b"x"})))
    assert not repository.plain
    assert "org/name twice" in caplog.text
