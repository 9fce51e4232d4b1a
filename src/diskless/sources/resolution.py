"""From a URL, a session and options to a SourceSpec, in the user's process."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from diskless.errors import CredentialsError, InvalidOption, InvalidURL
from diskless.sources.azure import resolve_azure
from diskless.sources.environment import captured
from diskless.sources.filesystems import check_filesystem, from_filesystem, from_url, options_of, whole_url
from diskless.sources.google import resolve_google
from diskless.sources.options import as_s3fs, flatten
from diskless.sources.profiles import Profile, read_profile
from diskless.sources.sessions import from_boto3_profile, from_session
from diskless.sources.spec import Credentials, SourceSpec
from diskless.sources.untranslated import TUNING, Untranslated, unknown
from diskless.sources.url import AZURE, GOOGLE, LOCAL, URL, WEB, access_point, parse_url

_log = logging.getLogger("diskless")
_OF_HTTP_FILESYSTEM = frozenset(
    {"auth", "cookies", "proxy", "client_kwargs", "get_client", "encoded", "simple_links", "same_scheme", "size_policy"}
    | {"ssl", "timeout", "allow_redirects", "params", "proxy_auth"}
)
# Buckets that can be a label of a host name; a dot would not match the wildcard of the certificate.
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_IP = re.compile(r"[0-9.]+|.*:.*")


def resolve(
    url: str,
    *,
    session: object | None = None,
    storage_options: Mapping[str, object] | None = None,
    fs: object | None = None,
) -> SourceSpec:
    """Return what is needed to read `url`: as `fs` or `storage_options` say, else `session`, else the environment.

    The network is used only by boto3, for a session or a profile that needs it, and by filesystems of fsspec.

    Raises InvalidURL, InvalidOption, CredentialsError, or MissingDependency where only another package knows the way.
    """
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise InvalidOption(f"storage_options is a mapping, not {type(storage_options).__name__}")
    options = storage_options if storage_options is not None else {}
    if fs is not None:
        if session is not None or options:
            raise InvalidOption("fs= says all about the caller: it goes with neither session= nor storage_options=")
        return _resolve_filesystem(url, fs)
    parsed = parse_url(url)
    try:
        return _resolve(parsed, url, session, options)
    except Untranslated as only:
        _warn(parsed, only)
    return from_url(parsed, url, as_s3fs(options) if parsed.scheme == "s3" else options)


def _resolve_filesystem(url: str, fs: object) -> SourceSpec:
    """Read the store of a caller's filesystem by ourselves where we understand all that it was made with."""
    scheme, options = check_filesystem(url, fs), options_of(fs)
    if options is None:
        return from_filesystem(url, fs)
    parsed = parse_url(url if "://" in url else whole_url(scheme, url))
    try:
        return _resolve(parsed, url, None, options)
    except Untranslated as only:
        _warn(parsed, only)
    return from_filesystem(url, fs)


def _warn(url: URL, only: Untranslated) -> None:
    _log.warning(
        "%s is read the slow way, by a thread of this process through fsspec: %r is understood only there",
        url,
        only.option,
    )


def _resolve(parsed: URL, url: str, session: object | None, options: Mapping[str, object]) -> SourceSpec:
    if parsed.scheme == "s3":
        return _resolve_s3(parsed, session, options)
    if session is not None:
        raise InvalidOption(f"session= is for s3:// URLs, not {parsed.scheme}://")
    if parsed.scheme in WEB:
        return _resolve_web(parsed, options)
    if parsed.scheme in LOCAL:
        for name in options:
            if name not in ("auto_mkdir", *TUNING):
                raise InvalidOption(f"storage_options: a file:// URL takes none, and there is {name!r}")
        return SourceSpec(parsed)
    if parsed.scheme in GOOGLE:
        return resolve_google(parsed, options)
    if parsed.scheme in AZURE:
        return resolve_azure(parsed, options)
    return from_url(parsed, url, options)


