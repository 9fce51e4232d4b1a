"""huggingface_hub in diskless.cache(): its own behaviour on a disk is what RAM is compared with."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from diskless import native_api as native
from tests.caches import models
from tests.caches.client import Client
from tests.caches.hub_server import HubServer
from tests.caches.ram import DOWNLOADS, Ram, on_disk
from tests.caches.repository import Repository

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="needs the Tree"),
    pytest.mark.timeout(120),
]


def test_the_same_calls_leave_the_same_tree_without_a_mirror(client: Client, ram: Ram, bert: Repository):
    expected = on_disk(client, DOWNLOADS)
    assert ram.run(DOWNLOADS, mirror=False) == expected
    assert len(json.loads(expected[-1])) > 10


def test_a_copied_cache_is_the_same_tree_and_the_hub_is_not_asked(
    client: Client, ram: Ram, bert: Repository, request: pytest.FixtureRequest
):
    expected = on_disk(client, DOWNLOADS)
    ram.sync(client.cache)
    request.getfixturevalue("away")
    assert ram.run(DOWNLOADS) == expected


@pytest.mark.parametrize("imported", ["", "import huggingface_hub.constants, torch.hub"])
def test_directories_are_where_the_libraries_take_them_for(imported: str, ram: Ram, tmp_path: Path):
    ram.bucket.put("hub/org/name/config.json", b"{}")
    named = {"HF_HOME": "$HOME/hf", "HF_HUB_CACHE": "hub", "TORCH_HOME": "torch"}
    program = f"""
import os
os.chdir({str(tmp_path)!r})
{imported}
import diskless
with diskless.cache({ram.mirror!r}, only=["huggingface", "torch"]) as cache:
    print(cache.directories)
    import huggingface_hub
    print(huggingface_hub.hf_hub_download("org/name", "config.json").startswith(cache.directories[0]))
"""
    beside = [f"{ram.client.home}/hf/{name}" for name in ("xet", "assets", "modules", "datasets")]
    shown = [f"{tmp_path}/hub", *beside, f"{tmp_path}/torch/hub"]
    assert ram.client.run(program, **named, **ram.env) == [str(shown), "True"]


def test_directories_are_those_of_the_environment_that_the_library_read(ram: Ram):
    program = """
import os
import huggingface_hub.constants
os.environ["HF_HOME"] = "/elsewhere"
import diskless
with diskless.cache(only="huggingface") as cache:
    print([path for path in cache.directories if path.startswith("/elsewhere")])
"""
    assert ram.client.run(program, HF_ASSETS_CACHE="", **ram.env) == ["[]"]


def test_write_back_makes_the_next_start_need_no_hub(client: Client, ram: Ram, bert: Repository, hub: HubServer):
    ram.bucket.put("hub/org/other/config.json", b"{}")
    expected = on_disk(client, DOWNLOADS)
    assert ram.run(DOWNLOADS, "write_back=True")[:-1] == expected[:-1]
    hub.stop()
    again = ram.run(DOWNLOADS, "local_files_only=True")
    assert again[:-1] == expected[:-1]
    bytes_of = [key for key in sorted(ram.bucket.keys()) if "/blobs/" in key]
    assert bytes_of == [], "each file is there once"


def test_write_back_takes_all_files_of_a_snapshot(ram: Ram, hub: HubServer):
    """Also those whose names others give to what is not complete yet."""
    hub.repositories["org/r"] = Repository.of({"poetry.lock": b"1", "weights.part": b"2"})
    ram.bucket.put("hub/org/other/config.json", b"{}")
    program = "import huggingface_hub\nprint(sorted(os.listdir(huggingface_hub.snapshot_download('org/r'))))"
    expected = ["['poetry.lock', 'weights.part']"]
    assert ram.run(program, "write_back=True") == expected
    hub.stop()
    assert ram.run(program, "local_files_only=True") == expected


def test_write_back_leaves_plain_files_alone(ram: Ram, hub: HubServer):
    """A copied cache beside them would hide them at the next start."""
    ram.env["HF_ENDPOINT"] = hub.endpoint.replace("http://127.0.0.1", "HTTP://LocalHost") + "/"
    repository = hub.repositories["org/r"] = Repository.of({"config.json": b"1"})
    repository.commit({"config.json": b"2"}, branch="dev")
    ram.bucket.put("hub/org/r/config.json", b"0")
    program = """
