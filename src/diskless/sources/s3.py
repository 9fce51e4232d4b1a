"""S3Source: lists a bucket by ListObjectsV2 and reads pinned ranges through obstore.

The listing is our own request: obstore's aborts on the first key with an empty or ``..`` part, and shows the directory
marker ``a/`` as an object ``a``.
"""

from __future__ import annotations

import functools
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
    ObjectChanged,
    SourceUnavailable,
)
from diskless.sources import manifest, paths, xml
from diskless.sources.ambient import ambient_credentials, domain
from diskless.sources.checksums import Checksum
from diskless.sources.failures import failure, from_obstore
from diskless.sources.http import Connections, Endpoint, proxy_for, request
from diskless.sources.signing import EMPTY_SHA256, canonical_query, sign
from diskless.sources.spec import Credentials, Listing, Object, SourceSpec
from diskless.sources.stored_checksum import stored_checksum

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, S3Config, S3Credential, S3Store

CHUNK_BYTES = 512 << 10
_DEFAULT_REGION = "us-east-1"
# Credentials are renewed this long before they expire.
_RENEW_AHEAD_S = 300.0
# No byte for as long as the second, or an answer that is not all there after the third, is given up and what is missing
# asked for again: a connection with less than 112 KB/s needs more than one request for the largest part.
_CONNECT_TIMEOUT, _STALL_TIMEOUT, _ANSWER_TIMEOUT = "10s", "30s", "300s"


_LIST = {"list-type": "2", "encoding-type": "url"}


