"""What huggingface_hub is told of a mirror, and of a hub beside it, in diskless.cache()."""

from __future__ import annotations

import pytest

from diskless import native_api as native
from tests.caches.client import Client
from tests.caches.hub_server import Fault, HubServer, first
from tests.caches.ram import DOWNLOADS, Ram, on_disk
from tests.caches.repository import Repository

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="needs the Tree"),
    pytest.mark.timeout(120),
]


def test_clients_of_the_users_own(ram: Ram, hub: HubServer):
    """Before: it is asked for what the mirror lacks, as it is. Meanwhile: it stays when the cache closes."""
    hub.repositories["org/r"] = Repository.of({"a.json": b"1"})
    ram.bucket.put("hub/org/name/config.json", b"{}")
    program = f"""
import diskless
from huggingface_hub import get_session, hf_hub_download, set_client_factory
httpx = __import__(type(get_session()).__module__.partition(".")[0])
class Own(httpx.Client):
    pass
set_client_factory(lambda: Own(headers={{"X-Own": "before"}}))
cache = diskless.cache({ram.mirror!r})
print(open(hf_hub_download("org/name", "config.json")).read(), open(hf_hub_download("org/r", "a.json")).read())
set_client_factory(lambda: Own(headers={{"X-Own": "meanwhile"}}))
get_session()
cache.close()
print(get_session().headers["X-Own"])
"""
    assert ram.client.run(program, **ram.env) == ["{} 1", "meanwhile"]
    assert {request.headers.get("x-own") for request in hub.requests} == {"before"}


def test_revisions_by_branch_tag_and_commit(client: Client, ram: Ram, hub: HubServer):
    repository = hub.repositories["org/r"] = Repository.of({"config.json": b'"one"'})
    first = repository.branches["main"]
    repository.commit({"config.json": b'"two"'}, tag="v2")
    repository.commit({"config.json": b'"three"'}, branch="dev")
    program = f"""
from huggingface_hub import hf_hub_download
for revision in ("main", "v2", "dev", "{first}", None):
    path = hf_hub_download("org/r", "config.json", revision=revision)
    print(relative(path), open(path).read())
print(json.dumps(tree()))
"""
    expected = on_disk(client, program)
    ram.sync(client.cache)
    repository.commit({"config.json": b'"four"'})
    hub.stop()
    assert ram.run(program) == expected


def test_what_the_mirror_lacks_comes_from_the_hub_at_the_same_commit(client: Client, ram: Ram, hub: HubServer):
    repository = hub.repositories["org/r"] = Repository.of({"a.json": b"1", "b.json": b"2"})
    hub.repositories["org/new"] = Repository.of({"c.json": b"3"})
    on_disk(client, "from huggingface_hub import hf_hub_download as get\nget('org/r', 'a.json')")
    ram.sync(client.cache)
    hub.repositories["org/named"] = named = Repository.of({"a.json": b"1"})
    ram.bucket.put("hub/models--org--named/refs/main", named.branches["main"].encode())
    named.commit({"a.json": b"later"})
    repository.commit({"a.json": b"later", "b.json": b"later"})
    program = """
from huggingface_hub import HfApi, hf_hub_download as get, snapshot_download
print(HfApi().model_info("org/named").sha)
for name, file in (("org/r", "a.json"), ("org/r", "b.json"), ("org/new", "c.json")):
    print(open(get(name, file)).read())
print(sorted(os.listdir(snapshot_download("org/r"))))
"""
    assert ram.run(program) == [next(iter(named.commits)), "1", "2", "3", "['a.json', 'b.json']"]


def test_a_listing_that_may_lack_files_is_not_kept(client: Client, ram: Ram, hub: HubServer):
    """Neither for later calls, nor in the mirror, nor for the disk."""
    hub.repositories["org/r"] = Repository.of({"a.json": b"1", "b.json": b"2"})
    on_disk(client, "from huggingface_hub import hf_hub_download as get\nget('org/r', 'a.json')")
    ram.sync(client.cache)
    program = f"""
import diskless, os
from huggingface_hub import hf_hub_download, snapshot_download
with diskless.cache({ram.mirror!r}, write_back=True):
    print(os.listdir(snapshot_download("org/r")))
    print(open(hf_hub_download("org/r", "b.json")).read())
print(sorted(os.listdir(snapshot_download("org/r"))))
"""
    hub.plan = first(1, Fault(status=500), "/tree/")
    assert client.run(program, **ram.env) == ["['a.json']", "2", "['a.json', 'b.json']"]
    keys = [key for key in ram.bucket.keys() if key.endswith(".json")]  # noqa: SIM118
    assert [key.rpartition("/")[2] for key in keys] == ["a.json", "b.json"]


