"""Runs programs whose libraries know no other Hugging Face hub than the one on loopback, with a cache of their own.

`huggingface_hub` reads its environment when it is imported, which a process of tests has done long ago.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from tests.caches.hub_server import HubServer
from tests.programs import SOURCE, environment

# The client waits a second and more before it tries again. Here it notes how long, and goes on.
WITHOUT_PAUSES = "import time; PAUSES = []; time.sleep = PAUSES.append\n"


@dataclass
class Client:
    """A user of a hub, whose cache and tokens are in `home`."""

    hub: HubServer
    home: Path
    env: dict[str, str] = field(default_factory=dict)
    within: list[str] = field(default_factory=list)  # the words before each command

    @property
    def cache(self) -> Path:
        """Where the files are unless the program says otherwise."""
        return self.home / "hub"

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in environment().items() if not _belongs_to_the_machine(name)}
        return {
            **kept,
            "PYTHONPATH": str(SOURCE),
            "HOME": str(self.home),
            "HF_HOME": str(self.home),
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "DISABLE_SAFETENSORS_CONVERSION": "1",  # which asks another server
            **self.env,
        }

    def run(self, program: str, *arguments: str, **env: str) -> list[str]:
        """Run a program, in which nothing pauses and `PAUSES` are the seconds that it would have; return its lines."""
        ended = subprocess.run(
            [*self.within, sys.executable, "-c", WITHOUT_PAUSES + textwrap.dedent(program), *arguments],
            capture_output=True,
            text=True,
            timeout=90,
            env={**self.environment(), **env},
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()


def _belongs_to_the_machine(name: str) -> bool:
    return name.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "SENTENCE_TRANSFORMERS_")) or name == "XDG_CACHE_HOME"
