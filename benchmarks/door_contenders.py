"""Ways to open an object in S3 as a file, and what is done with the file: the contenders of `doors`.

    echo '{"contender": "torch.load: s3fs", …}' | python -m benchmarks.door_contenders

Peers have the settings that their documentation names for the case; a cache has its directory in RAM.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import threading
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from benchmarks import contender_process
from benchmarks.contenders import CONTENDERS, Contender, Held, Target, Transfer

MIB = 1 << 20
COLUMNS = ["c3", "c14", "c27"]
THREADS = 32
# Opens the object; called once for each reader.
Opener = Callable[[], AbstractContextManager[Any]]
# Reads what the opener opens, and returns what shows that it was right.
Work = Callable[[Opener, Target], str]


def _ramcache(target: Target) -> Opener:
    import fsspec
    import s3fs  # noqa: F401  # imported by fsspec on first use otherwise: that is start-up

    return lambda: fsspec.open(f"ramcache::{target.url}")


def _cached(kind: str) -> Callable[[Target], Opener]:
    def make(target: Target) -> Opener:
        import fsspec
        import s3fs  # noqa: F401  # as above

        # Of 50 MiB are the blocks that s3fs has by default; they are what it fetches at once.
        options = {kind: {"cache_storage": os.path.join(target.scratch, kind)}}
        return lambda: fsspec.open(f"{kind}::{target.url}", **options)

    return make


def _s3(block_bytes: int, cache: str) -> Callable[[Target], Opener]:
    def make(target: Target) -> Opener:
        import s3fs

        filesystem = s3fs.S3FileSystem()
        path = f"{target.bucket}/{target.key}"
        return lambda: filesystem.open(path, "rb", block_size=block_bytes, cache_type=cache)

    return make


def _columns(protocol: str, **options: Any) -> Callable[[Target], Opener]:
    """fsspec's own way to fetch just the columns, all at once."""

    def make(target: Target) -> Opener:
        import fsspec
        import s3fs  # noqa: F401  # as above
        from fsspec.parquet import open_parquet_file

        filesystem = fsspec.filesystem(protocol, **options)
        path = f"{target.bucket}/{target.key}"
        return lambda: open_parquet_file(path, fs=filesystem, columns=COLUMNS, engine="pyarrow")

    return make


def _smart_open(target: Target) -> Opener:
    import boto3
    import smart_open

    options: dict[str, Any] = {"client": boto3.client("s3")}
    return lambda: smart_open.open(target.url, "rb", transport_params=options)


def _bytesio(target: Target) -> Opener:
    import boto3

    client = boto3.client("s3")

    def opened() -> io.BytesIO:
        buffer = io.BytesIO()
        client.download_fileobj(target.bucket, target.key, buffer)
        buffer.seek(0)
        return buffer

    return opened


def _diskless_open(**options: Any) -> Callable[[Target], Opener]:
    def make(target: Target) -> Opener:
        import diskless

        return lambda: diskless.open(target.url, **options)

    return make


def _torch(opener: Opener, target: Target) -> str:
    import torch

    with opener() as file:
        return shown(torch.load(file, weights_only=True))


def _pickle(opener: Opener, target: Target) -> str:
    with opener() as file:
        return shown(pickle.load(file))


def shown(state: Any) -> str:
    """Return the ends of each tensor."""
    return repr([(float(tensor[0]), float(tensor[-1]), tensor.numel()) for tensor in state.values()])


def _parquet(opener: Opener, target: Target) -> str:
    import pandas

    with opener() as file:
        frame = pandas.read_parquet(file, columns=COLUMNS)
    return repr([(name, len(frame), float(frame[name].iloc[-1])) for name in COLUMNS])


def slices(size_bytes: int) -> list[tuple[int, int]]:
    """Return what each of the threads reads."""
    each = -(-size_bytes // THREADS)
    return [(start, min(start + each, size_bytes)) for start in range(0, size_bytes, each)]


def _threads(opener: Opener, target: Target) -> str:
    """Each thread opens the file, and reads a part of it."""
    sums = [0] * len(slices(target.size_bytes))

    def read(number: int, start: int, end: int) -> None:
        with opener() as file:
            file.seek(start)
            sums[number] = zlib.crc32(file.read(end - start))

    threads = [
        threading.Thread(target=read, args=(number, *span)) for number, span in enumerate(slices(target.size_bytes))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return repr(sums)


def _pass(opener: Opener, target: Target) -> str:
    """From the front to the back, a MiB at a time."""
    total, last = 0, b""
    with opener() as file:
        while block := file.read(MIB):
            total, last = total + len(block), block
    return repr((total, zlib.crc32(last)))


_CACHES = {name: _cached(name) for name in ("simplecache", "filecache", "blockcache")}
# What is opened, what is done with it, and who does it; the first is ours. s3fs has its 50 MiB blocks where all is
# read.
ROWS: dict[str, tuple[str, Work, dict[str, Callable[[Target], Opener]]]] = {
    "torch.load": (
        "state.pt",
        _torch,
        {"diskless ramcache": _ramcache, **_CACHES, "s3fs": _s3(50 * MIB, "readahead")},
    ),
    "read_parquet": (
        "table.parquet",
        _parquet,
        {
            "diskless ramcache": _ramcache,
            **_CACHES,
            "s3fs": _s3(1 * MIB, "readahead"),
            "open_parquet_file": _columns("s3"),
        },
    ),
    "open_parquet_file": (
        "table.parquet",
        _parquet,
        {"diskless ramcache": _columns("ramcache", target_protocol="s3"), "s3fs": _columns("s3")},
    ),
    "32 threads": (
        "bytes.bin",
        _threads,
        {"diskless ramcache": _ramcache, **_CACHES, "s3fs": _s3(8 * MIB, "readahead")},
    ),
    "pickle.load": (
        "state.pkl",
        _pickle,
        {
            "diskless.open": _diskless_open(),
            "smart_open": _smart_open,
            "s3fs": _s3(50 * MIB, "readahead"),
            "BytesIO": _bytesio,
        },
    ),
    "one pass": (
        "bytes.bin",
        _pass,
        {
            "diskless.open": _diskless_open(),
            "diskless.open once": _diskless_open(once=True),
            "smart_open": _smart_open,
            "s3fs": _s3(50 * MIB, "readahead"),
            "BytesIO": _bytesio,
        },
    ),
}
# Those of which the time is also taken where each connection gets 90 MB/s, and answers come late.
SLOW_ROWS = ("torch.load", "read_parquet", "open_parquet_file", "one pass")


def _contender(work: Work, make: Callable[[Target], Opener]) -> Contender:
    def set_up(target: Target) -> Transfer:
        if work in (_torch, _pickle):
            import torch  # noqa: F401  # needed by all; not what is compared
        elif work is _parquet:
            import pandas  # noqa: F401  # as above
            import pyarrow.parquet  # noqa: F401  # as above
        opener = make(target)

        def transfer() -> list[Held]:
            return [work(opener, target).encode()]

        return transfer

    return Contender(set_up)


DOORS = {
    f"{row}: {name}": _contender(work, make)
    for row, (_, work, contenders) in ROWS.items()
    for name, make in contenders.items()
}


if __name__ == "__main__":
    CONTENDERS.update(DOORS)
    contender_process.main()
    if "fsspec.parquet" in sys.modules:
        # pyarrow's threads free what they read a little after it has returned, and abort a process whose interpreter
        # ends meanwhile (apache/arrow#34314), in 1 of 70 runs on either filesystem. For files of its own diskless
        # waits, but these are fsspec's.
        os._exit(0)