from huggingface_hub import hf_hub_download
for revision in ("main", "dev"):
    print(open(hf_hub_download("org/r", "config.json", revision=revision)).read())
"""
    keys = ram.bucket.keys()
    assert ram.run(program, "write_back=True") == ["0", "2"]
    assert ram.bucket.keys() == keys


def test_local_dir_and_force_download(client: Client, ram: Ram, bert: Repository, hub: HubServer, tmp_path: Path):
    on_disk(client, DOWNLOADS)
    ram.sync(client.cache)
    asked = len(hub.requests)
    program = f"""
from huggingface_hub import hf_hub_download, snapshot_download
print(open(hf_hub_download("org/bert", "config.json", local_dir={str(tmp_path / "local")!r})).read())
print(sorted(os.listdir(snapshot_download("org/bert", local_dir={str(tmp_path / "all")!r}))))
print(len(open(hf_hub_download("org/bert", "model.safetensors", local_dir={str(tmp_path / "local")!r}), "rb").read()))
"""
    shown, names, size = ram.run(program)[0], *ram.run("print()\n" + program)[-2:]
    files = models.sentence_bert()
    assert shown.startswith("{") and int(size) == len(files["model.safetensors"])
    assert set(json.loads(names.replace("'", '"'))) == {path.split("/")[0] for path in files} | {".cache"}
    assert len(hub.requests) == asked
    forced = """
from huggingface_hub import hf_hub_download
path = hf_hub_download("org/bert", "config.json", force_download=True)
print(relative(path), open(path).read())
"""
    bert.commit({**files, "config.json": b'{"new": 1}'})
    assert ram.run(forced)[0].endswith('config.json {"new": 1}')
    assert len(hub.requests) > asked


def test_force_download_replaces_a_damaged_file(client: Client, ram: Ram, hub: HubServer):
    """Also one whose blob has a name that is made up, as where a mirror has snapshots and no blobs."""
    hub.repositories["org/r"] = Repository.of({"config.json": b"{}", "weights.bin": b"weights"})
    on_disk(client, "from huggingface_hub import snapshot_download\nsnapshot_download('org/r')")
    ram.sync(client.cache)
    for key in sorted(ram.bucket.keys()):
        if "/blobs/" in key:
            ram.bucket.delete(key)
        elif key.endswith("weights.bin"):
            ram.bucket.put(key, b"strange")
    program = """
from huggingface_hub import hf_hub_download
for force in (False, True, False):
    print(open(hf_hub_download("org/r", "weights.bin", force_download=force)).read())
"""
    assert ram.run(program, "write_back=True") == ["strange", "weights", "weights"]
    assert {ram.bucket.get(key) for key in ram.bucket.keys() if "weights" in key} == {b"weights"}  # noqa: SIM118


def test_scanning_and_removing(client: Client, ram: Ram, bert: Repository, hub: HubServer):
    program = """
from huggingface_hub import scan_cache_dir, snapshot_download
snapshot_download("org/bert")
info = scan_cache_dir()
(repo,) = info.repos
print(info.size_on_disk, repo.repo_id, repo.nb_files, sorted(repo.refs), len(info.warnings))
info.delete_revisions(*[each.commit_hash for each in repo.revisions]).execute()
print(json.dumps(tree()))
print(sorted(os.listdir(snapshot_download("org/bert"))))
"""
    expected = on_disk(client, program)
    ram.sync(client.cache)
    hub.stop()
    assert ram.run(program) == expected


def test_two_threads_and_two_children_download_one_file(ram: Ram, hub: HubServer):
    data = os.urandom(3_000_000)
    hub.repositories["org/new"] = Repository.of({"weights.bin": data})
    program = """
import hashlib, threading
from huggingface_hub import hf_hub_download
def read():
    return hashlib.sha256(open(hf_hub_download("org/new", "weights.bin"), "rb").read()).hexdigest()
children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        print(read(), flush=True)
        os._exit(0)
    children.append(pid)
