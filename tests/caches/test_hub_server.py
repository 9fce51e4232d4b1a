"""The hub on loopback is one to the real clients, with their cache on a disk."""

from __future__ import annotations

import hashlib

import pytest

from tests.caches.client import Client
from tests.caches.hub_server import Fault, HubServer, first
from tests.caches.repository import Repository

pytest.importorskip("huggingface_hub")

SMALL, WEIGHTS = b'{"small": true}', bytes(range(256)) * 40
FILES = {"config.json": SMALL, "model.safetensors": WEIGHTS, "sub/deep/note.txt": b"note"}
SHA1 = hashlib.sha1(b"blob %d\0" % len(SMALL) + SMALL).hexdigest()
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
DOWNLOAD = """
import sys
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download
def fails(call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except Exception as error:
        print(type(error).__name__)
    else:
        print("no error")
def show(path):
    print(open(path, "rb").read().hex())
"""


@pytest.fixture
def repository(hub: HubServer) -> Repository:
    hub.repositories["org/model"] = Repository.of(FILES)
    return hub.repositories["org/model"]


def download(client: Client, program: str, *arguments: str, **env: str) -> list[str]:
    return client.run(DOWNLOAD + program, *arguments, **env)


def test_one_file_is_asked_for_and_kept_by_its_etag(hub, client, repository):
    assert download(client, "show(hf_hub_download('org/model', 'config.json'))") == [SMALL.hex()]
    assert hub.asked() == [f"{method} /org/model/resolve/main/config.json 200" for method in ("HEAD", "GET")]
    assert download(client, "show(hf_hub_download('org/model', 'model.safetensors'))") == [WEIGHTS.hex()]
    assert [request.to_cdn for request in hub.requests] == [False, True]
    head = "HEAD /org/model/resolve/main/model.safetensors 302"
    assert hub.asked() == [head, f"GET /lfs/{SHA256}?signature=0 200"]
    folder = client.cache / "models--org--model"
    assert {path.name for path in (folder / "blobs").iterdir()} == {SHA1, SHA256}
    assert (folder / "refs/main").read_text() == repository.branches["main"]

    assert download(client, "show(hf_hub_download('org/model', 'model.safetensors'))") == [WEIGHTS.hex()]
    assert hub.asked() == [head]
    download(client, "hf_hub_download('org/model', 'model.safetensors', local_files_only=True)")
    assert hub.asked() == []
    download(client, "hf_hub_download('org/model', 'model.safetensors', force_download=True)")
    assert hub.asked() == [head, f"GET /lfs/{SHA256}?signature=0 200"]


def test_a_snapshot_is_the_whole_repository_and_is_scanned(hub, client, repository):
    hub.page_size = 2
    lines = download(
        client, "print(snapshot_download('org/model', max_workers=1)); print(scan_cache_dir().size_on_disk)"
    )
    commit = repository.branches["main"]
    snapshot = client.cache / "models--org--model/snapshots" / commit
    assert lines == [str(snapshot), str(sum(map(len, FILES.values())))]
    assert {path: (snapshot / path).read_bytes() for path in FILES} == FILES
    asked = hub.asked()
    tree = f"GET /api/models/org/model/tree/{commit}?recursive=true&expand=false"
    pages = [f"{tree} 200", f"{tree}&cursor=2 200", f"{tree}&cursor=4 200"]
    assert asked[:4] == ["GET /api/models/org/model/revision/main 200", *pages]
    assert len(asked) == 4 + 2 * len(FILES)
    download(client, "snapshot_download('org/model'); snapshot_download('org/model', local_files_only=True)")
    assert hub.asked() == ["GET /api/models/org/model/revision/main 200"]


def test_a_local_dir_holds_the_files_themselves(hub, client, repository, tmp_path):
    download(client, "snapshot_download('org/model', local_dir=sys.argv[1])", str(tmp_path / "here"))
    assert {path: (tmp_path / "here" / path).read_bytes() for path in FILES} == FILES


def test_revisions_are_branches_tags_and_commits(hub, client, repository):
    old = repository.branches["main"]
    repository.tags["v1"] = old
    new = repository.commit({"config.json": b"new"})
    repository.commit({"config.json": b"other"}, branch="refs/pr/1")
    program = "for revision in sys.argv[1:]: show(hf_hub_download('org/model', 'config.json', revision=revision))"
    lines = download(client, program, "main", "v1", old, new, "refs/pr/1")
    assert lines == [each.hex() for each in (b"new", SMALL, SMALL, b"new", b"other")]
    assert download(client, "fails(hf_hub_download, 'org/model', 'config.json', revision='none')") == [
        "RevisionNotFoundError"
    ]
    assert download(client, "fails(hf_hub_download, 'org/model', 'none')") == ["RemoteEntryNotFoundError"]
    assert (client.cache / "models--org--model/.no_exist" / new / "none").exists()


