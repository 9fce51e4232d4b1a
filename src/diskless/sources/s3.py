"""S3Source: lists a bucket by ListObjectsV2 and reads pinned ranges through obstore.

The listing is our own request: obstore's aborts on the first key with an empty or ``..`` part, and shows the directory
marker ``a/`` as an object ``a``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_plus, urlsplit

from diskless.errors import (
    AccessDenied,
    CredentialsError,
    DisklessError,
    NotFound,
    SourceUnavailable,
)
from diskless.sources import paths
from diskless.sources.ambient import ambient_credentials, domain
from diskless.sources.failures import failure, from_obstore
from diskless.sources.http import Endpoint, proxy_for, request
from diskless.sources.obstore_client import client_options, read_pinned
from diskless.sources.signing import canonical_query, sign_get
from diskless.sources.spec import Credentials, Listing, Object, SourceSpec
from diskless.sources.url import access_point

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Config, S3Credential, S3Store

_DEFAULT_REGION = "us-east-1"
# Credentials are renewed this long before they expire.
_RENEW_AHEAD_S = 300.0


class S3Source:
    """A bucket and prefix, or one object. Used by several threads at once."""

    def __init__(self, spec: SourceSpec, refresh: Callable[[], Credentials] | None = None) -> None:
        self._spec = spec
        self._refresh = refresh
        point = access_point(spec.url.bucket)
        self._region = (point and point[1]) or spec.region or _DEFAULT_REGION
        self._store: S3Store | None = None
        # Guards the store and the credentials.
        self._lock = threading.Lock()
        self._credentials = spec.credentials
        bucket = spec.url.bucket
        service = "s3-accesspoint" if point else "s3"
        base = urlsplit(spec.endpoint or _endpoint(service, self._region, spec))
        label = f"{point[3]}-{point[2]}" if point else bucket
        host = base.netloc if spec.path_style else f"{label}.{base.netloc}"
        origin = f"{base.scheme}://{host}"
        # As obstore takes it: with the path that some stores have their endpoint at.
        self._base = origin + base.path
        self._path = base.path + ("/" + bucket if spec.path_style else "")
        self._endpoint = Endpoint(origin, spec.ca_bundle, spec.verify_tls, proxy_for(origin, spec.environment))

    def list(self) -> Listing:
        key = self._spec.url.key
        if self._spec.url.version is not None:
            return self._list_version(key, self._spec.url.version)
        if key and not key.endswith("/"):
            exact, entries = self._look_up(key)
            if exact is not None:
                name = key.rpartition("/")[2]
                placed, refused = paths.place([replace(exact, path=name)])
                if refused:
                    raise NotFound(f"{self._spec.display}: this key cannot be a file: {refused[0][1]}")
                return Listing(placed, [], True)
            key += "/"
        else:
            entries = self._pages(key)
        placed, refused = paths.place(
            replace(entry, path=entry.key[len(key) :]) for entry in entries if entry.key != key
        )
        if not placed and not refused:
            raise NotFound(self._nothing_at(self._spec.url.key))
        return Listing(placed, refused, False)

    def _list_version(self, key: str, version: str) -> Listing:
        """Ask for the first byte of one version, which says what it is; a listing has no versions."""
        import obstore

        name = key.rpartition("/")[2]
        options: GetOptions = {"version": version, "range": (0, 1)}
        for attempt in (1, 2, 3):
            store, used = self._opened()
            try:
                meta = obstore.get(store, key, options=options).meta
                break
            except FileNotFoundError:
                raise NotFound(f"{self._spec.display}: there is no such version, or it marks a deletion") from None
            except Exception as error:
                if "416" in str(error) and "range" in options:  # an empty object has no first byte
                    del options["range"]
                    continue
                ours = from_obstore(error, self._spec, Object(key, name, 0, None, version, 0), 0)
                renews = isinstance(ours, (AccessDenied, CredentialsError)) and attempt == 1 and self._renewed(used)
                if not renews:
                    raise ours from None
        moment = int(meta["last_modified"].timestamp() * 1e9)
        placed, refused = paths.place([Object(key, name, meta["size"], meta["e_tag"], version, moment)])
        if refused:
            raise NotFound(f"{self._spec.display}: this key cannot be a file: {refused[0][1]}")
        return Listing(placed, [], True)

    def read(self, entry: Object, start: int, end: int) -> Iterator[Any]:
        store, used = self._opened()
        try:
            yield from read_pinned(store, entry.key, self._spec, entry, start, end)
        except (AccessDenied, CredentialsError) as error:
            if not self._renewed(used):
                raise
            raise SourceUnavailable(f"{error}; other credentials were taken since") from None

    def _opened(self) -> tuple[S3Store, Credentials | None]:
        """Return the store, and the credentials that it has, or newer ones."""
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store, self._credentials

    def _renewed(self, refused: Credentials | None) -> bool:
        """Take fresh credentials where the store has refused these; whether there are others now."""
        if refused is None:
            return False
        with self._lock:
            if self._credentials == refused:
                self._credentials, self._store = self._fresh(), None
            return self._credentials != refused

    def _open(self) -> S3Store:
        from obstore.store import S3Store

        spec = self._spec
        options: S3Config = {
            "region": self._region,
            "endpoint": self._base,
            "aws_endpoint_url_s3": self._base,
            "virtual_hosted_style_request": not spec.path_style,
            "request_payer": spec.request_payer,
            "skip_signature": spec.anonymous,
            **spec.options,  # type: ignore[typeddict-item]  # only what encrypts
        }
        provide = None if spec.anonymous else self._provide
        # The Loader retries, and only what is missing.
        return S3Store(
            spec.url.bucket,
            config=options,
            client_options=client_options(spec, self._base),
            retry_config={"max_retries": 0},
            credential_provider=provide,
        )

    def _provide(self) -> S3Credential:
        """Give obstore credentials, as often as it asks."""
        from datetime import datetime, timezone

        found = self._current()
        expires = datetime.fromtimestamp(found.expires_at, timezone.utc) if found.expires_at else None
        return {
            "access_key_id": found.key,
            "secret_access_key": found.secret,
            "token": found.token,
            "expires_at": expires,
        }

    def _current(self) -> Credentials:
        found = self._credentials
        if found is None or (found.expires_at is not None and found.expires_at - time.time() < _RENEW_AHEAD_S):
            found = self._credentials = self._fresh()
        assert found is not None
        return found

    def _fresh(self) -> Credentials | None:
        """Ask for credentials where they come from; those that were given and nobody renews stay as they are."""
        if self._refresh is not None:
            return self._refresh()
        if self._spec.credentials is None:
            return ambient_credentials(self._spec.environment, self._spec.region)
        return self._credentials

    def _look_up(self, key: str) -> tuple[Object | None, Sequence[Object]]:
        """Return the object whose key is exactly `key`, or what is below it as a prefix, in one request if possible."""
        objects, more = self._page({"prefix": key})
        if objects and objects[0].key == key:  # a key sorts before all that begin with it
            return objects[0], []
        if more is not None:
            return None, self._pages(key + "/")
        return None, [entry for entry in objects if entry.key.startswith(key + "/")]

    def _pages(self, prefix: str) -> Sequence[Object]:
        found: list[Object] = []
        parameters = {"prefix": prefix} if prefix else {}
        while True:
            objects, more = self._page(parameters)
            found.extend(objects)
            if more is None:
                return found
            parameters = {**parameters, "continuation-token": more}

    def _page(self, parameters: dict[str, str]) -> tuple[Sequence[Object], str | None]:
        root = self._get({"list-type": "2", "encoding-type": "url", **parameters})
        encoded = _text(root, "EncodingType") == "url"
        objects = [
            Object(
                key=_decoded(_text(item, "Key")) if encoded else _text(item, "Key"),
                path="",
                size_bytes=int(_text(item, "Size") or 0),
                etag=_text(item, "ETag") or None,
                version=None,
                mtime_ns=_nanoseconds(_text(item, "LastModified")),
            )
            for item in root.iter("Contents")
        ]
        more = _text(root, "NextContinuationToken") if _text(root, "IsTruncated") == "true" else ""
        return objects, more or None

    def _get(self, parameters: dict[str, str]) -> Any:
        """Return the XML of a request to the bucket, without namespaces."""
        import xml.etree.ElementTree as ElementTree

        status, answer_headers, body = self._ask(parameters)
        if status in (400, 401, 403) and self._renewed(self._credentials):  # a token that ended is a 400
            status, answer_headers, body = self._ask(parameters)
        if status != 200:
            raise failure(self._spec, status, body.decode("utf-8", "replace"), answer_headers, self._region)
        try:
            root = ElementTree.fromstring(body)
        except ElementTree.ParseError:
            raise SourceUnavailable(f"{self._endpoint.url} answered a listing with something that is no XML") from None
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root

    def _ask(self, parameters: dict[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        query, path = canonical_query(parameters), quote(self._path or "/", safe="/")
        headers = {"x-amz-request-payer": "requester"} if self._spec.request_payer else {}
        if not self._spec.anonymous:
            headers = sign_get(self._endpoint.host, path, query, self._current(), self._region, headers)
        return request(self._endpoint, "GET", f"{path}?{query}", headers)

    def _nothing_at(self, key: str) -> str:
        """Say that nothing is at `key`, and what near it is."""
        import difflib

        wanted, bucket = key.rstrip("/"), f"s3://{self._spec.url.bucket}"
        if not wanted:
            return f"the bucket {bucket} is empty"
        parent, _, name = wanted.rpartition("/")
        parent += "/" if parent else ""
        try:
            root = self._get({"list-type": "2", "encoding-type": "url", "delimiter": "/", "prefix": parent})
        except DisklessError:
            return f"no object at {bucket}/{key}"
        names = [_decoded(_text(item, "Prefix")) for item in root.iter("CommonPrefixes")]
        names += [_decoded(_text(item, "Key")) for item in root.iter("Contents")]
        names = [found for found in names if found not in (f"{wanted}/", parent)]
        near = difflib.get_close_matches(parent + name, [found.rstrip("/") for found in names], 3, 0.6)
        suggestions = [found for found in names if found.rstrip("/") in near]
        if suggestions:
            meant = " or ".join(f"{bucket}/{found}" for found in suggestions)
            return f"no object at {bucket}/{key} (did you mean {meant}?)"
        if names:
            return f"no object at {bucket}/{key}; below {bucket}/{parent} there are: {', '.join(sorted(names)[:5])}"
        return f"no object at {bucket}/{key}, nor anything below {bucket}/{parent}"


def _endpoint(service: str, region: str, spec: SourceSpec) -> str:
    """Return AWS's own endpoint: ``s3-fips.dualstack.us-east-1.amazonaws.com`` where both are asked for.

    Source: https://docs.aws.amazon.com/general/latest/gr/s3.html
    """
    fips, dualstack = "-fips" if spec.fips else "", ".dualstack" if spec.dualstack else ""
    return f"https://{service}{fips}{dualstack}.{region}.{domain(region)}"


def _decoded(text: str) -> str:
    """Undo ``encoding-type=url``, in which S3 writes a space as a plus sign."""
    return unquote_plus(text, errors="surrogateescape")


def _text(element: Any, name: str) -> str:
    found = element.find(name)
    return (found.text or "") if found is not None else ""


def _nanoseconds(text: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e9) if text else 0
