"""A user of a hub whose caches are in RAM, and the same on a disk to compare with."""

from __future__ import annotations

import os
from pathlib import Path

from tests.caches.client import Client
from tests.sandbox import NOTHING_WRITABLE, sandbox

# Prints what is in the cache: names, where links lead, sizes, and what small texts say.
TREE = """
import json, os
from huggingface_hub import constants
def tree(top=None):
    top = top or constants.HF_HUB_CACHE
    found = {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            shown = os.path.relpath(path, top)
            if shown.startswith((".locks", "CACHEDIR.TAG", "blobs")):
                continue
            if os.path.islink(path):
                found[shown] = "-> " + os.readlink(path)
            elif "/refs/" in shown:
                found[shown] = open(path).read()
            else:
                found[shown] = os.path.getsize(path)
    return dict(sorted(found.items()))
def relative(path):
    return os.path.relpath(path, constants.HF_HUB_CACHE)
"""
DOWNLOADS = """
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError
print(relative(hf_hub_download("org/bert", "config.json")))
print(relative(hf_hub_download("org/bert", "model.safetensors")))
try:
    hf_hub_download("org/bert", "nothing.json")
except EntryNotFoundError as error:
    print(type(error).__name__)
print(relative(snapshot_download("org/bert")))
print(json.dumps(tree()))
"""


class Ram:
    """A user of the same hub whose caches are in RAM, with a mirror in a bucket; the home does not exist."""

    def __init__(self, client: Client, bucket, tmp_path: Path) -> None:
        self.client = Client(client.hub, tmp_path / "no-home")
        self.bucket = bucket
        self.mirror = f"{bucket.url}/hub"
        self.env = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    def run(self, program: str, options: str = "", mirror: bool = True) -> list[str]:
        """Run a program in a cache with these options."""
        place = repr(self.mirror) if mirror else "None"
        indented = program.replace("\n", "\n    ")
        whole = f"import diskless\n{TREE}\nwith diskless.cache({place}, {options}) as cache:\n    {indented}"
        lines = self.client.run(whole, **self.env)
        assert not self.client.home.exists()
        return lines

    def run_in_sandbox(self, program: str) -> list[str]:
        """Run a program in a cache where nothing can be written."""
        self.client.home, self.client.within = Path("/nonexistent"), sandbox()
        within = f"{TREE}with diskless.scratch(at='/tmp'), diskless.cache({self.mirror!r}):\n    "
        program = program.replace("\n", "\n    ")
        return self.client.run(f"{NOTHING_WRITABLE}import diskless\n{within}{program}", **self.env)

    def sync(self, cache: Path) -> None:
        """Put a cache into the bucket as `aws s3 sync` does: links arrive as copies, and directories do not at all."""
        for path in sorted(cache.rglob("*")):
            if path.is_file():
                self.bucket.put(f"hub/{path.relative_to(cache)}", path.read_bytes())


def on_disk(client: Client, program: str) -> list[str]:
    return client.run(TREE + program)
