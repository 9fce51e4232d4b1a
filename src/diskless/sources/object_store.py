"""ObjectStoreSource: a bucket of Google's or Azure's, listed and read through obstore."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from diskless.errors import DisklessError, NotFound, TransferError
from diskless.sources import paths
from diskless.sources.failures import from_obstore
from diskless.sources.obstore_client import read_pinned
from diskless.sources.spec import Listing, Object, SourceSpec
from diskless.sources.stored_checksum import WithoutChecksums

_PAGE = 1000
# How obstore says that a key has an empty part or a part '..', which ends its listing.
_ODD_KEY = ("path segment", "illegal character", "InvalidPath")


class ObjectStoreSource(WithoutChecksums):
    """A bucket and prefix, or one object, in the store that `open_store` gives. Used by several threads at once."""

    def __init__(self, spec: SourceSpec, open_store: Callable[[SourceSpec], Any]) -> None:
        self._spec = spec
        self._open_store = open_store
        self._store: Any = None
        self._lock = threading.Lock()

    def list(self) -> Listing:
        key = self._spec.url.key
        nobody = Object(key, "", 0, None, None, 0)
        try:
            exact = self._exact(key)
            found = [exact] if exact is not None else self._below(key.rstrip("/"))
        except DisklessError:
            raise
        except Exception as error:
            if any(words in str(error) for words in _ODD_KEY):
                raise TransferError(
                    f"{self._spec.display}: a key there has an empty part or one that is '.' or '..', and the listing "
                    "cannot go past it; mount a prefix beside it"
                ) from None
            if isinstance(error, FileNotFoundError):
                raise NotFound(f"no such bucket: {self._spec.url.of('')}") from None
            raise from_obstore(error, self._spec, nobody, 0) from None
        placed, refused = paths.place(found)
        if exact is not None and refused:
            raise NotFound(f"{self._spec.display}: this key cannot be a file: {refused[0][1]}")
        if not placed and not refused:
            raise NotFound(f"no object at {self._spec.display}")
        return Listing(placed, refused, exact is not None)

    def read(self, entry: Object, start: int, end: int) -> Iterable[Any]:
        return read_pinned(self._opened(), entry.key, self._spec, entry, start, end)

    def _exact(self, key: str) -> Object | None:
        import obstore

        if not key or key.endswith("/"):
            return None
        try:
            return _object(obstore.head(self._opened(), key), key.rpartition("/")[2])
        except FileNotFoundError:
            return None

    def _below(self, prefix: str) -> list[Object]:  # type: ignore[valid-type]  # `list` is a method here
        import obstore

        start = f"{prefix}/" if prefix else ""
        metas = [
            meta
            for page in obstore.list(self._opened(), prefix or None, chunk_size=_PAGE)
            for meta in page
            if meta["path"].startswith(start)
        ]
        parents = {path[:at] for path in (meta["path"] for meta in metas) for at in _slashes(path)}
        # A directory marker 'a/' looks like an empty object 'a'.
        return [
            _object(meta, meta["path"][len(start) :]) for meta in metas if meta["size"] or meta["path"] not in parents
        ]

    def _opened(self) -> Any:
        with self._lock:
            if self._store is None:
                self._store = self._open_store(self._spec)
            return self._store


def _slashes(path: str) -> Iterator[int]:
    return (position for position, character in enumerate(path) if character == "/")


def _object(meta: Any, path: str) -> Object:
    etag = meta["e_tag"]
    if etag and not etag.endswith('"'):  # as Azure lists them
        etag = f'"{etag}"'
    return Object(meta["path"], path, meta["size"], etag, None, int(meta["last_modified"].timestamp() * 1e9))
