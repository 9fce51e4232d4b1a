"""What a store's refusal means: one table from HTTP status and S3 error code to our errors.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from diskless.errors import (
    AccessDenied,
    CredentialsError,
    DisklessError,
    NotFound,
    ObjectChanged,
    SourceUnavailable,
    TransferError,
    redact,
)
from diskless.sources.spec import Object, SourceSpec

_EXPIRED = {"ExpiredToken", "TokenRefreshRequired", "RequestExpired"}
_REJECTED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthFailure", "InvalidSecurity"}
_MISPLACED = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
# The last ones: bytes that were damaged on their way to the store, and two writers at once.
_PASSING = {
    "SlowDown",
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "ConditionalRequestConflict",
}
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_REGION = re.compile(r"<Region>([a-z0-9-]+)</Region>|expecting '([a-z0-9-]+)'")
# Where obstore's debug text says why a connection failed; its first line does not.
_CAUSE = re.compile(r'(?:message|error): "([^"]+)"|(InvalidCertificate)\(\s*([A-Za-z]+)')
# What to check, by what obstore's debug text says of the connection; the first that is found.
_ADVICE = {
    "InvalidCertificate": "is the right certificate authority in AWS_CA_BUNDLE?",
    "dns error": "is the host name in the endpoint right, and is there a network?",
    "kind: Connect": "is the server running, and is there a network to it?",
    "kind: Timeout": "it took too long: is the server overloaded, or the network slow?",
    "kind: Interrupted": "the connection ended too early: does the server, or a proxy, close it?",
    "Requested ": "does a proxy change what passes?",
    "Wanted range": "does a proxy change what passes?",
    "CONTENT_RANGE": "does a proxy change what passes?",
}
# Of a spec's options.
SECRET = (
    "account_key",
    "bearer_token",
    "client_secret",
    "sas_key",
    "service_account_key",
    "sse_customer_key_base64",
    "token",
)
_STATUS = re.compile(r"status code: (\d{3})|: (\d{3}) [A-Z]")


READING = "list and read it (s3:ListBucket, s3:GetObject)"
WRITING = "write it (s3:PutObject, s3:ListBucket, s3:AbortMultipartUpload)"


def failure(
    spec: SourceSpec,
    status: int,
    body: str,
    headers: Mapping[str, str],
    region: str,
    what: str | None = None,
    *,
    needs: str = READING,
) -> DisklessError:
    """Return the error for an answer that is no success. `what` is named in place of the URL."""
    is_s3 = spec.url.scheme == "s3"
    found = _CODE.search(body)
    code = found[1] if found else ""
    where = what or spec.display
    at = f" at {spec.endpoint}" if spec.endpoint else ""
    said = f"{status} {code}".strip()
    right = headers.get("x-amz-bucket-region") or next((a or b for a, b in _REGION.findall(body)), "")
    if code == "NoSuchBucket":
        return NotFound(f"no such bucket: {spec.url.of('')}{at}")
    if code in _MISPLACED or (300 <= status < 400 and right):
        hint = f"; it is in {right}: set AWS_REGION or storage_options={{'region': '{right}'}}" if right else ""
        return CredentialsError(f"{where}: {region} is the wrong region for this bucket ({said}){hint}")
    if 300 <= status < 400:
        to = redact(headers.get("location", "")).split("?")[0]
        return TransferError(
            f"{where}: the server sends elsewhere ({said}): is the endpoint right?{to and f' It is {to}'}"
        )
    if code in _EXPIRED:
        return CredentialsError(
            f"{where}: the credentials are expired ({said}); renew them, for instance with `aws sso login`"
        )
    if code in _REJECTED or status == 401:
        return CredentialsError(
            f"{where}: the credentials were not accepted ({said}); check the key, its secret and that they belong to "
            f"this endpoint{at}"
        )
    if code == "RequestTimeTooSkewed":
        return CredentialsError(f"{where}: the clock of this machine is off ({said})")
    if status == 403:
        return AccessDenied(
            f"{where}: access denied ({said}); may this caller {needs if is_s3 else 'list and read it'}?"
        )
    if status == 404:
        return NotFound(f"{where} does not exist{at} ({said})")
    if status >= 500 or status == 429 or code in _PASSING:
        advice = (
            "what does its log say?" if status == 500 else "it may be overloaded: fewer loads at once ask less of it"
        )
        unavailable = SourceUnavailable(f"{where}: the server answered {said}; {advice}")
        unavailable.asks_for_less = status in (429, 503) or code == "SlowDown"
        return unavailable
    return TransferError(f"{where}: the server answered {said}")


def from_obstore(error: Exception, spec: SourceSpec, entry: Object, start: int) -> DisklessError:
    """Return our error for one of obstore's while a range of `entry` was read."""
    text = str(error)
    what = spec.url.of(entry.key)
    kind = type(error).__name__
    if kind == "PreconditionError":
        return ObjectChanged(
            f"{what} was replaced while it was read (at byte {start}): load it again to get the new version"
        )
    if isinstance(error, FileNotFoundError):
        return ObjectChanged(f"{what} was deleted while it was read (at byte {start})")
    if "non-partial response" in text or "Range request not supported" in text:
        return TransferError(
            f"{what}: the server ignores ranges (it answers 200 to a request for a part); use one that serves them"
        )
    if "token request" in text and ("//169.254.169.254" in text or "metadata.google" in text):
        return CredentialsError(
            f"{what}: no credentials are in storage_options or the environment, and the instance gives none; for a "
            "public bucket use storage_options={'anon': True}"
        )
    status = _STATUS.search(text)
    if status:
        return failure(spec, int(status[1] or status[2]), text, {}, spec.region or "", what)
    cause = _CAUSE.search(text)
    said = text.split("\n")[0] + (f": {' '.join(filter(None, cause.groups()))}" if cause else "")
    at_byte = f" (at byte {start})" if start else ""
    advice = next((f"; {check}" for words, check in _ADVICE.items() if words in text), "")
    return SourceUnavailable(f"{what}: {redact(said, *_secrets(spec))}{at_byte}{advice}")


def _secrets(spec: SourceSpec) -> tuple[str | None, ...]:
    found = spec.credentials
    keys = (found.key, found.secret, found.token) if found else ()
    return (
        *keys,
        spec.url.query,
        *spec.headers.values(),
        *(spec.options[name] for name in SECRET if name in spec.options),
    )