def test_trees_are_those_of_the_hub(client: Client, ram: Ram, hub: HubServer):
    files = {"README.md": b"#", "a/one.txt": b"1", "a/b/two.bin": b"22", "c/three.txt": b"333"}
    hub.repositories["org/r"] = Repository.of(files)
    program = """
from huggingface_hub import HfApi, HfFileSystem
api = HfApi()
for path in (None, "a", "a/b"):
    for recursive in (False, True):
        found = api.list_repo_tree("org/r", path, recursive=recursive)
        print(sorted((type(each).__name__, each.path) for each in found))
print(sorted(each.path for each in api.get_paths_info("org/r", ["a", "a/one.txt", "nothing"])))
print(sorted(each.rfilename for each in api.model_info("org/r").siblings), api.file_exists("org/r", "a/one.txt"))
fs = HfFileSystem()
print(sorted(fs.ls("org/r", detail=False)), sorted(fs.find("org/r/a")), fs.isdir("org/r/a"))
print(fs.cat("org/r/a/b/two.bin"))
"""
    expected = on_disk(client, program)
    for path, data in files.items():
        ram.bucket.put(f"hub/org/r/{path}", data)
    hub.stop()
    assert ram.run(program) == expected


def test_refs_and_ranges_are_those_of_the_hub(client: Client, ram: Ram, hub: HubServer):
    repository = hub.repositories["org/r"] = Repository.of({"empty.txt": b"", "text.txt": b"0123456789"})
    repository.commit({"text.txt": b"proposed"}, branch="refs/pr/1")
    program = """
from huggingface_hub import HfApi, get_session, hf_hub_download, hf_hub_url, snapshot_download
snapshot_download("org/r")
print(open(hf_hub_download("org/r", "text.txt", revision="refs/pr/1")).read())
print(HfApi().list_repo_refs("org/r", include_pull_requests=True))
for file in ("text.txt", "empty.txt"):
    for asked in ("0-", "2-4", "-3", "-30", "5-50", "10-", "x"):
        told = get_session().get(hf_hub_url("org/r", file), headers={"Range": f"bytes={asked}"})
        print(told.status_code, told.text, told.headers.get("Content-Range"), told.headers.get("Content-Length"))
"""
    expected = on_disk(client, program)
    ram.sync(client.cache)
    hub.stop()
    assert ram.run(program) == expected


def test_checksums_are_those_of_the_hub(client: Client, ram: Ram, hub: HubServer):
    hub.repositories["org/r"] = Repository.of({"a/config.json": b"{}", "weights.bin": b"weights"})
    program = """
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url, snapshot_download
api, path = HfApi(), snapshot_download("org/r")
for files_metadata in (False, True):
    print(api.model_info("org/r", files_metadata=files_metadata).siblings)
print([each for each in api.list_repo_tree("org/r", recursive=True) if each.path != "a"])
for file in ("a/config.json", "weights.bin"):
    print(get_hf_file_metadata(hf_hub_url("org/r", file)).etag)
print({**vars(api.verify_repo_checksums("org/r")), "verified_path": relative(path)})
"""
    expected = on_disk(client, program)
    ram.sync(client.cache)
    hub.stop()
    listings = [key for key in ram.bucket.keys() if "/trees/" in key]  # noqa: SIM118
    blobs = [key for key in ram.bucket.keys() if "/blobs/" in key]  # noqa: SIM118
    # With both, with the listing alone, as write_back and `diskless mirror` leave it, and with the blobs alone.
    kept = {key: ram.bucket.get(key) for key in listings + blobs}
    for removed in ([], blobs, listings):
        for key, data in kept.items():
            ram.bucket.put(key, data)
        for key in removed:
            ram.bucket.delete(key)
        assert ram.run(program) == expected, removed
    ram.bucket.put("hub/org/plain/config.json", b"{}")
    program = """
from huggingface_hub import HfApi
try:
    HfApi().verify_repo_checksums("org/plain")
except Exception as error:
    print(str(error).replace("\\n", " "))
"""
    assert "so nothing says what its checksums are to be" in ram.run(program)[0]


def test_a_card_says_what_a_model_is_for(ram: Ram, away: None):
    """A pipeline asks for it that is made without a task, and a tokenizer whether Mistral's is its base."""
    told = b"pipeline_tag: fill-mask\nlicense: mit\nbase_model: [mistralai/x]\ntags: [a]\ndate: 2026-01-02\n"
    for name, text in (
        ("card.v1.5", b"---\n" + told + b"---\n# X\n"),
        ("garbage", b"---\n: [\n---\n"),
        ("plain", b"# only text"),
    ):
        ram.bucket.put(f"hub/org/{name}/README.md", text)
    program = """
from huggingface_hub import model_info
for name in ("card.v1.5", "garbage", "plain"):
    told = model_info("org/" + name)
    print(told.pipeline_tag, told.tags, told.card_data and told.card_data.date)
"""
    tags = ["fill-mask", "a", "license:mit", "base_model:mistralai/x"]
    assert ram.run(program) == [f"fill-mask {tags} 2026-01-02", "None [] None", "None [] None"]