class S3Source:
    """A bucket and prefix, or one object. Used by several threads at once."""

    def __init__(self, spec: SourceSpec, refresh: Callable[[], Credentials] | None = None) -> None:
        self._spec = spec
        self._refresh = refresh
        self.region = spec.region or _DEFAULT_REGION
        self._store: S3Store | None = None
        # Guards the store and the credentials.
        self._lock = threading.Lock()
        self._credentials = spec.credentials
        bucket = spec.url.bucket
        base = urlsplit(spec.endpoint or f"https://s3.{self.region}.{domain(self.region)}")
        host = base.netloc if spec.path_style else f"{bucket}.{base.netloc}"
        origin = f"{base.scheme}://{host}"
        # As obstore takes it: with the path that some stores have their endpoint at.
        self._base = origin + base.path
        self._path = base.path + ("/" + bucket if spec.path_style else "")
        self.endpoint = Endpoint(origin, spec.ca_bundle, spec.verify_tls, proxy_for(origin, spec.environment))
        self.connections = Connections(self.endpoint)

    def list(self) -> Listing:
        key = self._spec.url.key
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
        directory_bucket = self._spec.url.bucket.endswith("--x-s3")
        return stored_checksum(
            entry, self._named(entry), functools.partial(self._about, entry), plain_etags=not directory_bucket
        )

    def read(self, entry: Object, start: int, end: int) -> Iterator[Any]:
        import obstore

        options: GetOptions = {"range": (start, end)}
        if entry.etag:
            options["if_match"] = entry.etag
        store, used = self._opened()
        try:
            answer = obstore.get(store, entry.key, options=options)
            self._check(entry, (start, end), answer)
            yield from answer.stream(min_chunk_size=CHUNK_BYTES)
        except DisklessError:
            raise
        except Exception as error:
            ours = from_obstore(error, self._spec, entry, start)
            if isinstance(ours, (AccessDenied, CredentialsError)) and self.renewed(used):
                ours = SourceUnavailable(f"{ours}; other credentials were taken since")
            raise ours from None

    def _check(self, entry: Object, asked: tuple[int, int], answer: GetResult) -> None:
        """Raise ObjectChanged for another version, SourceUnavailable for other bytes than those that were asked for."""
        size_bytes, found = answer.meta["size"], answer.meta["e_tag"]
        pinned = entry.etag is not None and found is not None
        # Some servers of other makes ignore If-Match.
        if (found or "").strip('"') != (entry.etag or "").strip('"') if pinned else size_bytes != entry.size_bytes:
            sizes = f"; it has {size_bytes} bytes and had {entry.size_bytes}" if size_bytes != entry.size_bytes else ""
            raise ObjectChanged(
                f"{self._named(entry)} was replaced while it was read (at byte {asked[0]}{sizes}): load it again to "
                "get the new version"
            )
        if answer.range != asked or size_bytes != entry.size_bytes:
            raise SourceUnavailable(
                f"{self._named(entry)}: bytes {answer.range[0]} to {answer.range[1]} of {size_bytes} came where "
                f"{asked[0]} to {asked[1]} of {entry.size_bytes} were asked for; does a proxy change what passes?"
            )

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
        client: ClientConfig = {
            "allow_http": self.endpoint.url.startswith("http:"),
            "connect_timeout": _CONNECT_TIMEOUT,
            "read_timeout": _STALL_TIMEOUT,
            "timeout": _ANSWER_TIMEOUT,
            "http1_only": True,
        }
        if not spec.verify_tls:
            client["allow_invalid_certificates"] = True
        elif spec.ca_bundle:
            with open(spec.ca_bundle, "rb") as file:
                client["root_certificate"] = file.read()
        # All is said, no proxy too: obstore would read the rest from an environment, that of the Loader's start.
        if self.endpoint.proxy is not None:
            client["proxy_url"] = self.endpoint.proxy
        else:
            client["proxy_url"] = "http://127.0.0.1:1"
            client["proxy_excludes"] = urlsplit(self.endpoint.url).hostname or ""
        options: S3Config = {
            "region": self.region,
            "endpoint": self._base,
            "aws_endpoint_url_s3": self._base,
            "virtual_hosted_style_request": not spec.path_style,
            "request_payer": spec.request_payer,
            "skip_signature": spec.anonymous,
        }
        provide = None if spec.anonymous else self._provide
        # The Loader retries, and only what is missing.
        return S3Store(
            spec.url.bucket,
            config=options,
            client_options=client,
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
        root = self._get(parameters)
        if _next(root) is None:
            return _objects(root, len(prefix))
        from concurrent.futures import ThreadPoolExecutor  # late: most listings have one page

        found: list[Object] = []
        with ThreadPoolExecutor(1, "diskless-pages") as ahead:
            # The next page is on its way while this one is read.
            while more := _next(root):
                page = ahead.submit(self._get, parameters | {"continuation-token": more})
                found.extend(_objects(root, len(prefix)))
                root = page.result()
        found.extend(_objects(root, len(prefix)))
        return found

    def page(self, parameters: dict[str, str]) -> tuple[Sequence[Object], str | None]:
        root = self._get(_LIST | parameters)
        return _objects(root, 0), _next(root)

    def _get(self, parameters: dict[str, str]) -> Any:
        """Return the XML of a request to the bucket."""
        status, answer_headers, body = self._ask("GET", parameters)
        if status != 200:
            raise failure(self._spec, status, body.decode("utf-8", "replace"), answer_headers, self.region)
        try:
            return xml.parse(body)
        except ValueError:
            raise SourceUnavailable(f"{self.endpoint.url} answered a listing with something that is no XML") from None

    def _about(
        self, entry: Object, method: str, parameters: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[Mapping[str, str], bytes]:
        """Return headers and body of a request for an object, of the version that was listed."""
        pinned = {**headers, "if-match": entry.etag} if entry.etag and "attributes" not in parameters else headers
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
        fields = {child.tag: child.text or "" for child in item}
        key, modified = fields.get("Key", ""), fields.get("LastModified", "")
        if encoded:
            key = _decoded(key)
        mtime_ns = int(datetime.fromisoformat(modified.replace("Z", "+00:00")).timestamp() * 1e9) if modified else 0
        etag = fields.get("ETag") or None
        objects.append(Object(key, key[start:], int(fields.get("Size") or 0), etag, None, mtime_ns))
    return objects


def _next(root: Any) -> str | None:
    """Return the token of the page after this one, if there is one."""
    return (xml.text(root, "NextContinuationToken") or None) if xml.text(root, "IsTruncated") == "true" else None


def _decoded(text: str) -> str:
    """Undo ``encoding-type=url``, in which S3 writes a space as a plus sign."""
    return unquote_plus(text, errors="surrogateescape")
