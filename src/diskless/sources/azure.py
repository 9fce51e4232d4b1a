"""az:// and its kin: options in adlfs's words, the environment's, and the store that obstore opens with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diskless.errors import CredentialsError, InvalidOption
from diskless.sources.environment import captured
from diskless.sources.spec import SourceSpec
from diskless.sources.untranslated import TUNING, unknown
from diskless.sources.url import URL

# adlfs's words, and obstore's for the same.
_WORDS = {
    "account_name": "account_name",
    "account_key": "account_key",
    "sas_token": "sas_key",
    "client_id": "client_id",
    "client_secret": "client_secret",
    "tenant_id": "tenant_id",
    "token": "token",
    "endpoint_url": "endpoint",
}
_OURS = (*_WORDS, "anon", "connection_string", "account_host", "verify")
_THEIRS = frozenset({"credential", "request_session", "location_mode", "socket_timeout", "connection_timeout"})
_THEIRS |= {
    "read_timeout",
    "assume_container_exists",
    "managed_identity_client_id",
    "exclude_shared_token_cache_credential",
}
_OF_NO_WEIGHT = TUNING | {"timeout", "socket_timeout", "connection_timeout", "read_timeout", "assume_container_exists"}
_CREDENTIALS = ("account_key", "sas_key", "client_id", "client_secret", "tenant_id", "token")
VARIABLES = {
    "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
    "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
    "AZURE_STORAGE_ACCESS_KEY": "account_key",
    "AZURE_STORAGE_SAS_KEY": "sas_key",
    "AZURE_STORAGE_SAS_TOKEN": "sas_key",
    "AZURE_STORAGE_TOKEN": "token",
    "AZURE_STORAGE_ENDPOINT": "endpoint",
    "AZURE_STORAGE_CLIENT_ID": "client_id",
    "AZURE_STORAGE_CLIENT_SECRET": "client_secret",
    "AZURE_STORAGE_TENANT_ID": "tenant_id",
    "AZURE_CLIENT_ID": "client_id",
    "AZURE_CLIENT_SECRET": "client_secret",
    "AZURE_TENANT_ID": "tenant_id",
    "AZURE_FEDERATED_TOKEN_FILE": "federated_token_file",
    "AZURE_AUTHORITY_HOST": "authority_host",
}


def resolve_azure(url: URL, options: Mapping[str, object]) -> SourceSpec:
    """Return the spec of an Azure URL.

    Raises InvalidOption, CredentialsError where no account is named, or Untranslated for what only adlfs understands.
    """
    for name, value in options.items():
        if name not in _OURS and name not in _OF_NO_WEIGHT:
            raise unknown(name, _THEIRS, _OURS)
        if name in _OURS and name not in ("anon", "verify") and not isinstance(value, (str, type(None))):
            raise InvalidOption(f"storage_options: {name!r} is a string, not {type(value).__name__}")
    given = {_WORDS[name]: str(options[name]) for name in _WORDS if options.get(name)}
    if options.get("account_host"):
        given["endpoint"] = f"https://{options['account_host']}"
    if options.get("connection_string"):
        given = {**_connection(str(options["connection_string"])), **given}
    container, _, host = url.bucket.partition("@")
    if host:
        given.setdefault("account_name", host.partition(".")[0])
    around = {word: os.environ[name] for name, word in reversed(VARIABLES.items()) if os.environ.get(name)}
    if os.environ.get("AZURE_STORAGE_CONNECTION_STRING"):
        around = {**_connection(os.environ["AZURE_STORAGE_CONNECTION_STRING"]), **around}
    if options.get("anon"):
        given["skip_signature"] = "true"
    if options.get("anon") or any(name in given for name in _CREDENTIALS):
        around = {name: value for name, value in around.items() if name not in _CREDENTIALS}
    config = {**around, **given, "container_name": container}
    if "account_name" not in config:
        raise CredentialsError(
            f"{url}: no storage account is named; give storage_options={{'account_name': …}}, "
            "AZURE_STORAGE_ACCOUNT_NAME or abfs://container@account.dfs.core.windows.net/key"
        )
    verify, endpoint = options.get("verify", True), config.get("endpoint")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise InvalidOption("the endpoint of Azure's store is a URL such as 'http://127.0.0.1:10000/devstoreaccount1'")
    spec = SourceSpec(
        url,
        endpoint=endpoint,
        anonymous=bool(options.get("anon")),
        ca_bundle=verify if isinstance(verify, str) else None,
        verify_tls=verify is not False,
        environment=captured(),
    )
    return replace(spec, options=config)


def _connection(text: str) -> dict[str, str]:
    """Return what a connection string says, in obstore's words."""
    parts = dict(part.partition("=")[::2] for part in text.split(";") if part.strip())
    names = {"AccountName": "account_name", "AccountKey": "account_key", "SharedAccessSignature": "sas_key"}
    found = {word: parts[name] for name, word in names.items() if parts.get(name)}
    if parts.get("BlobEndpoint"):
        found["endpoint"] = parts["BlobEndpoint"].rstrip("/")
        # obstore wants the account, which the host of an endpoint of Azure's own begins with.
        found.setdefault("account_name", found["endpoint"].partition("://")[2].partition(".")[0])
    elif parts.get("EndpointSuffix") and parts.get("AccountName"):
        scheme = parts.get("DefaultEndpointsProtocol", "https")
        found["endpoint"] = f"{scheme}://{parts['AccountName']}.blob.{parts['EndpointSuffix']}"
    if not found:
        raise InvalidOption("the connection string of Azure's store names neither an account nor an endpoint")
    return found


def open_azure(spec: SourceSpec) -> Any:
    """Return obstore's store, in the Loader."""
    from obstore.store import AzureStore

    from diskless.sources.obstore_client import client_options

    origin = spec.endpoint or f"https://{spec.options['account_name']}.blob.core.windows.net"
    config: Any = dict(spec.options)
    return AzureStore(config=config, client_options=client_options(spec, origin), retry_config={"max_retries": 0})
