"""The process that loads what a server gives that fails: one load for each line on stdin, its outcome as a line.

    python -m benchmarks.fault_loads

Its Loader is told to cut small parts, and to be impatient.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import hashlib
import json
import os
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diskless
from benchmarks import control_group
from benchmarks.fault_plan import ANSWER_S, CHUNK_BYTES, PART_BYTES, STALL_S
from diskless import job
from diskless.loader import process, start

_SETTINGS = f"""
from diskless.loader import plan, transfer
from diskless.sources import obstore_client
plan.LEAST_BYTES = plan.MOST_BYTES = transfer.LEAST_BYTES = {PART_BYTES}
obstore_client.CHUNK_BYTES = {CHUNK_BYTES}
obstore_client._STALL_TIMEOUT, obstore_client._ANSWER_TIMEOUT = '{STALL_S * 1000:.0f}ms', '{ANSWER_S * 1000:.0f}ms'
transfer.FIRST_PAUSE_S, transfer.LONGEST_PAUSE_S = 0.05, 0.2
"""
# What a load leaves is gone when the last connection that stalls has been given up.
_CLEAN_AFTER_S = 4 * ANSWER_S


class RenewingSession:
    """As a `boto3.Session` whose credentials are others each time they are asked for."""

    region_name = "us-east-1"

    def __init__(self) -> None:
        self._given = 0
        self._expiry_time = datetime.now(timezone.utc) + timedelta(hours=1)

    def get_credentials(self) -> RenewingSession:
        return self

    def get_frozen_credentials(self) -> SimpleNamespace:
        self._given += 1
        return SimpleNamespace(access_key=f"AKID{self._given}", secret_key="fault-secret", token=None)


def main() -> None:
    begin, program = start._PROGRAM.split("from diskless.loader.main")
    start._PROGRAM = f"{begin}exec({_SETTINGS!r}); from diskless.loader.main{program}"
    job.MOST_BYTES = PART_BYTES  # what the Loader is asked for
    print(json.dumps(os.getpid()), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        # A load that hangs shows where, and ends this process.
        faulthandler.dump_traceback_later(request["limit_s"], exit=True)
        print(json.dumps(load(request)), flush=True)
        faulthandler.cancel_dump_traceback_later()


def load(request: dict[str, Any]) -> dict[str, Any]:
    """Return the error (class and message) or None, the SHA-256 of each file that could be read, and what was left."""
    descriptors = _descriptors(os.getpid())
    options = request["storage_options"]
    session = None
    if request["renews"]:
        session = RenewingSession()
        options = {name: value for name, value in options.items() if name not in ("key", "secret")}
    began = time.monotonic()
    error, hashes = None, {}
    try:
        mount = diskless.mount(
            request["url"], load=request["load"], backing=request["backing"], storage_options=options, session=session
        )
    except diskless.DisklessError as raised:
        error = [type(raised).__name__, str(raised)]
    else:
        with mount:
            error, hashes = _read(mount)
    seconds = time.monotonic() - began
    return {
        "error": error,
        "sha256": hashes,
        "seconds": seconds,
        "left": _left(descriptors) if request["judged"] else [],
    }


def _read(mount: diskless.Mount) -> tuple[list[str] | None, dict[str, str]]:
    """Read every file, in the background at once, so that the readers wait; what cannot be read is left out."""
    hashes: dict[str, str] = {}

    def read(path: Path) -> None:
        with contextlib.suppress(OSError):  # EIO: `wait` says why
            hashes[path.relative_to(mount.path).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()

    readers = [
        threading.Thread(target=read, args=(path,)) for path in sorted(Path(mount.path).rglob("*")) if path.is_file()
    ]
    for reader in readers:
        reader.start()
    error = None
    try:
        mount.wait()
    except diskless.DisklessError as raised:
        error = [type(raised).__name__, str(raised)]
    for reader in readers:
        reader.join()
    return error, hashes


def _left(before: list[str]) -> list[str]:
    """Return what is still there of a load that has ended: descriptors, RAM files here or in the Loader, threads."""
    until = time.monotonic() + _CLEAN_AFTER_S
    while True:
        gc.collect()
        now = _descriptors(os.getpid())
        if sum(map(_is_socket, now)) == 1 and not any(map(_is_socket, before)):
            now = [link for link in now if not _is_socket(link)]  # to the Loader, which there was none of before
        left = [f"{link} of {pid}" for pid in loaders(os.getpid()) for link in _descriptors(pid) if _is_ram_file(link)]
        left += [thread.name for thread in threading.enumerate() if thread.name.startswith("diskless-job")]
        if len(now) > len(before) or any(map(_is_ram_file, now)):
            left.append(f"descriptors: {now}, and before: {before}")
        if process.in_process():
            left.append("threads in place of the Loader process")
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.02)


def loaders(pid: int) -> list[int]:
    """Return the Loader processes of a user's process; one that waits stands in between (see native/spawn.cpp)."""
    return [found for child in control_group.children(pid) for found in control_group.children(child)]


def _descriptors(pid: int) -> list[str]:
    """Return what the descriptors of a process are, without the page of gates, which is made once."""
    found = []
    with contextlib.suppress(OSError):  # it ended
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return [link for link in found if "diskless-gates" not in link and "[eventfd]" not in link]


def _is_socket(link: str) -> bool:
    return link.startswith("socket:")


def _is_ram_file(link: str) -> bool:
    return link.startswith("/memfd:")


if __name__ == "__main__":
    main()
