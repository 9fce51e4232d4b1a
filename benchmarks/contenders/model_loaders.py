"""Loaders made for models: s3torchconnector, Run:ai's Model Streamer, tensorizer's stream reader."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.contenders.at_once import in_threads
from benchmarks.contenders.target import Held, Target, Transfer

_MOST_CURLS = 20


def s3torchconnector(target: Target) -> Transfer:
    """Its sequential reader, which is the one for whole objects, read to the end; eight objects at once."""
    from s3torchconnector import S3ClientConfig
    from s3torchconnector._s3client import S3Client

    if target.tls:
        raise NotImplementedError("it takes no certificate authority of one's own")
    client = S3Client(
        os.environ["AWS_REGION"], endpoint=target.endpoint, s3client_config=S3ClientConfig(force_path_style=True)
    )
    return lambda: in_threads(lambda key: bytes(client.get_object(target.bucket, key).read()), target.keys, 8)


def model_streamer(target: Target) -> Transfer:
    """Run:ai Model Streamer's FileStreamer with its default 16 connections, into its buffers in CPU memory."""
    os.environ["RUNAI_STREAMER_S3_ENDPOINT"] = target.endpoint
    os.environ["RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING"] = "0"
    os.environ["RUNAI_STREAMER_MEMORY_LIMIT"] = "-1"
    from runai_model_streamer.file_streamer.file_streamer import FileStreamer
    from runai_model_streamer.file_streamer.requests_iterator import FileChunks

    urls = [f"s3://{target.bucket}/{key}" for key in target.keys]

    def transfer() -> list[Held]:
        held: dict[int, Any] = {}
        with FileStreamer() as streamer:
            chunks = [
                FileChunks.contiguous(number, url, 0, [size])
                for number, (url, size) in enumerate(zip(urls, target.sizes, strict=True))
            ]
            streamer.stream_files(chunks)
            for number, _, tensor in streamer.get_chunks():
                held[number] = memoryview(tensor.numpy())
        return [held[number] for number in range(len(urls))]

    return transfer


def tensorizer_stream(target: Target) -> Transfer:
    """tensorizer's `open_stream`, which reads from curl's pipe, into a buffer of the object's size."""
    from tensorizer.stream_io import CAInfo, open_stream

    if len(target.keys) > _MOST_CURLS:
        raise NotImplementedError("it starts a client and a curl for each object, 0.3 s each")

    options: dict[str, Any] = {
        "s3_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "s3_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
        "s3_endpoint": target.endpoint.partition("://")[2],
        "s3_region_name": os.environ["AWS_REGION"],
        "force_http": not target.tls,
    }
    if target.ca_bundle:
        options["certificate_handling"] = CAInfo(cacert=target.ca_bundle)
    sizes = dict(zip(target.keys, target.sizes, strict=True))

    def one(key: str) -> Held:
        buffer = bytearray(sizes[key])
        with open_stream(f"s3://{target.bucket}/{key}", **options) as stream:
            if stream.readinto(buffer) != len(buffer):
                raise EOFError(key)
        return buffer

    return lambda: in_threads(one, target.keys, 8)
