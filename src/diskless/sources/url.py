"""URLs of objects, read by our own parser: keys stay byte for byte as written, with no percent decoding."""

from __future__ import annotations

import re
from dataclasses import dataclass

from diskless.errors import InvalidURL, redact

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
# Bucket names, access-point aliases and the older, laxer names of us-east-1 (S3 user guide, "Bucket naming rules").
# Signed query parameters, pasted from an https:// URL: no part of a key, and secret.
_SIGNED = re.compile(r"(?i)[?&](X-Amz-[a-z-]+|Signature|AWSAccessKeyId|sig)=")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}")


@dataclass(frozen=True)
class URL:
    """``scheme://bucket/key``; an empty key is the whole bucket."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}" if self.key else f"{self.scheme}://{self.bucket}"


def parse_url(url: str) -> URL:
    """Return the parts of an ``s3://bucket/key`` URL; InvalidURL says what is wrong with any other."""
    if not isinstance(url, str):
        raise InvalidURL(f"a URL is a str such as 's3://bucket/prefix', not {type(url).__name__}")
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise InvalidURL(
            "this is no URL (one looks like 's3://bucket/prefix')" + ("" if "@" in url else f": {redact(url)!r}")
        )
    if scheme[1].lower() != "s3":
        raise InvalidURL(f"{scheme[1]}:// is not supported yet; s3://bucket/prefix is")
    bucket, _, key = url[scheme.end() :].partition("/")
    if "@" in bucket or ":" in bucket:
        # Never echoed: it may hold a secret, which may hold a slash, so that the @ comes much later.
        raise InvalidURL(
            "an s3:// URL holds no user name, keys or port; give keys as storage_options={'key': …, 'secret': …} or in "
            "the environment, a port in endpoint_url"
        )
    if _SIGNED.search(url):
        raise InvalidURL("an s3:// URL is not signed: leave out what begins with the question mark")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidURL(f"{bucket!r} is no bucket name, in {url!r}")
    segments = key.removesuffix("/").split("/") if key else []
    if any(segment in ("", ".", "..") for segment in segments):
        raise InvalidURL(f"{url!r}: a prefix with an empty, '.' or '..' part cannot be a path; mount what is above it")
    if _CONTROL.search(key):
        raise InvalidURL(f"{url!r} holds control characters, which cannot be in a path; mount what is above it")
    return URL("s3", bucket, key)
