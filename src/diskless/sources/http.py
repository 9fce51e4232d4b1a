"""HTTP requests: listings, credentials and uploads. Bytes of models come through obstore."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import socket
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from diskless.errors import DisklessError, InvalidOption, SourceUnavailable, redact

if TYPE_CHECKING:
    import ssl

_PAUSE_S = 0.2
_MOST_BYTES = 64 << 20
# What the value of a header does not hold (RFC 9110, 5.5).
_UNSENDABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


@dataclass(frozen=True)
class Endpoint:
    """``scheme://host:port``, how to trust it, and the proxy to it, whose URL may hold a password."""

    url: str
    ca_bundle: str | None = None
    verify_tls: bool = True
    proxy: str | None = field(default=None, repr=False)

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
    connection: Connection | None = None,
) -> tuple[int, Mapping[str, str], bytes]:
    """Return status, headers and body of the answer, whatever it is; 5xx and connection errors are tried again.

    With `connection`, one of the endpoint's, it is asked over that one, else over one of its own.

    Raises SourceUnavailable when there is no answer, InvalidOption when the certificates to trust cannot be read or a
    header cannot be sent.
    """
    used = connection or Connection(endpoint, timeout_s)
    try:
        for attempt in range(1, attempts + 1):
            try:
                status, answer_headers, answer = used.exchange(method, target, headers, body)
            except (OSError, http.client.HTTPException) as error:
                if attempt == attempts or type(error).__name__ == "SSLCertVerificationError":
                    raise _unreachable(endpoint, error) from None
            else:
                if attempt == attempts or (status < 500 and status != 429):
                    return status, answer_headers, answer
            time.sleep(_PAUSE_S * 2**attempt)
    finally:
        if connection is None:
            used.close()
    raise AssertionError("unreachable: attempts is at least 1")


