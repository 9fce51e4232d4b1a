"""S3Source: lists a bucket by ListObjectsV2 and reads pinned ranges through obstore.

The listing is our own request: obstore's aborts on the first key with an empty or ``..`` part, and shows the directory
marker ``a/`` as an object ``a``.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_plus, urlsplit

from diskless.errors import (
    AccessDenied,
    CredentialsError,
    DisklessError,
    NotFound,
    ObjectChanged,
    SourceUnavailable,
)
from diskless.sources import manifest, paths, xml
from diskless.sources.ambient import ambient_credentials, domain
from diskless.sources.checksums import Checksum
from diskless.sources.failures import failure, from_obstore
from diskless.sources.http import Connections, Endpoint, proxy_for, request
from diskless.sources.obstore_client import client_options, read_pinned
from diskless.sources.signing import EMPTY_SHA256, canonical_query, sign
from diskless.sources.spec import Credentials, Listing, Object, SourceSpec
from diskless.sources.stored_checksum import stored_checksum
from diskless.sources.url import access_point

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Config, S3Credential, S3Store

_DEFAULT_REGION = "us-east-1"
# Credentials are renewed this long before they expire.
_RENEW_AHEAD_S = 300.0


_LIST = {"list-type": "2", "encoding-type": "url"}
_TOKEN = re.compile(rb"<NextContinuationToken>([^<>&]+)</NextContinuationToken>")


class S3Source:
    """A bucket and prefix, or one object. Used by several threads at once."""

    def __init__(self, spec: SourceSpec, refresh: Callable[[], Credentials] | None = None) -> None:
        self._spec = spec
        self._refresh = refresh
        point = access_point(spec.url.bucket)
        self.region = (point and point[1]) or spec.region or _DEFAULT_REGION
        self._store: S3Store | None = None
        # Guards the store and the credentials.
        self._lock = threading.Lock()
        self._credentials = spec.credentials
        bucket = spec.url.bucket
        service = "s3-accesspoint" if point else "s3"
        base = urlsplit(spec.endpoint or _endpoint(service, self.region, spec))
        label = f"{point[3]}-{point[2]}" if point else bucket
        host = base.netloc if spec.path_style else f"{label}.{base.netloc}"
        origin = f"{base.scheme}://{host}"
        # As obstore takes it: with the path that some stores have their endpoint at.
        self._base = origin + base.path
        self._path = base.path + ("/" + bucket if spec.path_style else "")
        self.endpoint = Endpoint(origin, spec.ca_bundle, spec.verify_tls, proxy_for(origin, spec.environment))
        self.connections = Connections(self.endpoint)

    def list(self) -> Listing:
        key = self._spec.url.key
        if self._spec.url.version is not None:
            return self._list_version(key, self._spec.url.version)
        if key and not key.endswith("/"):
            exact, entries = self._look_up(key)
            if exact is not None:
                name = key.rpartition("/")[2]
                placed, refused = paths.place([exact._replace(path=name)])
                if refused:
                    raise NotFound(f"{self._spec.display}: this key cannot be a file: {refused[0][1]}")
                return Listing(placed, [], True)
            key += "/"
        else:
            entries = self._pages(key)
        placed, refused = paths.place(entry for entry in entries if entry.key != key)
        if not placed and not refused:
            raise NotFound(self._nothing_at(self._spec.url.key))
        listed = next((entry for entry in placed if entry.path == manifest.NAME), None)
        if listed is not None:
            url = self._spec.display.rstrip("/")
            _, body = self._about(listed, "GET", {}, {})
            placed, refused = manifest.chosen(manifest.read(body, url), placed, url), []
        return Listing(placed, refused, False)

    def checksum(self, entry: Object) -> Checksum:
        if entry.checksum is not None:
            return Checksum.parse(entry.checksum)
        return stored_checksum(entry, self._named(entry), functools.partial(self._about, entry))

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
                renews = isinstance(ours, (AccessDenied, CredentialsError)) and attempt == 1 and self.renewed(used)
                if not renews:
                    raise ours from None
        moment = int(meta["last_modified"].timestamp() * 1e9)
        placed, refused = paths.place([Object(key, name, meta["size"], meta["e_tag"], version, moment)])
        if refused:
            raise NotFound(f"{self._spec.display}: this key cannot be a file: {refused[0][1]}")
        return Listing(placed, [], True)

    def read(self, entry: Object, start: int, end: int) -> Iterable[Any]:
        store, used = self._opened()
        try:
            return read_pinned(store, entry.key, self._spec, entry, start, end)
        except (AccessDenied, CredentialsError) as error:
            if not self.renewed(used):
                raise
            raise SourceUnavailable(f"{error}; other credentials were taken since") from None

    def close(self) -> None:
        """End the connections that nobody uses."""
        with self._lock:
            self._store = None
        self.connections.close()

    def _named(self, entry: Object) -> str:
        return f"s3://{self._spec.url.bucket}/{entry.key}"

    def _opened(self) -> tuple[S3Store, Credentials | None]:
        """Return the store, and the credentials that it has, or newer ones."""
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store, self._credentials

    def renewed(self, refused: Credentials | None) -> bool:
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
            "region": self.region,
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

        found = self.current()
        expires = datetime.fromtimestamp(found.expires_at, timezone.utc) if found.expires_at else None
        return {
            "access_key_id": found.key,
            "secret_access_key": found.secret,
            "token": found.token,
            "expires_at": expires,
        }

    def current(self) -> Credentials:
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
        root = self._get(_LIST | {"prefix": key})
        objects = _objects(root, len(key) + 1)
        if objects and objects[0].key == key:  # a key sorts before all that begin with it
            return objects[0], []
        if _next(root) is not None:
            return None, self._pages(key + "/")
        return None, [entry for entry in objects if entry.key.startswith(key + "/")]

    def _pages(self, prefix: str) -> Sequence[Object]:
        parameters = _LIST | ({"prefix": prefix} if prefix else {})
        body = self._body(parameters)
        early = _early_token(body)
        if early is None and _next(root := self._parsed(body)) is None:
            return _objects(root, len(prefix))
        from concurrent.futures import Future, ThreadPoolExecutor  # late: most listings have one page

        found: list[Object] = []
        with ThreadPoolExecutor(1, "diskless-pages") as ahead:

            def ask(token: str) -> Future[bytes]:
                return ahead.submit(self._body, parameters | {"continuation-token": token})

            while True:
                # The next page is on its way while this one is parsed.
                page = ask(early) if early is not None else None
                root = self._parsed(body)
                found.extend(_objects(root, len(prefix)))
                more = _next(root)
                if more is None:
                    return found
                body = (page if page is not None and more == early else ask(more)).result()
                early = _early_token(body)

    def page(self, parameters: dict[str, str]) -> tuple[Sequence[Object], str | None]:
        root = self._get(_LIST | parameters)
        return _objects(root, 0), _next(root)

    def _get(self, parameters: dict[str, str]) -> Any:
        """Return the XML of a request to the bucket."""
        return self._parsed(self._body(parameters))

    def _body(self, parameters: dict[str, str]) -> bytes:
        status, answer_headers, body = self._ask("GET", parameters)
        if status != 200:
            raise failure(self._spec, status, body.decode("utf-8", "replace"), answer_headers, self.region)
        return body

    def _parsed(self, body: bytes) -> Any:
        try:
            return xml.parse(body)
        except ValueError:
            raise SourceUnavailable(f"{self.endpoint.url} answered a listing with something that is no XML") from None

    def _about(
        self, entry: Object, method: str, parameters: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[Mapping[str, str], bytes]:
        """Return headers and body of a request for an object, of the version that was listed."""
        pinned = {**headers, "if-match": entry.etag} if entry.etag and "attributes" not in parameters else headers
        if entry.version:
            parameters = {**parameters, "versionId": entry.version}
        status, answer_headers, body = self._ask(method, parameters, entry.key, pinned)
        if status not in (200, 206):
            named = self._named(entry)
            if status in (404, 412):
                raise ObjectChanged(f"{named} was {'deleted' if status == 404 else 'replaced'} since it was listed")
            said = body.decode("utf-8", "replace")
            raise failure(self._spec, status, said, answer_headers, self.region, named)
        return answer_headers, body

    def _ask(
        self, method: str, parameters: Mapping[str, str], key: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return the answer to a request for the bucket or an object of it, with other credentials if these end."""
        answer = self._ask_once(method, parameters, key, headers or {})
        if answer[0] in (400, 401, 403) and self.renewed(self._credentials):  # a token that ended is a 400
            answer = self._ask_once(method, parameters, key, headers or {})
        return answer

    def _ask_once(
        self, method: str, parameters: Mapping[str, str], key: str, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        target, headers = self.signed(method, parameters, key, headers)
        return request(self.endpoint, method, target, headers, connection=self.connections.mine())

    def signed(
        self,
        method: str,
        parameters: Mapping[str, str],
        key: str,
        headers: Mapping[str, str],
        body_sha256: str = EMPTY_SHA256,
    ) -> tuple[str, Mapping[str, str]]:
        """Return the target and the headers of a request for the bucket, or the object `key` of it."""
        path = quote(f"{self._path}/{key}" if key else self._path or "/", safe="/")
        query = canonical_query(parameters)
        if self._spec.request_payer:
            headers = {**headers, "x-amz-request-payer": "requester"}
        if key:
            headers = {**headers, **_customer_key(self._spec.options.get("sse_customer_key_base64"))}
        if not self._spec.anonymous:
            credentials, host = self.current(), self.endpoint.host
            headers = sign(method, host, path, query, credentials, self.region, headers, body_sha256=body_sha256)
        return f"{path}?{query}" if query else path, headers

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
        names = [_decoded(xml.text(item, "Prefix")) for item in root.iter("CommonPrefixes")]
        names += [_decoded(xml.text(item, "Key")) for item in root.iter("Contents")]
        names = [found for found in names if found not in (f"{wanted}/", parent)]
        near = difflib.get_close_matches(parent + name, [found.rstrip("/") for found in names], 3, 0.6)
        suggestions = [found for found in names if found.rstrip("/") in near]
        if suggestions:
            meant = " or ".join(f"{bucket}/{found}" for found in suggestions)
            return f"no object at {bucket}/{key} (did you mean {meant}?)"
        if names:
            return f"no object at {bucket}/{key}; below {bucket}/{parent} there are: {', '.join(sorted(names)[:5])}"
        return f"no object at {bucket}/{key}, nor anything below {bucket}/{parent}"


def _objects(root: Any, start: int) -> list[Object]:
    """Return the objects of a page; their paths are what stands in their keys from `start` on."""
    from datetime import datetime

    encoded = xml.text(root, "EncodingType") == "url"
    objects = []
    for item in root.iter("Contents"):
        key = item.findtext("Key", "")
        if encoded:
            key = _decoded(key)
        modified = item.findtext("LastModified")
        mtime_ns = int(datetime.fromisoformat(modified.replace("Z", "+00:00")).timestamp() * 1e9) if modified else 0
        etag = item.findtext("ETag") or None
        objects.append(Object(key, key[start:], int(item.findtext("Size") or 0), etag, None, mtime_ns))
    return objects


def _next(root: Any) -> str | None:
    """Return the token of the page after this one, if there is one."""
    return (xml.text(root, "NextContinuationToken") or None) if xml.text(root, "IsTruncated") == "true" else None


def _early_token(body: bytes) -> str | None:
    """Return what `_next` is likely to return of a page that is not parsed yet; one that is escaped is left to that."""
    found = _TOKEN.search(body)
    return found[1].decode() if found else None


def _customer_key(key: str | None) -> Mapping[str, str]:
    """Return the headers of a request for an object that is encrypted with this key (SSE-C), in Base64."""
    if key is None:
        return {}
    prefix = "x-amz-server-side-encryption-customer"
    md5 = hashlib.md5(base64.b64decode(key), usedforsecurity=False).digest()
    return {
        f"{prefix}-algorithm": "AES256",
        f"{prefix}-key": key,
        f"{prefix}-key-md5": base64.b64encode(md5).decode(),
    }


def _endpoint(service: str, region: str, spec: SourceSpec) -> str:
    """Return AWS's own endpoint: ``s3-fips.dualstack.us-east-1.amazonaws.com`` where both are asked for.

    Source: https://docs.aws.amazon.com/general/latest/gr/s3.html
    """
    fips, dualstack = "-fips" if spec.fips else "", ".dualstack" if spec.dualstack else ""
    return f"https://{service}{fips}{dualstack}.{region}.{domain(region)}"


def _decoded(text: str) -> str:
    """Undo ``encoding-type=url``, in which S3 writes a space as a plus sign."""
    return unquote_plus(text, errors="surrogateescape")
