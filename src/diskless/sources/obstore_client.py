"""What all stores that obstore reads have in common: how its client is set up, and pinned reads of ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from diskless.errors import DisklessError, ObjectChanged, SourceUnavailable
from diskless.sources.failures import from_obstore
from diskless.sources.http import no_proxy, proxy_for, proxy_for_others
from diskless.sources.spec import Object, SourceSpec

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig

CHUNK_BYTES = 512 << 10
# No byte for as long as the second, or an answer that is not all there after the third, is given up and what is missing
# asked for again: a connection with less than 112 KB/s needs more than one request for the largest part.
_CONNECT_TIMEOUT, _STALL_TIMEOUT, _ANSWER_TIMEOUT = "10s", "30s", "300s"
# A proxy that is asked for no host: `*` are all names to obstore, and the networks all addresses, which `*` is not.
_NO_PROXY, _EVERYWHERE = "http://127.0.0.1:1", "0.0.0.0/0,::/0,*"


def client_options(spec: SourceSpec, origin: str, headers: Mapping[str, str] | None = None) -> ClientConfig:
    """Return how obstore's client reaches `origin`, a URL; `headers` go with every request."""
    client: ClientConfig = {
        "allow_http": origin.startswith("http:"),
        "connect_timeout": _CONNECT_TIMEOUT,
        "read_timeout": _STALL_TIMEOUT,
        "timeout": _ANSWER_TIMEOUT,
        "http1_only": True,
    }
    if headers:
        client["default_headers"] = dict(headers)
    if not spec.verify_tls:
        client["allow_invalid_certificates"] = True
    elif spec.ca_bundle:
        with open(spec.ca_bundle, "rb") as file:
            client["root_certificate"] = file.read()
    # All is said, no proxy too: obstore would read the rest from an environment, that of the Loader's start.
    proxy, others = proxy_for(origin, spec.environment), proxy_for_others(origin, spec.environment)
    client["proxy_url"] = proxy or others or _NO_PROXY
    if proxy is None:
        host = urlsplit(origin).hostname or ""
        # The server may send to hosts that are to be reached through the proxy.
        client["proxy_excludes"] = f"{host},{no_proxy(spec.environment)}" if others else _EVERYWHERE
    return client


def read_pinned(store: Any, path: str, spec: SourceSpec, entry: Object, start: int, end: int) -> Iterable[Any]:
    """Ask for the bytes from `start` to `end` of the version of `entry` that was listed, and return them in chunks.

    `path` is its key in `store`.
    """
    import obstore

    options: GetOptions = {"range": (start, end)}
    if entry.etag and not entry.etag.startswith("W/"):  # a weak one matches nothing (RFC 9110, 13.1.1)
        options["if_match"] = entry.etag
    if entry.version:
        options["version"] = entry.version
    try:
        answer = obstore.get(store, path, options=options)
        _check(entry, spec, (start, end), answer)
        if end - start <= CHUNK_BYTES:
            return (answer.bytes(),)  # at once is cheaper
    except DisklessError:
        raise
    except Exception as error:
        raise from_obstore(error, spec, entry, start) from None
    return _stream(answer, spec, entry, start)


def _stream(answer: GetResult, spec: SourceSpec, entry: Object, start: int) -> Iterator[Any]:
    try:
        yield from answer.stream(min_chunk_size=CHUNK_BYTES)
    except Exception as error:
        raise from_obstore(error, spec, entry, start) from None


def _check(entry: Object, spec: SourceSpec, asked: tuple[int, int], answer: GetResult) -> None:
    """Raise ObjectChanged for another version, SourceUnavailable for other bytes than those that were asked for."""
    meta = answer.meta
    size_bytes, found = meta["size"], meta["e_tag"]
    pinned = entry.etag is not None and found is not None
    # Some servers of other makes ignore If-Match.
    if (found or "").strip('"') != (entry.etag or "").strip('"') if pinned else size_bytes != entry.size_bytes:
        sizes = f"; it has {size_bytes} bytes and had {entry.size_bytes}" if size_bytes != entry.size_bytes else ""
        raise ObjectChanged(
            f"{spec.url.of(entry.key)} was replaced while it was read (at byte {asked[0]}{sizes}): load it again to "
            "get the new version"
        )
    if answer.range != asked or size_bytes != entry.size_bytes:
        raise SourceUnavailable(
            f"{spec.url.of(entry.key)}: bytes {answer.range[0]} to {answer.range[1]} of {size_bytes} came where "
            f"{asked[0]} to {asked[1]} of {entry.size_bytes} were asked for; does a proxy change what passes?"
        )
    if entry.etag is None and seconds(meta["last_modified"]) != entry.mtime_ns // 10**9:
        raise ObjectChanged(f"{spec.url.of(entry.key)} was written again while it was read (at byte {asked[0]})")


def seconds(moment: Any) -> int:
    """Return a time as seconds since the epoch; obstore says 1970 where a server does not say one."""
    return int(moment.timestamp())
