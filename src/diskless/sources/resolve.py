"""From a URL, a session and options to a SourceSpec, in the user's process and without the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from diskless.errors import CredentialsError, InvalidOption, MissingDependency, redact
from diskless.sources.profiles import Profile, read_profile, service_setting
from diskless.sources.spec import Credentials, SourceSpec
from diskless.sources.url import parse_url

# s3fs's words, and obstore's where they differ, for what they mean here.
_OPTIONS = {
    "key": "key",
    "aws_access_key_id": "key",
    "access_key_id": "key",
    "secret": "secret",
    "aws_secret_access_key": "secret",
    "secret_access_key": "secret",
    "token": "token",
    "aws_session_token": "token",
    "session_token": "token",
    "anon": "anon",
    "skip_signature": "anon",
    "profile": "profile",
    "endpoint_url": "endpoint",
    "endpoint": "endpoint",
    "region": "region",
    "region_name": "region",
    "use_ssl": "use_ssl",
    "verify": "verify",
    "addressing_style": "addressing_style",
    "requester_pays": "requester_pays",
    "client_kwargs": "client_kwargs",
    "config_kwargs": "config_kwargs",
}
_NESTED = {
    "client_kwargs": {
        "endpoint_url": "endpoint",
        "region_name": "region",
        "verify": "verify",
        "use_ssl": "use_ssl",
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_session_token": "token",
    },
    "config_kwargs": {"s3": "s3", "region_name": "region"},
}


def resolve(
    url: str, *, session: object | None = None, storage_options: Mapping[str, object] | None = None
) -> SourceSpec:
    """Return what the Loader needs to read `url`: as `storage_options` say, else `session`, else the environment.

    Raises InvalidURL, InvalidOption, CredentialsError, or MissingDependency where only boto3 knows the way.
    """
    parsed = parse_url(url)
    options = _flatten(storage_options or {})
    if session is not None:
        spec = _from_session(SourceSpec(parsed), session)
        profile = Profile("", {}, {})
    else:
        explicit = options.get("key") or (os.environ.get("AWS_ACCESS_KEY_ID") and "profile" not in options)
        profile = _profile(options, tolerate=bool(explicit or options.get("anon")))
        spec = SourceSpec(parsed)
    endpoint = (
        options.get("endpoint")
        or spec.endpoint
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or service_setting(profile, "endpoint_url")
        or profile.settings.get("endpoint_url")
    )
    region = (
        options.get("region")
        or spec.region
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or profile.settings.get("region")
    )
    verify = options.get("verify", True)
    style = options.get("addressing_style", "auto")
    spec = replace(
        spec,
        endpoint=_endpoint(endpoint, options.get("use_ssl")),
        region=region,
        path_style=style == "path" or (style == "auto" and (endpoint is not None or "." in parsed.bucket)),
        ca_bundle=verify if isinstance(verify, str) else _ca_bundle(profile),
        verify_tls=verify is not False,
        request_payer=bool(options.get("requester_pays")),
    )
    if options.get("anon") or os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes"):
        return replace(spec, anonymous=True, credentials=None, refresh=None)
    return _with_credentials(spec, options, profile, session)


def _with_credentials(spec: SourceSpec, options: Mapping[str, Any], profile: Profile, session: object) -> SourceSpec:
    if options.get("key") or options.get("secret"):
        if not (options.get("key") and options.get("secret")):
            raise InvalidOption("storage_options need both 'key' and 'secret', or neither")
        return replace(
            spec, credentials=Credentials(options["key"], options["secret"], options.get("token")), refresh=None
        )
    if session is not None:
        return spec
    if "profile" not in options and os.environ.get("AWS_ACCESS_KEY_ID"):
        secret = os.environ.get("AWS_SECRET_ACCESS_KEY")
        if not secret:
            raise CredentialsError("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not")
        token = os.environ.get("AWS_SESSION_TOKEN") or os.environ.get("AWS_SECURITY_TOKEN")
        return replace(spec, credentials=Credentials(os.environ["AWS_ACCESS_KEY_ID"], secret, token))
    if profile.needs_boto3 is not None:
        return _from_boto3_profile(spec, profile)
    if "aws_access_key_id" in profile.settings:
        secret = profile.settings.get("aws_secret_access_key")
        if not secret:
            raise CredentialsError(
                f"the profile {profile.name!r} has an aws_access_key_id and no aws_secret_access_key"
            )
        token = profile.settings.get("aws_session_token")
        return replace(spec, credentials=Credentials(profile.settings["aws_access_key_id"], secret, token))
    if "profile" in options or os.environ.get("AWS_PROFILE"):
        raise CredentialsError(
            f"the profile {profile.name!r} holds no credentials; it is not skipped for those of the instance"
        )
    return replace(spec, principal=_ambient())


def _ambient() -> str:
    """Name the caller that the Loader will find: a role, or the container or instance this runs on."""
    names = ("AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
    return "ambient " + " ".join(os.environ.get(name, "") for name in names)


def _profile(options: Mapping[str, Any], *, tolerate: bool) -> Profile:
    """Read the profile; one that is missing does not matter where credentials come from elsewhere."""
    try:
        return read_profile(options.get("profile"))
    except CredentialsError:
        if tolerate:
            return Profile("", {}, {})
        raise


def _ca_bundle(profile: Profile) -> str | None:
    return os.environ.get("AWS_CA_BUNDLE") or profile.settings.get("ca_bundle") or None


def _endpoint(endpoint: str | None, use_ssl: object) -> str | None:
    if endpoint is None:
        return None
    if "://" not in endpoint:
        raise InvalidOption("an endpoint is a URL such as 'https://minio.example:9000'")
    if "@" in endpoint.split("://", 1)[1].split("/", 1)[0]:
        raise InvalidOption("an endpoint holds no user name or keys; give them as 'key' and 'secret'")
    endpoint = endpoint.rstrip("/")
    return "http://" + endpoint.split("://", 1)[1] if use_ssl is False else endpoint


def _flatten(storage_options: Mapping[str, object]) -> dict[str, Any]:
    """Return the options by our own words; InvalidOption names one that is not known, never its value."""
    if not isinstance(storage_options, Mapping):
        raise InvalidOption(f"storage_options is a mapping, not {type(storage_options).__name__}")
    flat: dict[str, Any] = {}
    for name, value in storage_options.items():
        if name not in _OPTIONS:
            raise InvalidOption(f"storage_options: {name!r} is not known; known are {', '.join(sorted(_OPTIONS))}")
        if name not in _NESTED:
            if value is not None:
                flat[_OPTIONS[name]] = value
            continue
        if not isinstance(value, Mapping):
            raise InvalidOption(f"storage_options: {name!r} is a mapping, not {type(value).__name__}")
        for inner, inner_value in value.items():
            if inner not in _NESTED[name]:
                known = ", ".join(sorted(_NESTED[name]))
                raise InvalidOption(f"storage_options: {name}[{inner!r}] is not known; known are {known}")
            if inner == "s3":
                flat["addressing_style"] = (inner_value or {}).get("addressing_style", "auto")
            elif inner_value is not None:
                flat[_NESTED[name][inner]] = inner_value
    for name in ("key", "secret", "token", "profile", "endpoint", "region"):
        if name in flat and not isinstance(flat[name], str):
            raise InvalidOption(f"storage_options: {name!r} is a string, not {type(flat[name]).__name__}")
    return flat


def _from_session(spec: SourceSpec, session: Any) -> SourceSpec:
    """Take credentials, region and endpoint from a `boto3.Session` (or botocore's, or a client's)."""
    client_credentials = getattr(getattr(session, "_request_signer", None), "_credentials", None)
    get = getattr(session, "get_credentials", None)
    found = client_credentials if get is None else _quietly(get, spec.display)
    if get is None and client_credentials is None:
        raise InvalidOption(f"session= is a boto3.Session or a client of one, not {type(session).__name__}")
    if found is None:
        raise CredentialsError(f"{spec.display}: the session that was given has no credentials")
    region = getattr(session, "region_name", None) or getattr(getattr(session, "meta", None), "region_name", None)
    endpoint = getattr(getattr(session, "meta", None), "endpoint_url", None) if get is None else None
    if endpoint is not None and endpoint.rstrip("/").endswith(".amazonaws.com"):
        endpoint = None
    return replace(_refreshing(spec, found), region=region, endpoint=endpoint)


def _from_boto3_profile(spec: SourceSpec, profile: Profile) -> SourceSpec:
    try:
        import boto3
    except ImportError:
        raise MissingDependency(
            f'the profile {profile.name!r} uses {profile.needs_boto3}, which needs boto3: pip install "diskless[s3]"'
        ) from None
    found = _quietly(boto3.Session(profile_name=profile.name).get_credentials, spec.display)
    if found is None:
        raise CredentialsError(f"boto3 found no credentials in the profile {profile.name!r}")
    return _refreshing(spec, found)


def _refreshing(spec: SourceSpec, found: Any) -> SourceSpec:
    def refresh() -> Credentials:
        frozen = _quietly(found.get_frozen_credentials, spec.display)
        expiry = getattr(found, "_expiry_time", None)
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token, expiry.timestamp() if expiry else None)

    first = refresh()
    renews = first.expires_at is not None
    principal = f"session {id(found)}" if renews else ""
    return replace(spec, credentials=first, principal=principal, refresh=refresh if renews else None)


def _quietly(call: Callable[[], Any], where: str) -> Any:
    """Do what boto3 does; its errors become ours, without what they may show."""
    try:
        return call()
    except Exception as error:
        raise CredentialsError(f"{where}: boto3 could not get credentials: {redact(str(error))}") from None