def test_gated_and_private_repositories(client: Client, ram: Ram, hub: HubServer):
    hub.repositories["org/gated"] = Repository.of({"config.json": b"1"}, gated=True)
    hub.repositories["org/private"] = Repository.of({"config.json": b"2"}, private=True)
    for repository in hub.repositories.values():
        repository.readers.add("secret-token")
    ram.bucket.put("hub/org/other/config.json", b"{}")
    program = """
from huggingface_hub import hf_hub_download
for name in ("org/gated", "org/private"):
    try:
        print(open(hf_hub_download(name, "config.json")).read())
    except Exception as error:
        print(type(error).__name__)
"""
    assert ram.run(program) == on_disk(client, program) == ["GatedRepoError", "RepositoryNotFoundError"]
    assert ram.run(program, "token='secret-token'") == ["1", "2"]
    assert not any("secret" in line for line in ram.run("print(cache)", "token='secret-token'"))


def test_local_files_only_says_what_the_mirror_lacks(ram: Ram, hub: HubServer, away: None):
    ram.bucket.put("hub/org/name/config.json", b"{}")
    program = """
import traceback
from huggingface_hub import hf_hub_download, snapshot_download
for call in (
    lambda: hf_hub_download("org/name", "weights.bin"),
    lambda: hf_hub_download("org/name", "config.json", revision="v9"),
    lambda: hf_hub_download("org/unknown", "config.json"),
    lambda: snapshot_download("org/unknown"),
    lambda: hf_hub_download("Org/Name", "config.json"),
    lambda: hf_hub_download("org/name", "../../../etc/passwd"),
    lambda: hf_hub_download("org/name", "größe.bin"),
):
    try:
        print(call())
    except Exception:
        print(traceback.format_exc().replace("\\n", " "))
"""
    lines = ram.run(program, "local_files_only=True")
    assert f"{ram.mirror}/org/name/ has no weights.bin at revision main" in lines[0] and "EntryNotFound" in lines[0]
    assert "has no revision v9 (it has main); with local_files_only=True" in lines[1]
    for line in lines[2:5]:
        assert "local_files_only=True the hub is not asked" in line, line
    assert "passwd" in lines[5] and "root:" not in lines[5]
    assert f"{ram.mirror}/org/name/ has no größe.bin at revision main" in lines[6]


def test_a_broken_mirror(client: Client, ram: Ram, bert: Repository, hub: HubServer):
    on_disk(client, DOWNLOADS)
    (commit,) = bert.commits
    ram.sync(client.cache)
    folder = "hub/models--org--bert"
    weights = f"{folder}/snapshots/{commit}/model.safetensors"
    for key in sorted(ram.bucket.keys()):
        if key == weights or ("/blobs/" in key and ram.bucket.get(key) == ram.bucket.get(weights)):
            ram.bucket.delete(key)
    ram.bucket.put(f"{folder}/refs/old", b"7" * 40)
    hub.stop()
    program = """
from huggingface_hub import hf_hub_download
for file, revision in (("model.safetensors", "main"), ("config.json", "old"), ("config.json", "main")):
    try:
        print(os.path.basename(hf_hub_download("org/bert", file, revision=revision)))
    except Exception as error:
        print(str(error).replace("\\n", " "))
"""
    lines = ram.run(program)
    assert f"has no model.safetensors at revision main (commit {commit}), which its listing" in lines[0]
    assert f"refs/old names the commit {'7' * 40}, of which the mirror has no snapshot" in lines[1]
    assert lines[2] == "config.json"


def test_a_hub_that_fails_beside_a_mirror(client: Client, ram: Ram, bert: Repository, hub: HubServer):
    ram.bucket.put("hub/org/name/config.json", b"{}")
    program = "from huggingface_hub import hf_hub_download\nprint(relative(hf_hub_download('org/bert', 'config.json')))"
    expected = on_disk(client, program)
    for fault in (Fault(status=429, retry_after=1), Fault(close_after=10), Fault(drops=True)):
        left = [fault]
        hub.plan = lambda request, left=left: left.pop() if left and request.method == "GET" else None
        assert ram.run(program) == expected


def test_garbage_from_the_hub_is_the_error_that_it_is_on_a_disk(
    client: Client, ram: Ram, bert: Repository, hub: HubServer
):
    ram.bucket.put("hub/org/name/config.json", b"{}")
    hub.plan = lambda request: Fault(garbage=b"<html>")
    program = """
from huggingface_hub import HfApi, hf_hub_download
for call in (lambda: hf_hub_download("org/bert", "config.json"), lambda: HfApi().list_repo_files("org/bert")):
    try:
        print(call())
    except Exception as error:
        print(type(error).__name__)
print(open(hf_hub_download("org/name", "config.json")).read())
"""
    *errors, there = ram.run(program)
    assert there == "{}" and errors == on_disk(client, program.rpartition("print(")[0])