class Connection:
    """A connection that is used again and again, by one thread at a time, for requests with large bodies."""

    def __init__(self, endpoint: Endpoint, timeout_s: float = 60.0) -> None:
        self._open: http.client.HTTPConnection | None = None
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._context = _tls(endpoint) if urlsplit(endpoint.url).scheme == "https" else None

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[memoryview] | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of the answer, whatever it is; tried once.

        A body in pieces needs a content-length among the headers; each piece is sent before the next is asked for.
        Raises SourceUnavailable when there is no answer, InvalidOption when a header cannot be sent.
        """
        try:
            return self.exchange(method, target, headers, body)
        except DisklessError:  # of the body
            raise
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self._endpoint, error) from None

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[memoryview] | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Do what `request` does; raises OSError and HTTPException when there is no answer."""
        fresh, target, headers = _prepared(self._endpoint, self._context, target, headers, self._timeout_s)
        kept, self._open = self._open, self._open or fresh
        try:
            return self._exchange_over(self._open, method, target, headers, body)
        except (ConnectionError, http.client.HTTPException) as error:
            self.close()
            # The server may have ended a connection that nobody used for a while.
            if kept is None or isinstance(error, DisklessError) or not (body is None or isinstance(body, bytes)):
                raise
        except BaseException:
            self.close()
            raise
        self._open = fresh
        try:
            return self._exchange_over(fresh, method, target, headers, body)
        except BaseException:
            self.close()
            raise

    def _exchange_over(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[memoryview] | None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            connection.request(method, target, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses need not read all of it; what it said may have arrived.
            answer = _answer(connection)
            self.close()
            return answer
        return _answer(connection)

    def __del__(self) -> None:  # a thread of its own ends, and nobody closes what it had
        if self._open is not None:
            self._open.close()

    def close(self) -> None:
        """End the connection, also while another thread waits for it: that one gets an error."""
        connection, self._open = self._open, None
        if connection is not None:
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()


class Connections:
    """A connection for each thread that asks for one, until all are closed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._of_thread = threading.local()
        # Guards the connections, all of them.
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()

    def mine(self) -> Connection:
        """Return that of this thread."""
        connection: Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._of_thread.connection = Connection(self._endpoint)
            with self._lock:
                self._all.add(connection)
        return connection

    def close(self) -> None:
        """End all connections, those too that other threads wait for; they may be used again."""
        with self._lock:
            for connection in list(self._all):
                connection.close()


def _answer(connection: http.client.HTTPConnection) -> tuple[int, Mapping[str, str], bytes]:
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read(_MOST_BYTES)


def _unreachable(endpoint: Endpoint, error: Exception) -> SourceUnavailable:
    through = f" through the proxy {_split_proxy(endpoint.proxy)[0]}" if endpoint.proxy else ""
    return SourceUnavailable(f"{endpoint.url} cannot be reached{through}: {redact(_cause(error))}{_advice(error)}")


def _prepared(
    endpoint: Endpoint, context: ssl.SSLContext | None, target: str, headers: Mapping[str, str], timeout_s: float
) -> tuple[http.client.HTTPConnection, str, Mapping[str, str]]:
    """Return a connection that is not open yet, to the endpoint or its proxy, and what it is to be asked with."""
    parts = urlsplit(endpoint.url)
    host, port = parts.hostname or "", parts.port or (443 if context else 80)
    proxy_host, proxy_port, proxy_headers = _split_proxy(endpoint.proxy) if endpoint.proxy else ("", 0, {})
    connect_to = (proxy_host, proxy_port) if endpoint.proxy else (host, port)
    headers = {**headers, "host": endpoint.host}
    for name, value in headers.items():
        # http.client refuses most of them too, and quotes them.
        if _UNSENDABLE.search(value):
            raise InvalidOption(
                f"{endpoint.url}: the header {name} cannot be sent, since a newline or another character that no "
                "header may have is in its value; where it comes from a file or a variable, is there one at its end?"
            )
    connection: http.client.HTTPConnection
    if context is None:
        connection = http.client.HTTPConnection(*connect_to, timeout=timeout_s)
        if endpoint.proxy:
            target, headers = endpoint.url + target, {**headers, **proxy_headers}
    else:
        connection = http.client.HTTPSConnection(*connect_to, timeout=timeout_s, context=context)
        if endpoint.proxy:
            connection.set_tunnel(host, port, proxy_headers)
    return connection, target, headers


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    import ssl

    if not endpoint.verify_tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        return ssl.create_default_context(cafile=endpoint.ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidOption(
            f"the certificates to trust (AWS_CA_BUNDLE, or 'verify') cannot be read from {endpoint.ca_bundle}: "
            f"{error.strerror or error}"
        ) from None


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy that the environment names for `url`, as `urllib` reads it."""
    parts = urlsplit(url)
    excluded = _bypassed(parts.hostname or "", parts.netloc.lower(), no_proxy(environment))
    return None if excluded else proxy_for_others(url, environment)


def proxy_for_others(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy for what has the scheme of `url`, on hosts that the environment does not exclude."""
    found = _named(f"{urlsplit(url).scheme}_proxy", environment) or _named("all_proxy", environment)
    return found if found and no_proxy(environment) != "*" else None


def no_proxy(environment: Mapping[str, str]) -> str:
    """Return the hosts that the environment excludes, with commas between them; `*` is all."""
    return _named("no_proxy", environment)


def _named(variable: str, environment: Mapping[str, str]) -> str:
    return environment.get(variable, environment.get(variable.upper(), ""))


def _bypassed(host: str, host_and_port: str, excluded: str) -> bool:
    suffixes = [name.strip().lstrip(".").lower() for name in excluded.split(",") if name.strip()]
    return any(known == name or known.endswith("." + name) for name in suffixes for known in (host, host_and_port))


def _split_proxy(proxy: str) -> tuple[str, int, dict[str, str]]:
    """Return host, port and the headers that tell the proxy who asks; InvalidOption, which shows nothing of it."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname or "", parts.port or 80
    except ValueError:  # a password with a slash ends the host early, for one
        raise InvalidOption(
            "the proxy that the environment names (http_proxy, https_proxy, all_proxy) is no URL; are odd characters "
            "in its password percent-encoded?"
        ) from None
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["proxy-authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return host, port, headers


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
