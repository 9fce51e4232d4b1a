"""One run of one contender, in a process of its own, timed against the server's log."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import control_group
from benchmarks.contenders import Target
from benchmarks.servers import BUCKET, Nginx, S3Object

_TIMEOUT_S, _FIRST_TIMEOUT_S = 600.0, 120.0


class ContenderFailed(RuntimeError):
    """A contender did not run, or arrived at other bytes."""


@dataclass(frozen=True)
class Run:
    """One transfer. All contenders are timed alike: from the first request that the server saw to the last byte."""

    contender: str
    beside: str
    start_up_s: float
    wall_s: float
    # From the moment the work began (everything imported that the contender needs) until all was done.
    together_s: float
    cpu_s: float
    server_cpu_s: float
    peak_bytes: int
    memory_from: str
    size_bytes: int = 0  # of all objects
    scenario: str = "one"


def environment(endpoint: str) -> dict[str, str]:
    """Return the environment of a contender: the caller's, without settings for another S3.

    Byte code is written, as it is for every installed package; the unmeasured first runs do it.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "FSSPEC_"))
        and not name.lower().endswith("_proxy")
        and name != "PYTHONDONTWRITEBYTECODE"
    }
    root = str(Path(__file__).resolve().parent.parent)
    return kept | {
        "PYTHONPATH": os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH", "")))),
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "HF_HUB_OFFLINE": "1",
    }


def measure(
    server: Nginx,
    entries: Sequence[S3Object],
    contender: str,
    *,
    endpoint: str | None = None,
    beside: str = "nothing",
    verify: bool = False,
    module: str = "",
) -> Run:
    """Run a contender of `module` (transfer's, or another with the same command line) once, at the server's `endpoint`.

    Raises ContenderFailed when it ends with an error, or with `verify` when its bytes are not the objects'.
    """
    endpoint = endpoint or server.endpoint
    ca_bundle = str(server.ca_bundle) if endpoint.startswith("https:") else None
    # One that cannot work here may try for ever.
    timeout_s = _FIRST_TIMEOUT_S if verify else _TIMEOUT_S
    scratch = tempfile.mkdtemp(prefix="diskless-bench-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    keys, sizes = [entry.key for entry in entries], [entry.size_bytes for entry in entries]
    target = Target(endpoint, BUCKET, keys, sizes, scratch, ca_bundle)
    request = {"contender": contender, "target": asdict(target), "beside": beside, "verify": verify}
    server.forget_requests()
    server_cpu = server.cpu_seconds()
    try:
        finished = control_group.run(
            [sys.executable, "-m", module or "benchmarks.contender_process"],
            env=environment(endpoint) | ({"AWS_CA_BUNDLE": ca_bundle} if ca_bundle else {}),
            stdin=json.dumps(request),
            timeout_s=timeout_s,
            keep=server.pids[:1],
        )
    except subprocess.TimeoutExpired:
        raise ContenderFailed(f"{contender} beside {beside} was not done after {timeout_s:.0f} s") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if finished.returncode != 0:
        raise ContenderFailed(f"{contender} beside {beside} ended with {finished.returncode}:\n{finished.stderr}")
    times = json.loads(finished.stdout.splitlines()[-1])
    if verify and times["sha256"] != [entry.sha256 for entry in entries]:
        raise ContenderFailed(f"{contender} arrived at other bytes")
    first_request = server.first_request()
    return Run(
        contender=contender,
        beside=beside,
        start_up_s=first_request - finished.started,
        wall_s=times["transferred"] - first_request,
        together_s=max(times["transferred"], times["beside_done"]) - times["begun"],
        cpu_s=finished.usage.cpu_seconds,
        server_cpu_s=server.cpu_seconds() - server_cpu,
        peak_bytes=finished.usage.peak_bytes,
        memory_from=finished.usage.memory_from,
        size_bytes=target.size_bytes,
    )
