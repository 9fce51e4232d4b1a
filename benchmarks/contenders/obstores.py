"""obstore, which diskless itself is built on: its plain get, and the least loop that could do what diskless does."""

from __future__ import annotations

import os
import queue
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.at_once import by_threads, in_threads
from benchmarks.contenders.target import Held, Target, Transfer

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Store


def get(target: Target) -> Transfer:
    """`obstore.get(...).bytes()`: one request for each object, eight objects at once."""
    import obstore

    store = _store(target)
    return lambda: in_threads(lambda key: memoryview(obstore.get(store, key).bytes()), target.keys, 8)


def bare_loop(target: Target) -> Transfer:
    """The least that could do it: pinned, streaming gets of obstore in 8 threads, written to memfds by `pwrite`."""
    import obstore

    threads, part_bytes, chunk_bytes = 8, 32 << 20, 512 << 10
    store = _store(target)

    def transfer() -> list[Held]:
        listed = {entry["path"]: entry for page in obstore.list(store, target.prefix) for entry in page} if many else {}
        parts: queue.SimpleQueue[tuple[Any, int, int, int]] = queue.SimpleQueue()
        paths: list[Held] = []
        for key in target.keys:
            meta = listed[key] if many else obstore.head(store, key)
            descriptor = os.memfd_create("bare")
            os.ftruncate(descriptor, meta["size"])
            paths.append(f"/proc/self/fd/{descriptor}")
            for start in range(0, meta["size"], part_bytes):
                parts.put((meta, descriptor, start, min(start + part_bytes, meta["size"])))

        def fetch() -> None:
            while True:
                try:
                    meta, descriptor, offset, end = parts.get_nowait()
                except queue.Empty:
                    return
                options: Any = {"range": (offset, end), "if_match": meta["e_tag"]}
                for chunk in obstore.get(store, meta["path"], options=options).stream(min_chunk_size=chunk_bytes):
                    offset += os.pwrite(descriptor, chunk, offset)

        by_threads(fetch, threads)
        return paths

    many = len(target.keys) > 1
    return transfer


def _store(target: Target) -> S3Store:
    from obstore.store import S3Store

    client: ClientConfig = {"allow_http": not target.tls}
    if target.ca_bundle:
        client["root_certificate"] = Path(target.ca_bundle).read_bytes()
    return S3Store(
        target.bucket,
        endpoint=target.endpoint,
        region=os.environ["AWS_REGION"],
        virtual_hosted_style_request=False,
        client_options=client,
    )