def _resolve_web(parsed: URL, options: Mapping[str, Any]) -> SourceSpec:
    """Take up headers, in the words of fsspec's HTTPFileSystem, and whom to trust."""
    for name in options:
        if name not in ("headers", "verify", *TUNING):
            raise unknown(name, _OF_HTTP_FILESYSTEM, ("headers", "verify"))
    headers, verify = options.get("headers") or {}, options.get("verify", True)
    if not isinstance(headers, Mapping) or not all(isinstance(part, str) for pair in headers.items() for part in pair):
        raise InvalidOption("storage_options: 'headers' is a mapping of str to str")
    return SourceSpec(
        parsed,
        ca_bundle=verify if isinstance(verify, str) else None,
        verify_tls=verify is not False,
        headers=dict(headers),
        environment=captured(),
    )


def _resolve_s3(parsed: URL, session: object | None, storage_options: Mapping[str, object]) -> SourceSpec:
    if parsed.bucket.endswith("--x-s3"):
        raise InvalidURL(
            f"{parsed}: a directory bucket (S3 Express One Zone) wants sessions of its own, which are not made here; "
            "mount a copy in another bucket"
        )
    options = flatten(storage_options)
    anonymous, own_keys = options.get("anon"), bool(options.get("key") or options.get("secret"))
    spec, style = SourceSpec(parsed, environment=captured()), None
    if session is not None:
        spec, style = from_session(spec, session, keys=not anonymous and not own_keys)
        # What the session's profile says beside credentials; a client has taken that up already.
        name = getattr(session, "profile_name", None)
        profile = _profile(name, tolerate=True) if name else Profile("")
    else:
        elsewhere = own_keys or anonymous or ("profile" not in options and os.environ.get("AWS_ACCESS_KEY_ID"))
        profile = _profile(options.get("profile"), tolerate=bool(elsewhere))
        if anonymous is None and not own_keys and "profile" not in options:
            anonymous = _true("AWS_SKIP_SIGNATURE")
    verify = options.get("verify", True)
    endpoint = _endpoint(options.get("endpoint") or spec.endpoint or _configured_endpoint(profile), options)
    style = options.get("addressing_style") or style or profile.addressing_style
    region = options.get("region") or spec.region or os.environ.get("AWS_REGION")
    spec = replace(
        spec,
        endpoint=endpoint,
        region=region or os.environ.get("AWS_DEFAULT_REGION") or profile.settings.get("region"),
        path_style=_path_style(parsed, endpoint, style) and access_point(parsed.bucket) is None,
        ca_bundle=verify if isinstance(verify, str) else _ca_bundle(profile),
        verify_tls=verify is not False,
        request_payer=bool(options.get("requester_pays")),
        fips=_endpoint_kind("fips", options, profile),
        dualstack=_endpoint_kind("dualstack", options, profile),
        options={"server_side_encryption": "sse-c", "sse_customer_key_base64": options["sse_key"]}
        if "sse_key" in options
        else {},
    )
    if endpoint is not None and (spec.fips or spec.dualstack):
        raise InvalidOption(
            "an endpoint of your own goes with neither FIPS nor dual-stack, which are endpoints of AWS's; leave out "
            "one of them (AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT, use_fips_endpoint, use_dualstack_endpoint)"
        )
    if anonymous or spec.anonymous:
        return replace(spec, anonymous=True, credentials=None, refresh=None)
    if own_keys:
        if not (options.get("key") and options.get("secret")):
            raise InvalidOption("storage_options need both 'key' and 'secret', or neither")
        return replace(spec, credentials=Credentials(options["key"], options["secret"], options.get("token")))
    return spec if session is not None else _with_credentials(spec, profile, explicit="profile" in options)


