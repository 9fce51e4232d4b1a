"""The ways to get one object from S3 into memory. Each is set up (imports, client), then asked to transfer once.

A contender is a function that takes the object and returns a function that transfers it; that one returns what now
holds the bytes: a buffer or a path. Every client has its default settings, except where its documentation names better
ones for large objects; those are said where they are set.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """The object to transfer; the endpoint and the credentials are in the environment too."""

    endpoint: str
    bucket: str
    key: str
    size_bytes: int
    scratch: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


# A buffer, or the path of a file.
Held = bytes | memoryview | str
Transfer = Callable[[], Held]
Contender = Callable[[Target], Transfer]


def diskless(target: Target) -> Transfer:
    """`diskless.mount`; its Loader process starts with the first transfer and so belongs to the start-up."""
    import diskless

    opened = []  # a Mount is closed when it is forgotten

    def transfer() -> Held:
        mount = diskless.mount(target.url, progress=False)
        opened.append(mount)
        return mount.path

    return transfer


def download_fileobj(target: Target) -> Transfer:
    """The pattern most people use: boto3's managed transfer, default TransferConfig (10 threads, 8 MiB), to BytesIO."""
    import io

    import boto3

    client = boto3.client("s3")

    def transfer() -> Held:
        buffer = io.BytesIO()
        client.download_fileobj(target.bucket, target.key, buffer)
        return buffer.getbuffer()

    return transfer


def s3fs_cat_file(target: Target) -> Transfer:
    """s3fs `cat_file`, which fetches concurrently by default (10 ranges of 50 MiB)."""
    import s3fs

    filesystem = s3fs.S3FileSystem(use_listings_cache=False)

    def transfer() -> Held:
        content = filesystem.cat_file(f"{target.bucket}/{target.key}")
        assert isinstance(content, bytes)
        return content

    return transfer


def simplecache(target: Target) -> Transfer:
    """fsspec's `simplecache::` with its cache in RAM (a disk would be slower), which gives native code a real file."""
    import fsspec
    import s3fs  # noqa: F401  # imported by fsspec on first use otherwise: that is start-up

    def transfer() -> Held:
        cache = os.path.join(target.scratch, "simplecache")
        path = fsspec.open_local(f"simplecache::{target.url}", simplecache={"cache_storage": cache})
        assert isinstance(path, str)
        return path

    return transfer


def awscrt(target: Target) -> Transfer:
    """AWS's C client, which writes a file itself: a memfd here. Its own choice of part size and connections."""
    from awscrt.auth import AwsCredentialsProvider
    from awscrt.http import HttpHeaders, HttpRequest
    from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup
    from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType, create_default_s3_signing_config

    group = EventLoopGroup()
    provider = AwsCredentialsProvider.new_static(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    region = os.environ["AWS_REGION"]
    client = S3Client(
        bootstrap=ClientBootstrap(group, DefaultHostResolver(group)),
        region=region,
        signing_config=create_default_s3_signing_config(region=region, credential_provider=provider),
        tls_mode=S3RequestTlsMode.DISABLED,
    )

    def transfer() -> Held:
        path = f"/proc/self/fd/{os.memfd_create('awscrt')}"
        headers = HttpHeaders([("host", target.endpoint.removeprefix("http://"))])
        client.make_request(
            type=S3RequestType.GET_OBJECT,
            request=HttpRequest("GET", f"/{target.bucket}/{target.key}", headers),
            recv_filepath=path,
        ).finished_future.result()
        return path

    return transfer


def bare_loop(target: Target) -> Transfer:
    """The least that could do it: pinned, streaming gets of obstore in 8 threads, written to a memfd by `pwrite`."""
    import obstore
    from obstore.store import S3Store

    threads, part_bytes, chunk_bytes = 8, 32 << 20, 512 << 10
    store = S3Store(
        target.bucket,
        endpoint=target.endpoint,
        region=os.environ["AWS_REGION"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )

    def transfer() -> Held:
        meta = obstore.head(store, target.key)
        descriptor = os.memfd_create("bare")
        os.ftruncate(descriptor, meta["size"])
        starts: queue.SimpleQueue[int] = queue.SimpleQueue()
        for start in range(0, meta["size"], part_bytes):
            starts.put(start)
        errors: list[BaseException] = []

        def fetch() -> None:
            try:
                while True:
                    try:
                        offset = starts.get_nowait()
                    except queue.Empty:
                        return
                    end = min(offset + part_bytes, meta["size"])
                    answer = obstore.get(store, target.key, options={"range": (offset, end), "if_match": meta["e_tag"]})
                    for chunk in answer.stream(min_chunk_size=chunk_bytes):
                        offset += os.pwrite(descriptor, chunk, offset)
            except BaseException as error:
                errors.append(error)

        workers = [threading.Thread(target=fetch) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if errors:
            raise errors[0]
        return f"/proc/self/fd/{descriptor}"

    return transfer


CONTENDERS: dict[str, Contender] = {
    "diskless": diskless,
    "download_fileobj": download_fileobj,
    "s3fs cat_file": s3fs_cat_file,
    "simplecache": simplecache,
    "awscrt": awscrt,
    "bare loop": bare_loop,
}
