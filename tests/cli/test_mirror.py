"""`diskless mirror`: fills a mirror that serves the libraries, goes on where it was interrupted, and checks it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.caches import models
from tests.caches.client import WITHOUT_PAUSES, Client
from tests.caches.conftest import client, hub  # noqa: F401  # fixtures
from tests.caches.hub_server import Fault, HubServer, first
from tests.caches.repository import Repository

pytest.importorskip("huggingface_hub")

FILES = {
    "config.json": b"{}",
    "model.safetensors": os.urandom(9 << 20),  # in two parts
    "sub/vocab.txt": b"a\nb\n",
    "weights.bin": b"weights",
}
FOLDER = "models--org--name"
READ = """
import sys, diskless
from huggingface_hub import hf_hub_download, snapshot_download
with diskless.cache(sys.argv[1]):
    path = snapshot_download("org/name")
    print(open(path + "/sub/vocab.txt").read().split())
    print(len(open(hf_hub_download("org/name", "model.safetensors"), "rb").read()))
"""


class Commands:
    """Runs `diskless` as a user of the hub and of the bucket."""

    def __init__(self, client: Client, bucket) -> None:  # noqa: F811
        self.client = client
        self.bucket = bucket
        self.url = f"{bucket.url}/hub"
        client.env |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        code = WITHOUT_PAUSES + "import sys; from diskless.cli import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", code, "mirror", *arguments],
            env=self.client.environment(),
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == status, done.stderr
        return done

    def paths(self) -> list[str]:
        return [key.removeprefix(f"hub/{FOLDER}/") for key in self.bucket.keys()]  # noqa: SIM118


@pytest.fixture
def commands(s3_env, bucket, client) -> Commands:  # noqa: F811
    return Commands(client, bucket)


@pytest.fixture
def commit(hub: HubServer) -> str:  # noqa: F811
    hub.repositories["org/name"] = Repository.of(FILES)
    return hub.repositories["org/name"].branches["main"]


def test_a_mirror_serves_without_the_hub(hub, commands, commit):  # noqa: F811
    said = commands.run("org/name", commands.url).stdout
    assert said.startswith(f"4 files, 9.0 MiB to {commands.url}/{FOLDER} (commit {commit}) in ")
    snapshot = [f"snapshots/{commit}/{path}" for path in sorted(FILES)]
    assert commands.paths() == ["refs/main", *snapshot, f"trees/{commit}.json"]
    assert not (commands.client.home / "hub").exists(), "nothing is on the disk"
    hub.stop()
    assert commands.client.run(READ, commands.url) == ["['a', 'b']", str(9 << 20)]
    assert commands.run("--check", commands.url).stdout.splitlines() == [
        "org/name (main): 4 files, 9.0 MiB, complete",
        "1 repository, all complete",
    ]
    hub.start()


@pytest.mark.slow
def test_a_model_of_transformers_loads_from_it(hub, commands):  # noqa: F811
    pytest.importorskip("transformers")
    hub.repositories["org/bert"] = Repository.of(models.bert())
    commands.run("org/bert", commands.url)
    hub.stop()
    program = """
        import sys, diskless
        from transformers import AutoModel, AutoTokenizer
        with diskless.cache(sys.argv[1]):
            print(AutoModel.from_pretrained("org/bert").config.hidden_size)
            print(AutoTokenizer.from_pretrained("org/bert").tokenize("the ram"))
    """
    assert commands.client.run(program, commands.url) == ["16", "['the', 'ram']"]
    hub.start()


def test_the_listing_is_the_one_that_huggingface_hub_writes(hub, commands, commit):  # noqa: F811
    commands.run("org/name", commands.url)
    commands.client.run("from huggingface_hub import snapshot_download; snapshot_download('org/name')")
    own = (commands.client.cache / FOLDER / "trees" / f"{commit}.json").read_bytes()
    assert json.loads(commands.bucket.get(f"hub/{FOLDER}/trees/{commit}.json")) == json.loads(own)


def test_a_revision_a_dataset_and_patterns(hub, commands):  # noqa: F811
    repository = hub.repositories["datasets/org/data"] = Repository.of({"train.csv": b"1"})
    commit = repository.commit({"train.csv": b"2", "more.csv": b"3"}, branch="v2")
    said = json.loads(commands.run("datasets/org/data@v2", commands.url, "--json", "--allow", "train*").stdout)
    assert said.pop("seconds") > 0
    assert said == {
        "url": f"{commands.url}/datasets--org--data",
        "commit": commit,
        "files": 1,
        "size_bytes": 1,
        "copied_files": 1,
        "copied_bytes": 1,
    }
    assert commands.bucket.get("hub/datasets--org--data/refs/v2").decode() == commit
    hub.repositories["datasets/squad"] = hub.repositories["datasets/org/data"]
    commands.run("datasets/squad", commands.url)
    assert commands.bucket.get("hub/datasets--squad/refs/main").decode() == repository.branches["main"]
    assert json.loads(commands.run("--check", commands.url, "--json").stdout)["complete"] is True


def test_a_copy_that_was_interrupted_goes_on(hub, commands, commit):  # noqa: F811
    commands.run("org/name", commands.url, "--allow", "config.json")
    commands.bucket.delete(f"hub/{FOLDER}/refs/main")
    hub.plan = first(100, Fault(status=500), "GET /lfs/")
    failed = commands.run("org/name", commands.url, status=1)
    # Beside what huggingface_hub says of files that others of its threads had begun.
    said = [line for line in failed.stderr.splitlines() if line.startswith("diskless: ")]
    assert len(said) == 1 and "Traceback" not in failed.stderr
    assert "refs/main" not in commands.paths(), "a half has no name"
    half = commands.run("--check", commands.url, status=1).stdout
    assert f"    snapshots/{commit}/model.safetensors is missing" in half and "1 incomplete" in half
    hub.plan = lambda request: None
    hub.asked()
    said = commands.run("org/name", commands.url).stdout
    assert "config.json" not in " ".join(hub.asked()) and "1 file was there" in said
    commands.run("--check", commands.url)
    assert commands.run("org/name", commands.url).stdout.startswith("0 files, 0 B to ")


def test_what_was_copied_is_not_kept_in_memory(hub, commands, commit):  # noqa: F811
    """Also what came through Xet: the store of the cache has the bytes, and the blob links to them."""
    program = """
        import os, sys, diskless
        from diskless.mirroring import from_hub
        from diskless.mirroring.fetching import Fetching
        fetch, free = Fetching._fetch, Fetching.free
        def fetch_by_xet(self, path):
            local, name = fetch(self, path), self.files[path].etag
            blob, store = os.path.realpath(local), f"{self._directory}/blobs/00"
            os.makedirs(store, exist_ok=True)
            os.rename(blob, f"{store}/{name}")
            os.symlink(f"../../blobs/00/{name}", blob)
            return local
        def free_and_tell(self):
            free(self)
            print(diskless.usage().scratch_bytes < 1 << 20)
        Fetching._fetch, Fetching.free = fetch_by_xet, free_and_tell
        from_hub._MOST_FILES = 2
        from_hub.copy_from_hub("org/name", sys.argv[1], progress=False)
    """
    assert commands.client.run(program, commands.url) == ["True", "True"]
    commands.run("--check", commands.url)


@pytest.mark.parametrize(
    "room_bytes, order", [(1 << 30, "fetch fetch send sent send sent"), (4, " ".join(["fetch send sent"] * 4))]
)
def test_the_next_files_are_fetched_while_some_are_uploaded(hub, commands, commit, room_bytes, order):  # noqa: F811
    """Where there is room for them: else when those have gone."""
    program = f"""
        import sys
        from diskless.mirroring import from_hub
        from diskless.mirroring.bucket import MirrorBucket
        from diskless.mirroring.fetching import Fetching
        send, begin = MirrorBucket.send, Fetching.__init__
        told = []
        def send_and_tell(self, files, show):
            told.append("send")
            send(self, files, show)
            told.append("sent")
        def begin_and_tell(self, *arguments):
            told.append("fetch")
            begin(self, *arguments)
        MirrorBucket.send, Fetching.__init__ = send_and_tell, begin_and_tell
        from_hub._MOST_FILES, from_hub._room_bytes = 2, lambda: {room_bytes}
        copied = []
        from_hub.copy_from_hub("org/name", sys.argv[1], progress=lambda done, total: copied.append((done, total)))
        print(*told)
        dones = [done for done, _ in copied]
        print(dones == sorted(dones), {{total for _, total in copied}} == {{dones[-1]}}, dones[-1])
    """
    size = sum(map(len, FILES.values()))
    assert commands.client.run(program, commands.url) == [order, f"True True {size}"]
    commands.run("--check", commands.url)


def test_what_still_comes_when_a_copy_has_failed_does_not_go_to_the_disk(hub, commands, commit):  # noqa: F811
    program = """
        import sys, threading
        from diskless.mirroring import from_hub
        from diskless.mirroring.fetching import Fetching
        fetch, failed, come, arrived = Fetching._fetch, threading.Event(), threading.Event(), []
        def fetch_late(self, path):
            if path == "config.json":
                raise OSError("no more")
            failed.wait()
            try:
                arrived.append(fetch(self, path).endswith(path))
            finally:
                come.set()
        Fetching._fetch = fetch_late
        try:
            from_hub.copy_from_hub("org/name", sys.argv[1], progress=False)
        except OSError as error:
            print(error)
        failed.set()
        come.wait(30)
        print(arrived[0])
    """
    assert commands.client.run(program, commands.url) == ["no more", "True"]
    assert list(commands.client.home.iterdir()) == []


def test_what_is_there_with_other_bytes_is_replaced(hub, commands, commit):  # noqa: F811
    commands.bucket.put(f"hub/{FOLDER}/snapshots/{commit}/weights.bin", b"strange")  # of the same size
    commands.run("org/name", commands.url)
    assert commands.bucket.get(f"hub/{FOLDER}/snapshots/{commit}/weights.bin") == b"weights"


@pytest.mark.parametrize(("count", "status"), [(1, 0), (9, 1)])
def test_wrong_bytes_from_the_hub(count, status, hub, commands, commit):  # noqa: F811
    sha256 = hashlib.sha256(b"weights").hexdigest()
    hub.plan = first(count, Fault(garbage=b"WEIGHTS"), f"GET /lfs/{sha256}")
    said = commands.run("org/name", commands.url, status=status).stderr
    if status:
        wrong = hashlib.sha256(b"WEIGHTS").hexdigest()
        assert f"weights.bin as the Hub sent it twice has 7 bytes whose SHA-256 is {wrong}" in said
        assert "refs/main" not in commands.paths() and f"snapshots/{commit}/weights.bin" not in commands.paths()
    else:
        assert commands.bucket.get(f"hub/{FOLDER}/snapshots/{commit}/weights.bin") == b"weights"


def test_a_broken_mirror_is_told(hub, commands, commit):  # noqa: F811
    commands.run("org/name", commands.url)
    start = f"hub/{FOLDER}"
    commands.bucket.delete(f"{start}/snapshots/{commit}/sub/vocab.txt")
    commands.bucket.put(f"{start}/snapshots/{commit}/config.json", b"{...}")
    commands.bucket.put(f"{start}/refs/gone", b"0" * 40)
    commands.bucket.put(f"hub/models--org--begun/blobs/{'0' * 40}", b"{}")  # `aws s3 sync` goes by the alphabet
    told = json.loads(commands.run("--check", commands.url, "--json", status=1).stdout)
    begun, repository = told["repositories"]
    assert begun["problems"] == ["there is no snapshot"]
    assert not told["complete"] and not repository["complete"]
    assert sorted(repository["problems"]) == [
        f"refs/gone names the commit {'0' * 40}, which has no snapshot",
        f"snapshots/{commit}/config.json has 5 bytes, and not 2",
        f"snapshots/{commit}/sub/vocab.txt is missing",
    ]


def test_plain_files_are_complete(commands):
    for path, data in {"org/plain/config.json": b"{}", "datasets/org/rows/v1/a.csv": b"1,2"}.items():
        commands.bucket.put(f"hub/{path}", data)
    commands.bucket.put("hub/clip/ViT-B-32.pt", b"of CLIP")
    assert commands.run("--check", commands.url).stdout.splitlines() == [
        "datasets/org/rows (v1): 1 file, 3 B, plain files, which are all there is",
        "org/plain (main): 1 file, 2 B, plain files, which are all there is",
        "2 repositories, all complete",
    ]


def test_a_cache_on_the_disk_is_copied_once(hub, commands, commit):  # noqa: F811
    program = """
        from huggingface_hub import hf_hub_download, snapshot_download
        snapshot_download("org/name")
        try:
            hf_hub_download("org/name", "adapter.json")
        except Exception:
            pass
    """
    commands.client.run(program)
    hub.stop()
    assert commands.run("--from-cache", commands.url).stdout.startswith("7 files, 9.0 MiB to ")
    assert f".no_exist/{commit}/adapter.json" in commands.paths()
    kept = [key for key in commands.paths() if not key.startswith(".no_exist/")]
    assert kept == ["refs/main", *(f"snapshots/{commit}/{path}" for path in sorted(FILES)), f"trees/{commit}.json"]
    assert commands.client.run(READ, commands.url) == ["['a', 'b']", str(9 << 20)]
    again = commands.run("--from-cache", str(commands.client.cache), commands.url, "--json").stdout
    assert json.loads(again)["copied_bytes"] < 2000, "only what is small and tells nothing of its bytes"
    commands.run("--check", commands.url)
    commands.bucket.delete(f"hub/{FOLDER}/trees/{commit}.json")
    told = commands.run("--check", commands.url).stdout.splitlines()
    assert told[-1] == "1 repository, none known to be incomplete, 1 without a listing"
    assert json.loads(commands.run("--check", commands.url, "--json").stdout)["complete"] is None
    hub.start()


def test_a_damaged_blob_is_not_copied(commands, commit):
    commands.client.run("from huggingface_hub import snapshot_download; snapshot_download('org/name')")
    blob = Path(commands.client.cache, FOLDER, "blobs", hashlib.sha256(b"weights").hexdigest())
    blob.write_bytes(b"WEIGHTS")
    said = commands.run("--from-cache", commands.url, status=1).stderr
    assert "weights.bin in the cache has 7 bytes whose SHA-256 is" in said
    assert "refs/main" not in commands.paths()


def test_what_cannot_be(hub, commands, commit):  # noqa: F811
    assert "the Hub has no org/other" in commands.run("org/other", commands.url, status=1).stderr
    assert "the Hub has no org/name@v9" in commands.run("org/name@v9", commands.url, status=1).stderr
    hub.repositories["org/gated"] = Repository.of({"a.json": b"1"}, gated=True)
    assert "HF_TOKEN" in commands.run("org/gated", commands.url, status=1).stderr
    assert "no cache of huggingface_hub at" in commands.run("--from-cache", commands.url, status=1).stderr
    assert "holds no repository" in commands.run("--check", f"{commands.bucket.url}", status=1).stderr
    assert "--allow" in commands.run("--from-cache", commands.url, "--allow", "x", status=1).stderr
    commands.run("org/name", status=2)
    commands.run("--check", status=2)
    commands.bucket.put("hub/diskless-manifest.json", b"{}")
    assert "was pushed" in commands.run("org/name", commands.url, status=1).stderr
    commands.bucket.delete("hub/diskless-manifest.json")
    hub.stop()
    assert "could not be asked" in commands.run("org/name", commands.url, status=1).stderr
    hub.start()


def test_ctrl_c_ends_a_copy_at_once(hub, commands, commit):  # noqa: F811
    held = threading.Event()

    def hold(request):
        if "/lfs/" in request.path:
            reached.set()
            held.wait(30)

    reached = threading.Event()
    hub.plan = hold
    code = "import sys; from diskless.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "mirror", "org/name", commands.url],
        env=commands.client.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert reached.wait(30)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        held.set()
        process.kill()
        process.communicate()
    assert "refs/main" not in commands.paths()