threads = [threading.Thread(target=lambda: print(read(), flush=True)) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""
    *hashes, ended = ram.run(program, mirror=False)
    assert hashes == [hashlib.sha256(data).hexdigest()] * 4 and ended == "[0, 0]"


def test_two_threads_and_two_children_load_one_model(client: Client, ram: Ram, bert: Repository, hub: HubServer):
    on_disk(client, DOWNLOADS)
    ram.sync(client.cache)
    hub.stop()
    program = """
import threading
from huggingface_hub import snapshot_download
def read():
    return len(open(snapshot_download("org/bert") + "/model.safetensors", "rb").read())
sizes = []
threads = [threading.Thread(target=lambda: sizes.append(read())) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(set(sizes)), len(sizes))
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if read() == sizes[0] else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert ram.run(program) == ["1 2", "0", "0"]


def test_a_cache_is_closed_while_threads_ask(client: Client, ram: Ram, hub: HubServer):
    """What they get is right or an error, and the next cache serves them again."""
    for number in range(40):
        ram.bucket.put(f"hub/org/name/{number}.bin", bytes([number]) * 300_000)
    hub.stop()
    program = f"""
import os, threading
import diskless
from huggingface_hub import hf_hub_download
wrong, errors = [], []
def ask(first):
    try:
        for number in range(first, 40, 3):
            with open(hf_hub_download("org/name", f"{{number}}.bin"), "rb") as file:
                begun.set()
                if file.read() != bytes([number]) * 300_000:
                    wrong.append(number)
    except Exception as error:
        errors.append(error)
def open_and_close():
    threads = [threading.Thread(target=ask, args=(first,)) for first in range(3)]
    with diskless.cache({ram.mirror!r}):
        for thread in threads:
            thread.start()
        begun.wait()
        if not leave:
            for thread in threads:
                thread.join()
    for thread in threads:
        thread.join()
for leave in (True, True, True, False):
    begun = threading.Event()
    open_and_close()
    print(wrong, leave or errors[before:])
    before = len(errors)
"""
    assert ram.client.run(program, **ram.env) == ["[] True"] * 3 + ["[] []"]


def test_prefetch_and_pin(ram: Ram, away: None):
    for path, data in {"config.json": b"{}", "model.safetensors": b"w" * 1_000_000, "a/b": b"x"}.items():
        ram.bucket.put(f"hub/org/name/{path}", data)
    program = """
import diskless, time
def here():
    return sum(file.held_bytes > 0 for file in cache.ls() if file.url)
if wanted:
    while here() < 3:
        time.sleep(0)
print(here())
for ids, call in (("org/nam", cache.prefetch), ("org/name@v9", cache.pin), ("org/name@..", cache.pin)):
    try:
        call(ids)
    except diskless.NotFound as error:
        print(error)
cache.pin(["org/name"])
print(here())
"""
    for options in ("prefetch=['org/name']", "pin=['org/name@main']"):
        lines = ram.run("wanted = True\n" + program, options)
        assert lines[0] == lines[-1] == "3"
    lines = ram.run("wanted = False\n" + program)
    assert lines[0] == "0" and lines[-1] == "3"
    assert lines[1] == f"{ram.mirror} has no repository org/nam (it has org/name)"
    lacks = f"{ram.mirror}/org/name/ has no snapshot of the revision"
    assert lines[2:4] == [f"{lacks} {name} (it has main)" for name in ("v9", "..")]


def test_a_budget_too_small_for_what_is_to_be_kept(ram: Ram, away: None):
    ram.bucket.put("hub/org/name/model.safetensors", b"w" * 3_000_000)
    ram.bucket.put("hub/org/name/config.json", b"{}")
    program = f"""
try:
    diskless.cache({ram.mirror!r}, budget="1MiB", pin=["org/name"])
except diskless.BudgetExceeded as error:
    print(error)
"""
    client_lines = ram.client.run("import diskless\n" + program, **ram.env)
    assert "org/name takes 2.9 MiB, 1.9 MiB more than there is room for" in client_lines[0]
    assert "org/name/model.safetensors (2.9 MiB)" in client_lines[0]
