"""Small HTTP requests: listings and credentials. Bytes of models go through obstore."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from diskless.errors import SourceUnavailable, redact

_PAUSE_S = 0.2
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Endpoint:
    """``scheme://host:port`` and how to trust it. `proxy` False ignores the environment's proxies."""

    url: str
    ca_bundle: str | None = None
    verify_tls: bool = True
    proxy: bool = True

    @property
    def host(self) -> str:
        """Host and, unless it is the scheme's own, port, as the Host header has it."""
        return urlsplit(self.url).netloc


def request(
    endpoint: Endpoint,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    timeout_s: float = 30.0,
    attempts: int = 3,
) -> tuple[int, Mapping[str, str], bytes]:
    """Return status, headers and body; retries connection errors and 5xx, then raises SourceUnavailable."""
    for attempt in range(1, attempts + 1):
        try:
            status, answer_headers, answer = _once(endpoint, method, target, headers, body, timeout_s)
        except (OSError, http.client.HTTPException) as error:
            if attempt == attempts:
                raise SourceUnavailable(
                    f"{endpoint.url} cannot be reached: {redact(_cause(error))}{_advice(error)}"
                ) from None
        else:
            if status < 500 and status != 429:
                return status, answer_headers, answer
            if attempt == attempts:
                return status, answer_headers, answer
        time.sleep(_PAUSE_S * 2**attempt)
    raise AssertionError("unreachable: attempts is at least 1")


def _once(
    endpoint: Endpoint, method: str, target: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
) -> tuple[int, Mapping[str, str], bytes]:
    parts = urlsplit(endpoint.url)
    secure, host = parts.scheme == "https", parts.hostname or ""
    port = parts.port or (443 if secure else 80)
    proxy = _proxy(parts.scheme, host) if endpoint.proxy else None
    at = urlsplit(proxy) if proxy else None
    connect_host, connect_port = (at.hostname or "", at.port or 3128) if at else (host, port)
    if secure:
        import ssl

        context = ssl.create_default_context(cafile=endpoint.ca_bundle)
        if not endpoint.verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            connect_host, connect_port, timeout=timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(connect_host, connect_port, timeout=timeout_s)
    if at is not None and secure:
        connection.set_tunnel(host, port)
    elif at is not None:
        target = endpoint.url + target
    try:
        connection.request(method, target, body, {**headers, "host": endpoint.host})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read(_MOST_BYTES)
    finally:
        connection.close()


def _proxy(scheme: str, host: str) -> str | None:
    if not any(
        os.environ.get(name) for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass_environment

    proxies = getproxies_environment()
    return None if proxy_bypass_environment(host) else proxies.get(scheme) or proxies.get("all")


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _advice(error: Exception) -> str:
    name = type(error).__name__
    if name == "SSLCertVerificationError":
        return "; is the right certificate authority in AWS_CA_BUNDLE?"
    if isinstance(error, ConnectionRefusedError):
        return "; is the server running, and the endpoint (AWS_ENDPOINT_URL) right?"
    if name == "gaierror":
        return "; is the host name in the endpoint right, and is there a network?"
    return ""
