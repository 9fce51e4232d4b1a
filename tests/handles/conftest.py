"""What the tests of handles share: nothing of a test before is kept, and s3fs's options for the servers."""

from __future__ import annotations

import gc

import fsspec
import pytest

from diskless import kept
from tests.programs import until


@pytest.fixture
def nothing_kept():
    def let_go():
        while kept.drop_one():
            pass
        return not kept._kept

    yield
    # pyarrow's threads close files a little after it has returned what was in them.
    gc.collect()
    until(let_go)
    fsspec.AbstractFileSystem.clear_instance_cache()


@pytest.fixture
def moto(s3_env):
    """The options by which s3fs reads what a `bucket` holds."""
    client = {"region_name": "us-east-1", "endpoint_url": s3_env.endpoint}
    given = s3_env.credentials
    return {"key": given["aws_access_key_id"], "secret": given["aws_secret_access_key"], "client_kwargs": client}


@pytest.fixture
def faulty(server):
    """The options by which s3fs reads what the `server`, a FaultServer, has."""
    given = server.storage_options
    client = {"region_name": given["region"], "endpoint_url": given["endpoint_url"]}
    return {"key": given["key"], "secret": given["secret"], "client_kwargs": client, "skip_instance_cache": True}


@pytest.fixture
def upload(bucket):
    """Puts all files of a directory into the bucket, below its name, and returns their URL."""

    def put(directory):
        for path in directory.rglob("*"):
            if path.is_file():
                bucket.put(f"{directory.name}/{path.relative_to(directory)}", path.read_bytes())
        return f"{bucket.url}/{directory.name}"

    return put
