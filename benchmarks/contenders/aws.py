"""AWS's own clients: boto3, its CRT, and the C client under it."""

from __future__ import annotations

import io
import os
from typing import Any

from benchmarks.contenders.at_once import in_threads
from benchmarks.contenders.target import Held, Target, Transfer

# Twice the default, as boto3's guide suggests where there is more bandwidth.
_MORE_CONNECTIONS = 20


def download_fileobj(target: Target) -> Transfer:
    """The pattern most people use: boto3's managed transfer, default TransferConfig (10 threads, 8 MiB), to BytesIO.

    Several objects one after the other.
    """
    return _download_fileobj(target, None, threads=1, connections=10)


def download_fileobj_tuned(target: Target) -> Transfer:
    """With `max_concurrency`; several objects in as many threads as connections, by one client.

    https://boto3.amazonaws.com/v1/documentation/api/latest/guide/s3.html (concurrent transfer operations)
    """
    from boto3.s3.transfer import TransferConfig

    config = TransferConfig(max_concurrency=_MORE_CONNECTIONS)
    return _download_fileobj(target, config, threads=8, connections=_MORE_CONNECTIONS)


def download_crt(target: Target) -> Transfer:
    """boto3[crt]: the transfer manager that boto3 makes of the C client, told of the endpoint as well."""
    import botocore.session
    from botocore.credentials import Credentials
    from s3transfer.crt import (
        BotocoreCRTCredentialsWrapper,
        BotocoreCRTRequestSerializer,
        CRTTransferManager,
        create_s3_crt_client,
    )

    session = botocore.session.get_session()
    keys = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    client = create_s3_crt_client(
        os.environ["AWS_REGION"],
        crt_credentials_provider=BotocoreCRTCredentialsWrapper(keys).to_crt_credentials_provider(),
        use_ssl=target.tls,
        verify=target.ca_bundle,
    )
    serializer = BotocoreCRTRequestSerializer(session, {"endpoint_url": target.endpoint})
    manager = CRTTransferManager(client, serializer)

    def transfer() -> list[Held]:
        buffers = [io.BytesIO() for _ in target.keys]
        futures = [
            manager.download(target.bucket, key, buffer) for key, buffer in zip(target.keys, buffers, strict=True)
        ]
        for future in futures:
            future.result()
        return [buffer.getbuffer() for buffer in buffers]

    return transfer


def _download_fileobj(target: Target, config: Any, *, threads: int, connections: int) -> Transfer:
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(max_pool_connections=connections))

    def one(key: str) -> Held:
        buffer = io.BytesIO()
        client.download_fileobj(target.bucket, key, buffer, Config=config)
        return buffer.getbuffer()

    return lambda: in_threads(one, target.keys, threads)


def awscrt(target: Target) -> Transfer:
    """The C client, which writes a file itself: a memfd here. Its own choice of part size and connections."""
    from awscrt.auth import AwsCredentialsProvider
    from awscrt.http import HttpHeaders, HttpRequest
    from awscrt.io import ClientBootstrap, ClientTlsContext, DefaultHostResolver, EventLoopGroup, TlsContextOptions
    from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType, create_default_s3_signing_config

    group = EventLoopGroup()
    provider = AwsCredentialsProvider.new_static(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    region = os.environ["AWS_REGION"]
    options: dict[str, Any] = {"tls_mode": S3RequestTlsMode.DISABLED}
    if target.tls:
        trust = TlsContextOptions()
        trust.override_default_trust_store_from_path(None, target.ca_bundle)
        options = {
            "tls_mode": S3RequestTlsMode.ENABLED,
            "tls_connection_options": ClientTlsContext(trust).new_connection_options(),
        }
    client = S3Client(
        bootstrap=ClientBootstrap(group, DefaultHostResolver(group)),
        region=region,
        signing_config=create_default_s3_signing_config(region=region, credential_provider=provider),
        **options,
    )
    host = target.endpoint.partition("://")[2]

    def begin(key: str) -> tuple[str, Any]:
        path = f"/proc/self/fd/{os.memfd_create('awscrt')}"
        request = HttpRequest("GET", f"/{target.bucket}/{key}", HttpHeaders([("host", host)]))
        begun = client.make_request(type=S3RequestType.GET_OBJECT, request=request, recv_filepath=path)
        return path, begun.finished_future

    def transfer() -> list[Held]:
        paths: list[Held] = []
        for path, finished in [begin(key) for key in target.keys]:
            finished.result()
            paths.append(path)
        return paths

    return transfer