def test_the_api_tells_of_files_directories_and_refs(hub, client, repository):
    hub.tokens.add("hf_known")
    lines = client.run(
        """
        from huggingface_hub import HfApi
        api = HfApi()
        told = api.model_info("org/model", files_metadata=True)
        print(told.sha, [(each.rfilename, each.size, each.blob_id) for each in told.siblings][:1])
        print(told.siblings[1].lfs.sha256)
        print([(type(each).__name__, each.path) for each in api.list_repo_tree("org/model", expand=True)])
        print([each.path for each in api.get_paths_info("org/model", ["config.json", "sub", "none"])])
        print([(each.name, each.target_commit) for each in api.list_repo_refs("org/model").branches])
        print([each.commit_id for each in api.list_repo_commits("org/model")])
        print(api.file_exists("org/model", "none"), api.whoami("hf_known")["name"])
        """
    )
    commit = repository.branches["main"]
    assert lines == [
        f"{commit} {[('config.json', len(SMALL), SHA1)]}",
        SHA256,
        str([("RepoFile", "config.json"), ("RepoFile", "model.safetensors"), ("RepoFolder", "sub")]),
        str(["config.json", "sub"]),
        str([("main", commit)]),
        str([commit]),
        "False tests",
    ]


def test_redirects_on_the_same_origin_are_followed(hub, client, repository):
    hub.redirects_small_files = True
    repository.other_ids.add("former")
    assert download(client, "show(hf_hub_download('former', 'config.json'))") == [SMALL.hex()]
    assert [line.rpartition(" ")[2] for line in hub.asked()] == ["307", "307", "200", "200"]
    assert download(client, "show(hf_hub_download('Org/Model', 'model.safetensors'))") == [WEIGHTS.hex()]


def test_gated_and_private_repositories_are_for_their_readers(hub, client):
    hub.repositories = {
        "org/gated": Repository.of(FILES, gated=True),
        "org/private": Repository.of(FILES, private=True),
    }
    for repository in hub.repositories.values():
        repository.readers.add("hf_reader")
    hub.tokens.add("hf_other")
    program = "for name in ('gated', 'private', 'none'): fails(hf_hub_download, f'org/{name}', 'model.safetensors')"
    refused = ["GatedRepoError", "RepositoryNotFoundError", "RepositoryNotFoundError"]
    assert download(client, program) == refused
    assert [request.status for request in hub.requests] == [401, 401, 401]
    hub.asked()
    assert download(client, program, HF_TOKEN="hf_other") == refused
    assert [request.status for request in hub.requests] == [403, 404, 404]
    hub.asked()
    assert download(client, program, HF_TOKEN="hf_reader") == ["no error", "no error", "RepositoryNotFoundError"]
    assert [request.token for request in hub.requests if request.to_cdn] == [None, None]


def test_too_many_requests_are_made_again_when_the_hub_says(hub, client, repository):
    hub.plan = first(2, Fault(status=429, retry_after=7), "GET /lfs/")
    assert download(client, "hf_hub_download('org/model', 'model.safetensors'); print(PAUSES)") == ["[8.0, 8.0]"]
    assert [request.status for request in hub.requests] == [302, 429, 429, 200]


def test_a_body_that_ends_early_is_resumed_where_it_ended(hub, client, repository):
    hub.plan = first(1, Fault(close_after=5000), "GET /lfs/")
    program = "constants.DOWNLOAD_CHUNK_SIZE = 1000; show(hf_hub_download('org/model', 'model.safetensors'))"
    assert download(client, program) == [WEIGHTS.hex()]
    assert [request.headers.get("range") for request in hub.requests] == [None, None, "bytes=5000-"]
    assert [request.sent for request in hub.requests] == [0, 5000, len(WEIGHTS) - 5000]


def test_garbage_and_silence_are_errors(hub, client, repository):
    hub.plan = first(1, Fault(garbage=b"<html>a login page"))
    assert download(client, "fails(hf_hub_download, 'org/model', 'config.json')") == ["LocalEntryNotFoundError"]
    hub.plan = first(1, Fault(garbage=b"<html>a login page"))
    assert download(client, "fails(snapshot_download, 'org/model')") == ["JSONDecodeError"]
    hub.plan = first(1, Fault(drops=True))
    hub.asked()
    assert download(client, "fails(hf_hub_download, 'org/model', 'config.json')") == ["RemoteProtocolError"]
    assert hub.asked() == ["HEAD /org/model/resolve/main/config.json 0"]


def test_what_is_cached_is_found_while_no_hub_is_reached(hub, client, repository):
    download(client, "hf_hub_download('org/model', 'config.json')")
    hub.stop()
    assert download(client, "show(hf_hub_download('org/model', 'config.json'))") == [SMALL.hex()]
    assert download(client, "fails(hf_hub_download, 'org/model', 'model.safetensors')") == ["LocalEntryNotFoundError"]
    hub.start()
    assert download(client, "show(hf_hub_download('org/model', 'model.safetensors'))") == [WEIGHTS.hex()]
