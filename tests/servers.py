"""Servers that the tests start: on loopback only, stopped by process id."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Any


def free_port() -> int:
    """Return a port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], timeout_s: float = 60) -> None:
    """Return when somebody listens on `port`; raises when `process` ends first."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}") from None
            time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port}")


def s3_client(endpoint: str, credentials: dict[str, str]) -> Any:
    """Return boto3's client of a server."""
    import boto3

    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **credentials)


class S3Server:
    """moto's S3 server in a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.credentials = {"aws_access_key_id": "AKIDTEST", "aws_secret_access_key": "test-secret"}

    def __enter__(self) -> S3Server:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port, self._process)
        self.client = s3_client(self.endpoint, self.credentials)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()


class Bucket:
    """A bucket of a server, for one test."""

    def __init__(self, server: S3Server, name: str) -> None:
        self._client = server.client
        self.name = name
        self.url = f"s3://{name}"
        self._client.create_bucket(Bucket=name)

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=key, Body=data)

    def put_in_parts(self, key: str, data: bytes) -> None:
        """Put an object whose ETag is not the MD5 of its bytes."""
        begun = self._client.create_multipart_upload(Bucket=self.name, Key=key)
        at = {"Bucket": self.name, "Key": key, "UploadId": begun["UploadId"]}
        sent = self._client.upload_part(**at, PartNumber=1, Body=data)
        self._client.complete_multipart_upload(
            **at, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}
        )

    def get(self, key: str) -> bytes:
        return bytes(self._client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def keys(self) -> list[str]:
        """Of the first thousand objects."""
        return [entry["Key"] for entry in self._client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)
