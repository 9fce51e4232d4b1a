"""`storage_options`, in s3fs's words and obstore's, as one flat set of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diskless.errors import InvalidOption
from diskless.sources.untranslated import TUNING, Untranslated, unknown

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
    "username": "key",
    "password": "secret",
    "use_fips_endpoint": "fips",
    "use_dualstack_endpoint": "dualstack",
    "SSECustomerAlgorithm": "sse_algorithm",
    "SSECustomerKey": "sse_key",
    "s3_additional_kwargs": "s3_additional_kwargs",
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
    "config_kwargs": {
        "s3": "s3",
        "region_name": "region",
        "signature_version": "signature_version",
        "use_fips_endpoint": "fips",
        "use_dualstack_endpoint": "dualstack",
    },
    "s3_additional_kwargs": {
        "SSECustomerAlgorithm": "sse_algorithm",
        "SSECustomerKey": "sse_key",
        "RequestPayer": "payer",
    },
}
# What s3fs understands and we do not; see untranslated.py.
_THEIRS = frozenset({"session", "cache_regions"})
_NESTED_THEIRS = {
    "client_kwargs": frozenset({"api_version", "config", "aws_account_id"}),
    "config_kwargs": frozenset(
        {"proxies", "proxies_config", "client_cert", "inject_host_prefix", "sigv4a_signing_region_set"}
        | {"client_context_params", "auth_scheme_preference", "endpoint_discovery_enabled", "account_id_endpoint_mode"}
    ),
    "s3_additional_kwargs": frozenset({"ExpectedBucketOwner", "ChecksumMode", "IfMatch"}),
}
# What is of no weight for a load: the Loader has limits and retries of its own, and writes nothing.
_NESTED_TUNING = {
    "client_kwargs": frozenset({"service_name"}),
    "config_kwargs": frozenset(
        {"connect_timeout", "read_timeout", "retries", "max_pool_connections", "tcp_keepalive", "defaults_mode"}
        | {"user_agent", "user_agent_extra", "user_agent_appid", "parameter_validation", "disable_request_compression"}
        | {"request_checksum_calculation", "response_checksum_validation"}
    ),
    "s3_additional_kwargs": frozenset(
        {"ServerSideEncryption", "SSEKMSKeyId", "SSEKMSEncryptionContext", "BucketKeyEnabled", "SSECustomerKeyMD5"}
        | {"ACL", "StorageClass", "ContentType", "CacheControl", "Metadata", "Tagging"}
    ),
}
_OF_S3 = {"addressing_style": "addressing_style", "use_dualstack_endpoint": "dualstack"}
_OF_S3_TUNING = ("payload_signing_enabled", "us_east_1_regional_endpoint")
_STRINGS = ("key", "secret", "token", "profile", "endpoint", "region", "addressing_style")
_STYLES = ("auto", "path", "virtual")


def flatten(storage_options: Mapping[str, object]) -> dict[str, Any]:
    """Return the options by our own words; InvalidOption names one that is not known, never its value."""
    if not isinstance(storage_options, Mapping):
        raise InvalidOption(f"storage_options is a mapping, not {type(storage_options).__name__}")
    flat: dict[str, Any] = {}
    for name, value in storage_options.items():
        if value is None and (name in _OPTIONS or name in _THEIRS):
            continue
        if name in TUNING:
            continue
        if name not in _OPTIONS:
            raise unknown(name, _THEIRS, _OPTIONS)
        if name not in _NESTED:
            flat[_OPTIONS[name]] = value
            continue
        for inner, inner_value in _mapping(name, value).items():
            if inner in _NESTED_THEIRS[name] and inner_value is not None:
                raise Untranslated(f"{name}[{inner!r}]")
            if inner not in _NESTED[name] and inner not in _NESTED_TUNING[name]:
                known = ", ".join(sorted(_NESTED[name]))
                raise InvalidOption(f"storage_options: {name}[{inner!r}] is not known; known are {known}")
            if inner_value is None or inner in _NESTED_TUNING[name]:
                continue
            if inner == "s3":
                flat.setdefault("addressing_style", "auto")
                for setting, said in _mapping("config_kwargs['s3']", inner_value).items():
                    if setting in _OF_S3:
                        flat[_OF_S3[setting]] = said
                    elif setting not in _OF_S3_TUNING:
                        raise Untranslated(f"config_kwargs['s3'][{setting!r}]")
            elif inner == "signature_version":
                if type(inner_value).__name__ == "_UNSIGNED_SIGNATURE" or type(inner_value).__module__ == "botocore":
                    flat["anon"] = True
                elif inner_value != "s3v4":
                    raise Untranslated("config_kwargs['signature_version']")
            elif inner == "RequestPayer":
                flat["requester_pays"] = inner_value == "requester"
            else:
                flat[_NESTED[name][inner]] = inner_value
    for name in _STRINGS:
        if name in flat and not isinstance(flat[name], str):
            raise InvalidOption(f"storage_options: {name!r} is a string, not {type(flat[name]).__name__}")
    if flat.get("addressing_style", "auto") not in _STYLES:
        raise InvalidOption(f"storage_options: 'addressing_style' is one of {', '.join(_STYLES)}")
    if "sse_key" in flat or "sse_algorithm" in flat:
        flat["sse_key"] = _customer_key(flat.get("sse_key"), flat.pop("sse_algorithm", "AES256"))
    return flat


def _customer_key(key: object, algorithm: object) -> str:
    """Return in Base64 the key that objects are encrypted with (SSE-C), which boto3 takes as 32 bytes or a str."""
    import base64

    if algorithm != "AES256":
        raise InvalidOption("storage_options: 'SSECustomerAlgorithm' is 'AES256', the only one that S3 has")
    raw = key.encode() if isinstance(key, str) else key
    if isinstance(raw, bytes) and len(raw) != 32:
        try:  # as the header has it
            raw = base64.b64decode(raw, validate=True)
        except ValueError:
            raw = None
    if not isinstance(raw, bytes) or len(raw) != 32:
        raise InvalidOption("storage_options: 'SSECustomerKey' is a key of 32 bytes")
    return base64.b64encode(raw).decode()


def as_s3fs(storage_options: Mapping[str, object]) -> dict[str, Any]:
    """Return the options in the words of s3fs, which does not know all of ours."""
    theirs: dict[str, Any] = {}
    client: dict[str, Any] = {}
    config: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    moved = {
        "region": (client, "region_name"),
        "region_name": (client, "region_name"),
        "verify": (client, "verify"),
        "use_fips_endpoint": (config, "use_fips_endpoint"),
        "use_dualstack_endpoint": (config, "use_dualstack_endpoint"),
        "SSECustomerAlgorithm": (extra, "SSECustomerAlgorithm"),
        "SSECustomerKey": (extra, "SSECustomerKey"),
    }
    for name, value in storage_options.items():
        if name == "addressing_style":
            config["s3"] = {"addressing_style": value}
        elif name in moved:
            moved[name][0][moved[name][1]] = value
        else:
            ours = _OPTIONS.get(name, name)
            theirs[{"endpoint": "endpoint_url"}.get(ours, ours)] = value
    for name, values in {"client_kwargs": client, "config_kwargs": config, "s3_additional_kwargs": extra}.items():
        if values:
            theirs[name] = {**values, **(theirs.get(name) or {})}
    return theirs


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidOption(f"storage_options: {name!r} is a mapping, not {type(value).__name__}")
    return value
