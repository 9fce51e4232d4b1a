"""`storage_options`, in s3fs's words and obstore's, as one flat set of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diskless.errors import InvalidOption

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
_STRINGS = ("key", "secret", "token", "profile", "endpoint", "region", "addressing_style")
_STYLES = ("auto", "path", "virtual")


def flatten(storage_options: Mapping[str, object]) -> dict[str, Any]:
    """Return the options by our own words; InvalidOption names one that is not known, never its value."""
    if not isinstance(storage_options, Mapping):
        raise InvalidOption(f"storage_options is a mapping, not {type(storage_options).__name__}")
    flat: dict[str, Any] = {}
    for name, value in storage_options.items():
        if name not in _OPTIONS:
            raise InvalidOption(f"storage_options: {name!r} is not known; known are {', '.join(sorted(_OPTIONS))}")
        if value is None:
            continue
        if name not in _NESTED:
            flat[_OPTIONS[name]] = value
            continue
        for inner, inner_value in _mapping(name, value).items():
            if inner not in _NESTED[name]:
                known = ", ".join(sorted(_NESTED[name]))
                raise InvalidOption(f"storage_options: {name}[{inner!r}] is not known; known are {known}")
            if inner_value is None:
                continue
            if inner == "s3":
                flat["addressing_style"] = _mapping("config_kwargs['s3']", inner_value).get("addressing_style", "auto")
            else:
                flat[_NESTED[name][inner]] = inner_value
    for name in _STRINGS:
        if name in flat and not isinstance(flat[name], str):
            raise InvalidOption(f"storage_options: {name!r} is a string, not {type(flat[name]).__name__}")
    if flat.get("addressing_style", "auto") not in _STYLES:
        raise InvalidOption(f"storage_options: 'addressing_style' is one of {', '.join(_STYLES)}")
    return flat


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidOption(f"storage_options: {name!r} is a mapping, not {type(value).__name__}")
    return value
