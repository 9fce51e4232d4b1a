"""AWS Signature Version 4.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import quote

from diskless.sources.spec import Credentials

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Return the query string, sorted and encoded as the signature wants it."""
    return "&".join(f"{quote(name, safe='-_.~')}={quote(parameters[name], safe='-_.~')}" for name in sorted(parameters))


def sign(
    method: str,
    host: str,
    path: str,
    query: str,
    credentials: Credentials,
    region: str,
    headers: Mapping[str, str],
    now: float | None = None,
    *,
    body_sha256: str = EMPTY_SHA256,
) -> dict[str, str]:
    """Return the headers of a signed request for the encoded `path` with `query` from `canonical_query`.

    `body_sha256` is that of the body in hexadecimal, of an empty one unless it is given, or UNSIGNED-PAYLOAD.
    """
    moment = time.gmtime(time.time() if now is None else now)
    stamp, day = time.strftime("%Y%m%dT%H%M%SZ", moment), time.strftime("%Y%m%d", moment)
    signed = {**headers, "host": host, "x-amz-content-sha256": body_sha256, "x-amz-date": stamp}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = sorted(signed)
    listed = ";".join(names)
    canonical = "\n".join(
        [method, path, query, *(f"{name}:{signed[name].strip()}" for name in names), "", listed, body_sha256]
    )
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + credentials.secret.encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    del signed["host"]  # http.client writes it
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.key}/{scope}, SignedHeaders={listed}, Signature={signature}"
    )
    return signed
