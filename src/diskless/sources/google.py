"""gs://: options in gcsfs's words, the environment's, and the store that obstore opens with them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from diskless.errors import InvalidOption
from diskless.sources.environment import captured
from diskless.sources.spec import SourceSpec
from diskless.sources.untranslated import TUNING, unknown
from diskless.sources.url import URL

_OURS = ("token", "anon", "endpoint_url", "verify", "project")
_THEIRS = frozenset(
    {"access", "cache_timeout", "check_connection", "consistency", "requester_pays", "requests_timeout"}
)
_THEIRS |= {"secure_serialize", "session_kwargs", "timeout", "default_location", "credentials"}
# project, access and the like concern making buckets and writing.
_OF_NO_WEIGHT = (
    TUNING
    | {"access", "cache_timeout", "check_connection", "consistency", "default_location", "project"}
    | {"requests_timeout", "secure_serialize", "timeout"}
)
# What the environment says, in obstore's words.
VARIABLES = {
    "GOOGLE_SERVICE_ACCOUNT": "service_account",
    "GOOGLE_SERVICE_ACCOUNT_PATH": "service_account",
    "GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key",
    "GOOGLE_APPLICATION_CREDENTIALS": "application_credentials",
    "GOOGLE_BEARER_TOKEN": "bearer_token",
    "GOOGLE_SKIP_SIGNATURE": "skip_signature",
}


def resolve_google(url: URL, options: Mapping[str, object]) -> SourceSpec:
    """Return the spec of a ``gs://`` URL. Raises InvalidOption, or Untranslated for what only gcsfs understands."""
    for name in options:
        if name not in _OURS and name not in _OF_NO_WEIGHT:
            raise unknown(name, _THEIRS, _OURS)
    endpoint, verify = (
        options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST"),
        options.get("verify", True),
    )
    token = "anon" if options.get("anon") else options.get("token")
    config = _credentials(token) if token not in (None, "google_default") else _from_environment()
    if endpoint is not None:
        if not isinstance(endpoint, str):
            raise InvalidOption("storage_options: 'endpoint_url' is a string such as 'http://localhost:4443'")
        config["base_url"] = (endpoint if "://" in endpoint else f"http://{endpoint}").rstrip("/")
    return SourceSpec(
        url,
        endpoint=config.get("base_url"),
        anonymous=config.get("skip_signature", "").lower() in ("1", "true", "yes"),
        ca_bundle=verify if isinstance(verify, str) else None,
        verify_tls=verify is not False,
        options=config,
        environment=captured(),
    )


def _credentials(token: object) -> dict[str, str]:
    """Translate gcsfs's `token`: 'anon', the path or the content of a key file, or an access token."""
    if token == "anon":
        return {"skip_signature": "true"}
    if isinstance(token, Mapping) and token.get("type") == "service_account":
        return {"service_account_key": json.dumps(dict(token))}
    if not isinstance(token, str) or token in ("cache", "browser", "cloud"):
        raise unknown("token", frozenset({"token"}), _OURS)
    path = os.path.expanduser(token)
    if not os.path.isfile(path):
        if os.sep in token and token.endswith(".json"):
            raise InvalidOption(f"storage_options: 'token' names a file that is not there: {token}")
        return {"bearer_token": token}
    try:
        with open(path, encoding="utf-8") as file:
            kind = json.load(file).get("type")
    except (OSError, ValueError, AttributeError):
        kind = None
    if kind is None:
        raise InvalidOption(f"storage_options: 'token' names a file that holds no credentials of Google's: {token}")
    return {"service_account" if kind == "service_account" else "application_credentials": os.path.abspath(path)}


def _from_environment() -> dict[str, str]:
    return {word: os.environ[name] for name, word in VARIABLES.items() if os.environ.get(name)}


def open_google(spec: SourceSpec) -> Any:
    """Return obstore's store, in the Loader."""
    from obstore.store import GCSStore

    from diskless.sources.obstore_client import client_options

    origin = spec.endpoint or "https://storage.googleapis.com"
    config: Any = dict(spec.options)
    # The Loader retries, and only what is missing.
    return GCSStore(
        spec.url.bucket, config=config, client_options=client_options(spec, origin), retry_config={"max_retries": 0}
    )
