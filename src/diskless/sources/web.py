"""WebSource: one object of a web server that answers requests for ranges."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from diskless.errors import DisklessError, NotFound
from diskless.sources import paths
from diskless.sources.failures import from_obstore
from diskless.sources.obstore_client import client_options, read_pinned, seconds
from diskless.sources.spec import Listing, Object, SourceSpec
from diskless.sources.stored_checksum import WithoutChecksums

if TYPE_CHECKING:
    from obstore.store import HTTPStore


class WebSource(WithoutChecksums):
    """An ``http(s)://`` URL, signed or not: the object is pinned to its ETag.

    Where the server gives none, or a weak one, it is pinned to its size and Last-Modified, and not shared.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._store: HTTPStore | None = None
        self._lock = threading.Lock()

    def list(self) -> Listing:
        """Ask for the first byte, not by HEAD: a URL that is signed for GET is good for nothing else."""
        import obstore

        key = self._spec.url.key
        name = key.rstrip("/").rpartition("/")[2] or self._spec.url.bucket
        nobody = Object(key, name, 0, None, None, 0)
        try:
            meta = obstore.get(self._opened(), "", options={"range": (0, 1)}).meta
        except FileNotFoundError:
            raise NotFound(f"{self._spec.display} does not exist (404)") from None
        except Exception as error:
            if "416" not in str(error):  # an empty object has no first byte
                raise from_obstore(error, self._spec, nobody, 0) from None
            meta = self._head(nobody)
        etag = meta["e_tag"]
        entry = Object(key, name, meta["size"], etag, None, seconds(meta["last_modified"]) * 10**9)
        placed, refused = paths.place([entry])
        if refused:
            raise NotFound(f"{self._spec.display}: this name cannot be a file: {refused[0][1]}")
        return Listing(placed, [], True)

    def _head(self, nobody: Object) -> Any:
        import obstore

        try:
            return obstore.head(self._opened(), "")
        except Exception as error:
            raise from_obstore(error, self._spec, nobody, 0) from None

    def read(self, entry: Object, start: int, end: int) -> Iterable[Any]:
        return read_pinned(self._opened(), "", self._spec, entry, start, end)

    def _opened(self) -> HTTPStore:
        from obstore.store import HTTPStore

        url = self._spec.url
        with self._lock:
            if self._store is None:
                origin = f"{url.scheme}://{url.bucket}"
                whole = f"{origin}/{url.key}" + (f"?{url.query}" if url.query else "")
                options = client_options(self._spec, origin, self._spec.headers)
                try:
                    self._store = HTTPStore(whole, client_options=options, retry_config={"max_retries": 0})
                except DisklessError:
                    raise
                except Exception as error:
                    raise from_obstore(error, self._spec, Object(url.key, "", 0, None, None, 0), 0) from None
            return self._store