def _with_credentials(spec: SourceSpec, profile: Profile, *, explicit: bool) -> SourceSpec:
    """Look for credentials in boto3's order; the environment is not asked where a profile was named in the call."""
    if not explicit and os.environ.get("AWS_ACCESS_KEY_ID"):
        secret = os.environ.get("AWS_SECRET_ACCESS_KEY")
        if not secret:
            raise CredentialsError("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not")
        token = os.environ.get("AWS_SESSION_TOKEN") or os.environ.get("AWS_SECURITY_TOKEN")
        return replace(spec, credentials=Credentials(os.environ["AWS_ACCESS_KEY_ID"], secret, token))
    if profile.assumes_role:
        return from_boto3_profile(spec, profile)
    if not explicit and os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return replace(spec, principal=_ambient())
    if profile.needs_boto3 is not None:
        return from_boto3_profile(spec, profile)
    settings = profile.settings
    if "aws_access_key_id" in settings:
        secret = settings.get("aws_secret_access_key")
        if not secret:
            raise CredentialsError(
                f"the profile {profile.name!r} has an aws_access_key_id and no aws_secret_access_key"
            )
        token = settings.get("aws_session_token") or settings.get("aws_security_token")
        return replace(spec, credentials=Credentials(settings["aws_access_key_id"], secret, token))
    if profile.asked:
        raise CredentialsError(
            f"the profile {profile.name!r} holds no credentials; it is not skipped for those of the instance"
        )
    return replace(spec, principal=_ambient())


def _ambient() -> str:
    """Name the caller that the Loader will find: a role, or the container or instance this runs on."""
    names = ("AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
    return "ambient " + " ".join(os.environ.get(name, "") for name in names)


def _profile(name: str | None, *, tolerate: bool) -> Profile:
    """Read the profile; one that is missing does not matter where credentials come from elsewhere."""
    try:
        return read_profile(name)
    except CredentialsError:
        if tolerate:
            return Profile("")
        raise


def _true(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")


def _endpoint_kind(kind: str, options: Mapping[str, Any], profile: Profile) -> bool:
    """Whether AWS's FIPS or dual-stack endpoints are asked for: by the call, the environment, the profile."""
    if options.get(kind) is not None:
        return bool(options[kind])
    if os.environ.get(f"AWS_USE_{kind.upper()}_ENDPOINT"):
        return _true(f"AWS_USE_{kind.upper()}_ENDPOINT")
    return profile.settings.get(f"use_{kind}_endpoint", "").lower() == "true"


def _ca_bundle(profile: Profile) -> str | None:
    return os.environ.get("AWS_CA_BUNDLE") or profile.settings.get("ca_bundle") or None


def _configured_endpoint(profile: Profile) -> str | None:
    if _true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        return None
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or profile.endpoint


def _endpoint(endpoint: str | None, options: Mapping[str, Any]) -> str | None:
    """Check an endpoint. What is wrong with one is said without showing it: it may hold keys."""
    if endpoint is None:
        return None
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is open
        valid = False
    if "@" in endpoint.partition("://")[2].partition("/")[0]:
        raise InvalidOption("an endpoint holds no user name or keys; give them as 'key' and 'secret'")
    if not valid or parts.query or parts.fragment:
        raise InvalidOption(
            "an endpoint (endpoint_url=, AWS_ENDPOINT_URL or a profile's) is a URL that begins with http:// or "
            "https://, such as 'https://minio.example:9000'"
        )
    endpoint = endpoint.rstrip("/")
    return "http://" + endpoint.split("://", 1)[1] if options.get("use_ssl") is False else endpoint


def _path_style(url: URL, endpoint: str | None, style: str | None) -> bool:
    """Whether the bucket stands in the path, as botocore decides it, or is the first label of the host name."""
    if style == "path" or not _HOST_LABEL.fullmatch(url.bucket):
        return True
    if endpoint is None:
        return False
    return style != "virtual" or bool(_IP.fullmatch(urlsplit(endpoint).hostname or ""))
