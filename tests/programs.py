"""Starts programs that mount what a fault server has."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

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

# A filter of system calls (seccomp(2)) that lets memfd_create fail with `error` where `flags & mask` is `value`.
MEMFD_FILTER = """
import ctypes, platform, struct
def refuse_memfds(mask, value, error):
    number = {"x86_64": 319, "aarch64": 279}[platform.machine()]
    LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
    program = [
        (LOAD, 0, 0, 0),                 # the number of the call
        (EQUAL, 0, 4, number),
        (LOAD, 0, 0, 16 + 8),            # its second argument
        (AND, 0, 0, mask),
        (EQUAL, 0, 1, value),
        (RETURN, 0, 0, 0x00050000 | error),
        (RETURN, 0, 0, 0x7FFF0000),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0, ctypes.get_errno()
"""
KNOWS_MEMFD = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="the number of memfd_create is not known"
)


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DISKLESS_", "PYTHON"))}
    return {**{name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}, **more}


def _chosen(backing: str | None) -> dict[str, str]:
    return environment(PYTHONPATH=str(SOURCE), **({"DISKLESS_BACKING": backing} if backing else {}))


def command(server: FaultServer, script: str, *python: str) -> list[str]:
    return [
        *(python or (sys.executable,)),
        "-c",
        textwrap.dedent(script),
        server.url,
        json.dumps(server.storage_options),
    ]


def run(
    server: FaultServer,
    script: str = MOUNT,
    *python: str,
    backing: str | None = None,
    env: dict[str, str] | None = None,
    **more: object,
) -> list[str]:
    """Run a program whose Mounts are on `backing`, and return its lines; it has nothing to say on stderr."""
    ended = subprocess.run(
        command(server, script, *python),
        capture_output=True,
        text=True,
        timeout=90,
        env=env or _chosen(backing),
        **more,  # type: ignore[call-overload]
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout.splitlines()


def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.01)


def start(server: FaultServer, script: str, *, backing: str | None = None, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(server, script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_chosen(backing),
        **more,  # type: ignore[call-overload]
    )


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
