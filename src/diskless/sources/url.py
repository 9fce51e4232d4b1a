"""URLs of objects, read by our own parser: keys stay byte for byte as written, with no percent decoding."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from diskless.errors import InvalidURL, redact

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
# fsspec's chains: 'zip::s3://bucket/archive.zip' is 'zip://::s3://bucket/archive.zip'.
_CHAIN = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)::(?=.)")
# Signed query parameters, pasted from an https:// URL: no part of a key, and secret.
_SIGNED = re.compile(r"(?i)[?&](X-(?:Amz|Goog)-[a-z-]+|Signature|AWSAccessKeyId|GoogleAccessId|sig)=")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Bucket names, access-point aliases and the older, laxer names of us-east-1 (S3 user guide, "Bucket naming rules").
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}")
# Access points by name, as boto3 takes them for buckets: 'arn:aws:s3:region:account:accesspoint/name'.
_ACCESS_POINT = re.compile(r"arn:(aws[a-z-]*):s3:([a-z0-9-]+):([0-9]{12}):accesspoint[/:]([a-z0-9-]{3,50})")
# Also 'container@account.dfs.core.windows.net', as Azure writes it.
_CONTAINER = re.compile(r"(?:\$root|\$web|\$logs|[a-z0-9][a-z0-9-]{2,62})(@[a-z0-9]{3,24}\.(?:dfs|blob)\.[a-z0-9.-]+)?")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+)(?::[0-9]{1,5})?")
# What stands before the @ of these names a repository and is shown.
_NO_USER = ("github", "gist")

S3 = ("s3", "s3a")
GOOGLE = ("gs", "gcs")
AZURE = ("az", "abfs", "abfss", "adl")
WEB = ("http", "https")
LOCAL = ("file", "local")
# The stores that we read ourselves; all others are fsspec's.
OURS = (*S3, *GOOGLE, *AZURE, *WEB, *LOCAL)


@dataclass(frozen=True)
class URL:
    """``scheme://bucket/key``; an empty key is the whole bucket. Printing it shows no secret.

    Of ``http(s)://`` the bucket is the host, of ``file://`` there is none and the key is the absolute path; of fsspec's
    other URLs there is none either, and the key is all the rest without what may be a password.
    """

    scheme: str
    bucket: str
    key: str
    # The versionId of one version of an object.
    version: str | None = None
    # Of an http(s):// URL: it may be a signature.
    query: str = field(default="", repr=False)

    def __str__(self) -> str:
        version = f"?versionId={self.version}" if self.version else ""
        return f"{self.scheme}://{self.bucket}{'/' if self.bucket and self.key else ''}{self.key}{version}"

    @property
    def place(self) -> str:
        """Where it shows below the root: ``s3://models/bert/`` at ``s3/models/bert``.

        An archive's members show below its own place: ``zip://a/b::s3://models/x.zip`` at ``zip/s3/models/x.zip/a/b``.
        """
        return _place(str(self))

    def of(self, key: str) -> str:
        """Return how the object `key` of the same bucket is called."""
        return str(URL(self.scheme, self.bucket, key))


def parse_url(url: str) -> URL:
    """Return the parts of a URL; InvalidURL says what is wrong with it, and shows nothing that may be a secret."""
    if not isinstance(url, str):
        raise InvalidURL(f"a URL is a str such as 's3://bucket/prefix', not {type(url).__name__}")
    found = _SCHEME.match(url) or _CHAIN.match(url)
    if found is None:
        raise InvalidURL(
            "this is no URL (one looks like 's3://bucket/prefix')" + ("" if "@" in url else f": {redact(url)!r}")
        )
    scheme, rest = found[1].lower(), url[found.end() :]
    if found.re is _CHAIN or scheme not in OURS:
        return _of_fsspec(scheme, ("::" if found.re is _CHAIN else "") + rest)
    if scheme in WEB:
        return _web(scheme, rest)
    if scheme in LOCAL:
        return _local(rest)
    if scheme in AZURE:
        return _stored(scheme, rest, url, _CONTAINER, "container")
    return _stored("s3" if scheme in S3 else "gs", rest, url, _BUCKET, "bucket")


def _stored(scheme: str, rest: str, url: str, pattern: re.Pattern[str], kind: str) -> URL:
    bucket, _, key = rest.partition("/")
    if scheme == "s3" and bucket.startswith("arn:"):
        found = re.match(rf"{_ACCESS_POINT.pattern}(?:/|$)", rest)
        if found is None:
            raise InvalidURL(
                "this is no access point's ARN; one looks like "
                "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/name/key (Outposts, Object Lambda and multi-region "
                "access points are not supported)"
            )
        bucket, key = found[0].rstrip("/"), rest[found.end() :]
        pattern = _ACCESS_POINT
    if ("@" in rest or ":" in bucket) and not pattern.fullmatch(bucket):
        # Never echoed: it may hold a secret, which may hold a slash, so that the @ comes much later.
        raise InvalidURL(
            f"{_article(scheme)} {scheme}:// URL holds no user name, keys or port; give keys as storage_options="
            f"{_KEYS[scheme]} or in the environment, a port in endpoint_url"
        )
    if _SIGNED.search(url):
        raise InvalidURL(
            f"{_article(scheme)} {scheme}:// URL is not signed: leave out what begins with the question mark"
        )
    if not pattern.fullmatch(bucket):
        raise InvalidURL(f"{bucket!r} is no {kind} name, in {url!r}")
    version = None
    if scheme == "s3" and "?versionId=" in key:
        key, _, version = key.rpartition("?versionId=")
        if not version or not key or key.endswith("/"):
            raise InvalidURL(f"{url!r}: ?versionId= names one version of one object")
    _check_key(key, url)
    return URL(scheme, bucket, key, version)


# How the owner of a store's keys gives them.
_KEYS = {
    "s3": "{'key': …, 'secret': …}",
    "gs": "{'token': …}",
    **dict.fromkeys(AZURE, "{'account_name': …, 'account_key': …}"),
}


def access_point(bucket: str) -> tuple[str, str, str, str] | None:
    """Return partition, region, account and name of an access point's ARN; None for the name of a bucket."""
    found = _ACCESS_POINT.fullmatch(bucket)
    return (found[1], found[2], found[3], found[4]) if found else None


