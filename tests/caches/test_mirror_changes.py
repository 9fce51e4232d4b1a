"""A mirror that is half there, or that others write while a cache of it is open; and a hub that is away."""

from __future__ import annotations

import pytest

from tests.caches.client import Client
from tests.caches.hub_server import HubServer
from tests.caches.ram import Ram, on_disk
from tests.caches.repository import Repository

SNAPSHOT = "from huggingface_hub import snapshot_download\nsnapshot_download('org/r')"
ONE = "from huggingface_hub import hf_hub_download\nprint(open(hf_hub_download('org/r', 'a.json')).read())"


@pytest.fixture
def repository(hub: HubServer) -> Repository:
    hub.repositories["org/r"] = repository = Repository.of({"a.json": b"1", "b.json": b"2"})
    return repository


def test_a_newer_commit_in_the_mirror_changes_nothing_for_who_has_it_open(
    client: Client, ram: Ram, repository: Repository, hub: HubServer
):
    on_disk(client, SNAPSHOT)
    ram.sync(client.cache)
    program = f"""
import boto3, json
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
for key, body in (("snapshots/{"9" * 40}/a.json", b"newer"), ("refs/main", b"9" * 40)):
    boto3.client("s3").put_object(Bucket={ram.bucket.name!r}, Key=f"hub/models--org--r/{{key}}", Body=body)
print(open(hf_hub_download("org/r", "a.json")).read(), sorted(os.listdir(snapshot_download("org/r"))))
print(len(scan_cache_dir().warnings))
"""
    asked = len(hub.requests)
    assert ram.run(program) == ["1 ['a.json', 'b.json']", "0"]
    assert len(hub.requests) == asked
    assert ram.run(ONE, "local_files_only=True") == ["newer"]


@pytest.mark.parametrize("damaged", [b"", b"../..", b"."])
def test_a_damaged_name_of_a_revision_is_the_hubs_to_say(
    client: Client, ram: Ram, repository: Repository, hub: HubServer, damaged: bytes
):
    on_disk(client, SNAPSHOT)
    ram.sync(client.cache)
    ram.bucket.put("hub/models--org--r/refs/main", damaged)
    assert ram.run(ONE) == ["1"]
    hub.stop()
    program = f"""
try:
    {ONE.replace(chr(10), "; ")}
except Exception as error:
    print(error)
"""
    assert "models--org--r/refs/main cannot be read, or names no commit" in " ".join(ram.run(program))


@pytest.mark.parametrize("told_by_etag", [True, False])
def test_a_revision_of_which_there_is_less_than_before_is_not_written_back(
    client: Client, ram: Ram, repository: Repository, told_by_etag: bool
):
    on_disk(client, SNAPSHOT)
    ram.sync(client.cache)
    ref = "hub/models--org--r/refs/main"
    before = ram.bucket.get(ref)
    if not told_by_etag:
        ram.bucket.put_in_parts(ref, before)
    repository.commit({"a.json": b"newer", "b.json": b"2"})
    assert ram.run(ONE.replace("'a.json'", "'a.json', force_download=True"), "write_back=True") == ["newer"]
    assert ram.bucket.get(ref) == before
    assert ram.run(ONE, "local_files_only=True") == ["1"]
    if not told_by_etag:
        return
    whole = SNAPSHOT.replace("'org/r'", "'org/r', force_download=True")
    ram.run(f"{whole}\n{ONE}", "write_back=True")
    assert ram.bucket.get(ref) == repository.branches["main"].encode()
    assert ram.run(ONE, "local_files_only=True") == ["newer"]


def test_a_repository_that_the_mirror_lacks_is_told(ram: Ram, hub: HubServer):
    """huggingface_hub speaks of the connection only."""
    ram.bucket.put("hub/org/name/config.json", b"{}")
    hub.stop()
    program = """
import logging, io
said = io.StringIO()
logging.getLogger("diskless").addHandler(logging.StreamHandler(said))
from huggingface_hub import hf_hub_download
for _ in range(2):
    try:
        hf_hub_download("org/nam", "config.json")
    except Exception as error:
        print(type(error).__name__)
print(said.getvalue())
"""
    expected = ["LocalEntryNotFoundError"] * 2 + [f"{ram.mirror} has no repository org/nam (it has org/name)", ""]
    for options in ("", "local_files_only=True"):
        assert ram.run(program, options) == expected


def test_what_names_the_client_is_not_asked_for(client: Client, ram: Ram, repository: Repository, hub: HubServer):
    """huggingface_hub would wait three seconds for it where the hub does not answer, and keep it on the disk."""
    on_disk(client, SNAPSHOT)
    ram.sync(client.cache)
    ram.env["HF_HUB_DISABLE_TELEMETRY"] = "0"
    asked = len(hub.requests)
    assert ram.run(ONE) == ["1"] and len(hub.requests) == asked


def test_what_a_mirror_never_has_is_asked_of_the_hub_and_not_waited_for_long(
    client: Client, ram: Ram, repository: Repository, hub: HubServer
):
    on_disk(client, SNAPSHOT)
    ram.sync(client.cache)
    ram.bucket.put("hub/r/config.json", b"{}")
    hub.stop()
    program = """
from huggingface_hub import HfApi
for name in ("org/r", "r"):
    try:
        HfApi().list_repo_commits(name)
    except Exception as error:
        print(str(error).replace("\\n", " "))
print(len(PAUSES))
"""
    first, second, pauses = ram.run(program)
    assert "the hub could not be asked" in first and "could not be reached a moment ago" in second and pauses == "0"


@pytest.mark.parametrize("name", ["tree", "resolve", "revision"])
def test_a_repository_that_is_called_as_a_part_of_a_url(client: Client, ram: Ram, hub: HubServer, name: str):
    hub.repositories[f"org/{name}"] = repository = Repository.of({"a.json": b"1", "b.json": b"2"})
    program = ONE.replace("org/r", f"org/{name}")
    on_disk(client, program)
    ram.sync(client.cache)
    repository.commit({"b.json": b"later"})
    assert ram.run(program.replace("a.json", "b.json")) == ["2"]
