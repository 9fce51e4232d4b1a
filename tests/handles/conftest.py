"""What the tests of handles share: s3fs's options for the servers, and a directory that is uploaded."""

from __future__ import annotations

import pytest


@pytest.fixture
def moto(s3_env):
    """The options by which s3fs reads what a `bucket` holds."""
    client = {"region_name": "us-east-1", "endpoint_url": s3_env.endpoint}
    given = s3_env.credentials
    return {"key": given["aws_access_key_id"], "secret": given["aws_secret_access_key"], "client_kwargs": client}


@pytest.fixture
def faulty(server):
    """The options by which s3fs reads what the `server`, a FaultServer, has."""
    return server.s3fs_options


@pytest.fixture
def upload(bucket):
    """Puts all files of a directory into the bucket, below its name, and returns their URL."""

    def put(directory):
        for path in directory.rglob("*"):
            if path.is_file():
                bucket.put(f"{directory.name}/{path.relative_to(directory)}", path.read_bytes())
        return f"{bucket.url}/{directory.name}"

    return put