def _web(scheme: str, rest: str) -> URL:
    rest = rest.partition("#")[0]
    rest, _, query = rest.partition("?")
    host, _, key = rest.partition("/")
    if "@" in host:
        raise InvalidURL(
            f"an {scheme}:// URL holds no user name or password; give them as storage_options={{'headers': "
            "{'Authorization': …}}"
        )
    if not _HOST.fullmatch(host):
        # A password with a slash in it would end the host early.
        raise InvalidURL(f"this {scheme}:// URL has no valid host" + ("" if "@" in rest + query else f": {host!r}"))
    if _CONTROL.search(rest) or _CONTROL.search(query):
        raise InvalidURL(f"an {scheme}:// URL at {host} holds control characters; percent-encode them")
    if any(segment in (".", "..") for segment in key.split("/")):
        raise InvalidURL(f"{scheme}://{host}/{key!r}: a path with a '.' or '..' part; write it without")
    return URL(scheme, host.lower(), key, query=query)


def _local(rest: str) -> URL:
    if not rest.startswith("/"):
        raise InvalidURL(
            f"a file:// URL is absolute, such as 'file:///models/bert' (three slashes), not 'file://{rest}'"
        )
    if not rest.strip("/"):
        raise InvalidURL("file:/// is the whole disk; name a directory or a file below it")
    _check_key(rest[1:], f"file://{rest}")
    return URL("file", "", rest)


def _of_fsspec(scheme: str, rest: str) -> URL:
    """What fsspec makes of it is its own; here it is only made fit to be shown."""
    shown = rest.partition("?")[0] if "::" not in rest else re.sub(r"\?[^:]*(?=::|$)", "", rest)
    if scheme not in _NO_USER:
        shown = "::".join(_without_user(link) for link in shown.split("::"))
    shown = redact(shown)
    if _CONTROL.search(shown):
        raise InvalidURL(f"this {scheme}:// URL holds control characters, which cannot be in a path")
    if any(segment in (".", "..") for segment in re.split(r"/|::", shown)):
        raise InvalidURL(f"'{scheme}://{shown}': a part '.' or '..' cannot be in a path; write it without")
    return URL(scheme, "", shown)


def _without_user(link: str) -> str:
    """Return one link of a chain without ``user:password@``, where the password may hold anything, slashes too."""
    scheme, mark, rest = link.rpartition("://")
    user, at, after = rest.rpartition("@")
    # A user name ends before the path, unless a password (after a colon) holds a slash.
    return scheme + mark + (after if at and ("/" not in user or ":" in user.partition("/")[0]) else rest)


def _check_key(key: str, url: str) -> None:
    segments = key.removesuffix("/").split("/") if key else []
    if any(segment in ("", ".", "..") for segment in segments):
        raise InvalidURL(f"{url!r}: a prefix with an empty, '.' or '..' part cannot be a path; mount what is above it")
    if _CONTROL.search(key):
        raise InvalidURL(f"{url!r} holds control characters, which cannot be in a path; mount what is above it")


def _article(scheme: str) -> str:
    return "an" if scheme in ("s3", "az", "abfs", "abfss", "adl") else "a"


def _place(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in OURS and "::" in rest:
        own, _, inner = rest.partition("::")
        base = f"{scheme}/{_place(inner if '://' in inner else inner + '://' if '::' not in inner else inner)}"
    else:
        own, base = rest, scheme
    return "/".join([base, *(segment for segment in own.split("/") if segment)])
