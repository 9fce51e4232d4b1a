"""What boto3 knows: a caller's session or client, and the profiles that need it. Runs in the user's process."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from diskless.errors import CredentialsError, InvalidOption, MissingDependency, redact
from diskless.sources.profiles import Profile
from diskless.sources.spec import Credentials, SourceSpec

# AWS's own endpoints, which the region says as well.
_AWS_ENDPOINT = re.compile(r"https://s3(?:\.[a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?/?")


def from_session(spec: SourceSpec, session: Any, *, keys: bool) -> tuple[SourceSpec, str | None]:
    """Take region, endpoint and, with `keys`, credentials from a `boto3.Session`, botocore's, or a client.

    Returns the spec and the client's addressing style.

    Raises InvalidOption for anything else, CredentialsError when it has no credentials.
    """
    get = getattr(session, "get_credentials", None)
    signer: Any = getattr(session, "_request_signer", None)
    meta: Any = getattr(session, "meta", None)
    if get is None and (signer is None or meta is None):
        raise InvalidOption(f"session= is a boto3.Session or a client of one, not {type(session).__name__}")
    region, style = getattr(session, "region_name", None) or getattr(meta, "region_name", None), None
    if get is None:
        endpoint = str(meta.endpoint_url)
        style = (meta.config.s3 or {}).get("addressing_style")
        spec = replace(spec, endpoint=None if _AWS_ENDPOINT.fullmatch(endpoint) else endpoint)
    elif region is None and hasattr(session, "get_config_variable"):  # botocore's session
        region = session.get_config_variable("region")
    spec = replace(spec, region="us-east-1" if region == "aws-global" else region)
    if not keys:
        return spec, style
    if get is None and _unsigned(meta.config.signature_version):
        return replace(spec, anonymous=True), style
    found = signer._credentials if get is None else _quietly(get, spec.display)
    if hasattr(found, "__await__"):
        found.close()
        raise InvalidOption("session= is a boto3.Session; one of aiobotocore cannot be used here")
    if found is None:
        raise CredentialsError(f"{spec.display}: the session that was given has no credentials")
    return _refreshing(spec, found, f"session {id(found)}"), style


def from_boto3_profile(spec: SourceSpec, profile: Profile) -> SourceSpec:
    """Let boto3 get the credentials of a profile that needs it; MissingDependency where it is not installed."""
    try:
        import boto3
    except ImportError:
        raise MissingDependency(
            f'the profile {profile.name!r} uses {profile.needs_boto3}, which needs boto3: pip install "diskless[s3]"'
        ) from None
    where = f"the profile {profile.name!r}"
    found = _quietly(lambda: boto3.Session(profile_name=profile.name).get_credentials(), where)
    if found is None:
        raise CredentialsError(f"boto3 found no credentials in {where}")
    # Not the identity of `found`, which is another in each call: a mount is to join its prefetch.
    import hashlib  # brings all of OpenSSL along

    settings = hashlib.sha256(repr(sorted(profile.settings.items())).encode()).hexdigest()
    return _refreshing(spec, found, f"profile {profile.name} {settings}")


def _unsigned(signature_version: object) -> bool:
    from botocore import UNSIGNED

    return signature_version is UNSIGNED


def _refreshing(spec: SourceSpec, found: Any, principal: str) -> SourceSpec:
    def refresh() -> Credentials:
        frozen = _quietly(found.get_frozen_credentials, spec.display)
        expiry = getattr(found, "_expiry_time", None)
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, expiry.timestamp() if expiry else None)

    first = refresh()
    renews = first.expires_at is not None
    return replace(spec, credentials=first, principal=principal if renews else "", refresh=refresh if renews else None)


def _quietly(call: Callable[[], Any], where: str) -> Any:
    """Do what boto3 does; its errors become ours, without what they may show, which the context of ours would too."""
    try:
        return call()
    except Exception as error:
        # botocore quotes what a credential_process wrote.
        said = redact(str(error)) if "custom-process" not in str(error) else "its credential_process failed"
        problem = f"{type(error).__name__}: {said}"
    raise CredentialsError(f"{where}: boto3 could not get credentials: {problem}")
