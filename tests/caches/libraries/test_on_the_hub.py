"""Libraries predict from a repository of the Hub in a cache in RAM what they predict from the disk's cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diskless import native_api as native
from tests.caches.client import Client
from tests.caches.hub_routes import Request
from tests.caches.hub_server import HubServer
from tests.caches.libraries.needed import PATH, need
from tests.caches.repository import Repository
from tests.sandbox import NOTHING_WRITABLE, needs_sandbox, sandbox
from tests.servers import Bucket

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="needs the Tree"),
    needs_sandbox,
    pytest.mark.slow,
    pytest.mark.apart,
    pytest.mark.timeout(300),
]
SYS = "import sys\n"
LOAD = "from tests.caches.libraries.play import load\nlibrary = load(sys.argv[1])\n"
PREDICT = "print(library.predict())\n"
RAM = "import diskless\ndiskless.cache(sys.argv[2])\n"
PROGRAMS = {
    "timm": ("timm", "torchvision"),
    "diffusers": ("diffusers", "torchvision"),
    "open_clip_of_the_hub": ("open_clip", "torchvision"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_prediction_from_ram_is_that_from_the_disk(
    name: str, hub: HubServer, client: Client, s3_env, bucket: Bucket, tmp_path: Path
):
    need(*PROGRAMS[name])
    client.env |= {"PYTHONPATH": PATH, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    saved = tmp_path / "saved"
    saved.mkdir()

    def fill(request: Request) -> None:
        if not hub.repositories:
            files = [path for path in saved.rglob("*") if path.is_file()]
            found = {path.relative_to(saved).as_posix(): path.read_bytes() for path in files}
            hub.repositories["org/toy"] = Repository.of(found)

    # When it is first asked, so that one program makes the model and loads it: to import these takes seconds.
    hub.plan = fill
    from_disk = client.run(SYS + LOAD + "library.save(sys.argv[2])\n" + PREDICT, name, str(saved))
    for path in client.cache.rglob("*"):
        if path.is_file():
            bucket.put(f"hub/{path.relative_to(client.cache)}", path.read_bytes())
    hub.stop()

    aws = {variable: value for variable, value in os.environ.items() if variable.startswith("AWS_")}
    elsewhere = Client(hub, tmp_path / "no-home", client.env)
    assert elsewhere.run(SYS + LOAD + RAM + PREDICT, name, f"{bucket.url}/hub", **aws) == from_disk
    assert not elsewhere.home.exists()
    nowhere = Client(hub, Path("/nonexistent"), client.env, within=sandbox())
    scratch = NOTHING_WRITABLE + "import diskless\ndiskless.scratch(at='/tmp')\n"
    assert nowhere.run(scratch + RAM + LOAD + PREDICT, name, f"{bucket.url}/hub", **aws) == from_disk
