"""Clients that give S3 the face of files: s3fs, fsspec's simplecache, smart_open."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.contenders.at_once import in_threads
from benchmarks.contenders.target import Held, Target, Transfer


def s3fs_cat(target: Target) -> Transfer:
    """s3fs `cat_file`, which fetches concurrently by default (10 ranges of 50 MiB); several objects by `cat`."""
    import s3fs

    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    paths = [f"{target.bucket}/{key}" for key in target.keys]

    def transfer() -> list[Held]:
        if len(paths) == 1:
            return [filesystem.cat_file(paths[0])]
        contents = filesystem.cat(paths)
        return [contents[path] for path in paths]

    return transfer


def simplecache(target: Target) -> Transfer:
    """fsspec's `simplecache::` with its cache in RAM (a disk would be slower), which gives native code a real file."""
    import fsspec
    import s3fs  # noqa: F401  # imported by fsspec on first use otherwise: that is start-up

    urls = [f"simplecache::s3://{target.bucket}/{key}" for key in target.keys]

    def transfer() -> list[Held]:
        cache = {"cache_storage": os.path.join(target.scratch, "simplecache")}
        if len(urls) == 1:
            return [str(fsspec.open_local(urls[0], simplecache=cache))]
        return list(fsspec.open_local(urls, simplecache=cache))

    return transfer


def smart_open(target: Target) -> Transfer:
    """smart_open's reader, read to its end; one connection for each object, eight objects at once."""
    import boto3
    import smart_open

    options: dict[str, Any] = {"client": boto3.client("s3")}

    def one(key: str) -> Held:
        with smart_open.open(f"s3://{target.bucket}/{key}", "rb", transport_params=options) as file:
            return bytes(file.read())

    return lambda: in_threads(one, target.keys, 8)
