"""Starts programs that mount what a fault server has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import diskless
from tests.loader.fault_server import FaultServer

SOURCE = Path(diskless.__file__).parents[1]
# Prints what the mount shows, and where it was loaded.
MOUNT = """
import json, os, sys
import diskless
from diskless.loader import process
with diskless.mount(sys.argv[1], storage_options=json.loads(sys.argv[2])) as path:
    print(sorted(os.listdir(path)), os.path.getsize(path + "/big"))
print("threads" if process.in_process() else "process")
"""
BY_A_PROCESS = ["['big', 'small'] 3145728", "process"]
BY_THREADS = ["['big', 'small'] 3145728", "threads"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DISKLESS_", "PYTHON"))}
    return {**{name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}, **more}


def command(server: FaultServer, script: str, *python: str) -> list[str]:
    return [
        *(python or (sys.executable,)),
        "-c",
        textwrap.dedent(script),
        server.url,
        json.dumps(server.storage_options),
    ]


def run(
    server: FaultServer, script: str = MOUNT, *python: str, env: dict[str, str] | None = None, **more: object
) -> list[str]:
    """Run a program and return its lines; it has nothing to say on stderr."""
    ended = subprocess.run(
        command(server, script, *python),
        capture_output=True,
        text=True,
        timeout=90,
        env=env or environment(PYTHONPATH=str(SOURCE)),
        **more,  # type: ignore[call-overload]
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout.splitlines()


def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.01)


def start(server: FaultServer, script: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(server, script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PYTHONPATH=str(SOURCE)),
        **more,  # type: ignore[call-overload]
    )


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
