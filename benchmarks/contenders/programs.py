"""Programs that copy to a directory in RAM: `aws s3 cp` and s5cmd."""

from __future__ import annotations

import os
import subprocess

from benchmarks.contenders.target import Held, Target, Transfer


def aws_cp(target: Target) -> Transfer:
    """`aws s3 cp`, with its classic client's 10 connections; several objects by `--recursive`."""
    many = len(target.keys) > 1
    return _copies(
        target, ["aws", "s3", "cp", target.url, target.scratch, "--quiet", *(["--recursive"] if many else [])]
    )


def s5cmd(target: Target) -> Transfer:
    """`s5cmd cp`, with more connections for one large object than its default of 5, as its guide suggests."""
    pattern = target.url + ("*" if len(target.keys) > 1 else "")
    return _copies(target, ["s5cmd", "--log", "error", "cp", "--concurrency", "10", pattern, target.scratch + "/"])


def _copies(target: Target, command: list[str]) -> Transfer:
    environment = {**os.environ, "S3_ENDPOINT_URL": target.endpoint, "AWS_CA_BUNDLE": target.ca_bundle or ""}
    environment = {name: value for name, value in environment.items() if value and name != "PYTHONPATH"}
    if target.ca_bundle:
        environment["SSL_CERT_FILE"] = target.ca_bundle  # as Go's programs have it

    def transfer() -> list[Held]:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        if ended.returncode != 0:
            raise OSError(f"{command[0]} ended with {ended.returncode}: {ended.stderr[-500:]}")
        return [os.path.join(target.scratch, key.removeprefix(target.prefix).lstrip("/")) for key in target.keys]

    return transfer
