"""Hub client: stands between huggingface_hub and its server, and answers from the mirror what that holds."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from diskless.caches.hub_requests import Asked, read
from diskless.caches.mirrored_hub import Answer, Lacking, MirroredHub
from diskless.errors import InvalidOption, redact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, ModuleType

_log = logging.getLogger("diskless")
# For so long a hub that could not be reached is not asked again for what a repository of the mirror lacks.
_UNREACHABLE_S = 60.0
# For what is lacking the hub has no longer than this to let itself be reached.
_CONNECT_S = 3.0
# huggingface_hub asks for it once a day, to name itself, and keeps the answer on the disk; it does without.
_ASIDE = "/api/agent-harnesses"


class HubClient:
    """What `huggingface_hub.set_client_factory` takes, until `close`."""

    def __init__(self, hub: MirroredHub | None, place: str, *, ask: bool, token: str | None) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils import _http

        if not hasattr(_http, "set_client_factory"):
            import huggingface_hub

            raise InvalidOption(
                f"huggingface_hub {huggingface_hub.__version__} cannot be given a client; 1.0 and later can"
            )
        self._hub = hub
        self._place = place
        self._ask = ask
        self._token = token
        self._endpoint = constants.ENDPOINT
        self._unreachable_until_s = 0.0
        self._said: set[tuple[str, str]] = set()  # which repositories are not in the mirror
        # No function tells the factory that was set before.
        self._before: Any = getattr(_http, "_GLOBAL_CLIENT_FACTORY", _http.default_client_factory)
        _http.set_client_factory(self._make)

    def close(self) -> None:
        """Let huggingface_hub ask as before, or as its user has told it meanwhile."""
        from huggingface_hub.utils import _http

        # For whoever has made a client of ours a part of its own.
        self._hub, self._ask, self._token = None, True, None
        if getattr(_http, "_GLOBAL_CLIENT_FACTORY", self._make) == self._make:
            _http.set_client_factory(self._before)

    def _make(self) -> Any:
        inner = self._before()
        # httpx2, and httpx in versions of huggingface_hub before it; the class may be one that a user derived.
        tops = (each.__module__.partition(".")[0] for each in type(inner).__mro__)
        httpx: ModuleType = sys.modules[next(top for top in tops if top in ("httpx", "httpx2"))]
        hooks, inner.event_hooks = inner.event_hooks, {}
        client = self

        class Transport(httpx.BaseTransport):  # type: ignore[misc, name-defined]
            def handle_request(self, request: Any) -> Any:
                return client.respond(httpx, inner, request)

            def close(self) -> None:
                inner.close()

        return httpx.Client(
            transport=Transport(),
            event_hooks=hooks,
            headers=inner.headers,
            cookies=inner.cookies,
            params=inner.params,
            follow_redirects=inner.follow_redirects,
            max_redirects=inner.max_redirects,
            timeout=inner.timeout,
        )

    def respond(self, httpx: ModuleType, inner: Any, request: Any) -> Any:
        """Return the response to a request of huggingface_hub's."""
        hub = self._hub  # None from now on, if another thread closes
        path = self._path(request.url)
        if path == _ASIDE:
            return _response(httpx, request, Answer(404, {}))
        asked = read(path) if path is not None and request.method in ("GET", "HEAD", "POST") else None
        answer = None
        forced = self._ask and _is_forced()
        if asked is not None and hub is not None and not forced:
            body = request.read() if request.method == "POST" else b""
            recursive, blobs = (request.url.params.get(name) == "true" for name in ("recursive", "blobs"))
            answer = hub.answer(
                asked,
                request.headers.get("Range"),
                body,
                recursive=recursive,
                blobs=blobs,
                to_verify=any(frame.f_code.co_name == "verify_repo_checksums" for frame in _callers()),
            )
        if isinstance(answer, Answer):
            return _response(httpx, request, answer)
        if hub is not None and asked is not None and isinstance(answer, Lacking):
            return self._ask_for_lacking(httpx, inner, request, hub, asked, answer)
        if self._ask and request.method == "GET" and hub is not None and asked is None and hub.is_of_one(path or ""):
            response = self._reach(httpx, inner, request)
            return _not_found(httpx, request, "HubUnreachable", response) if isinstance(response, str) else response
        if not self._ask:
            self._say_lacking(hub, asked)
            from huggingface_hub.errors import OfflineModeIsEnabled

            raise OfflineModeIsEnabled(
                f"{self._place} has no {asked.name if asked else request.url.path}, and with local_files_only=True the "
                "hub is not asked"
            )
        try:
            response = self._send(httpx, inner, request)
        except (httpx.TransportError, OSError):
            self._say_lacking(hub, asked)
            raise
        if asked is not None and hub is not None and forced and response.status_code < 400:
            etag = response.headers.get("X-Linked-ETag") or response.headers.get("ETag", "")
            hub.name_blob(asked, response.headers.get("X-Repo-Commit", ""), etag.removeprefix("W/").strip('"'))
        return response

    def _say_lacking(self, hub: MirroredHub | None, asked: Asked | None) -> None:
        """Log once that a repository is not in the mirror: huggingface_hub speaks of the connection only."""
        if hub is not None and asked is not None and (asked.kind, asked.name) not in self._said:
            self._said.add((asked.kind, asked.name))
            _log.warning("%s", hub.lacks(asked.kind, asked.name))

    def _path(self, url: Any) -> str | None:
        """Return the path below the hub's own URL, without a query; None for another server."""
        # As httpx writes it: the host in lower case, no port that goes without saying.
        endpoint = str(type(url)(self._endpoint)).rstrip("/")
        return str(url).removeprefix(endpoint).partition("?")[0] if str(url).startswith(endpoint + "/") else None

    def _ask_for_lacking(
        self, httpx: ModuleType, inner: Any, request: Any, hub: MirroredHub, asked: Asked, lacking: Lacking
    ) -> Any:
        """Ask the hub, at the mirror's commit; where it cannot help, what is lacking does not exist."""
        why = lacking.why
        if not self._ask:
            why += "; with local_files_only=True the hub is not asked"
        else:
            if lacking.commit is not None:
                path, mark, query = request.url.raw_path.decode().partition("?")
                # What follows the name: a repository may be called as these words are.
                path, found = re.subn(
                    rf"(/{re.escape(quote(asked.name))}/(?:resolve|tree|revision|paths-info)/)[^/?]+",
                    rf"\g<1>{lacking.commit}",
                    path,
                    count=1,
                )
                if asked.what == "info" and not found:  # of main, without naming it
                    path = f"{path}/revision/{lacking.commit}"
                request.url = request.url.copy_with(raw_path=f"{path}{mark}{query}".encode())
            response = self._reach(httpx, inner, request)
            if isinstance(response, str):
                why += f"; {response}"
            else:
                if response.status_code < 400 or response.headers.get("X-Error-Code") == lacking.code:
                    return response
                response.close()
                why += (
                    f"; the hub answered {response.status_code} {response.headers.get('X-Error-Message', '')}".rstrip()
                )
        _log.warning("%s", why)
        if lacking.instead is not None:
            hub.assume(asked, lacking)
            return _response(httpx, request, lacking.instead)
        return _not_found(httpx, request, lacking.code, why)

    def _reach(self, httpx: ModuleType, inner: Any, request: Any) -> Any:
        """Return the hub's response about a repository of the mirror, or a str that says why there is none.

        Who has a mirror does not wait long for a hub, and not again.
        """
        if time.monotonic() < self._unreachable_until_s:
            return "the hub could not be reached a moment ago"
        limits = dict(request.extensions.get("timeout") or {})
        connect_s = limits.get("connect")
        limits["connect"] = min(_CONNECT_S, connect_s if connect_s is not None else _CONNECT_S)
        request.extensions = {**request.extensions, "timeout": limits}
        try:
            return self._send(httpx, inner, request)
        except (httpx.TransportError, OSError) as error:
            self._unreachable_until_s = time.monotonic() + _UNREACHABLE_S
            return f"the hub could not be asked: {redact(str(error)) or type(error).__name__}"

    def _send(self, httpx: ModuleType, inner: Any, request: Any) -> Any:
        if self._token is not None and self._path(request.url) is not None:
            request.headers.setdefault("Authorization", f"Bearer {self._token}")
        response = inner.send(request, stream=True, follow_redirects=False)
        return httpx.Response(
            response.status_code, headers=response.headers, stream=response.stream, extensions=response.extensions
        )


def _response(httpx: ModuleType, request: Any, answer: Answer) -> Any:
    # A str would have to be ASCII, and messages have names of files in them.
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    if answer.path is None:
        return httpx.Response(answer.status, headers=headers, content=b"".join(answer.chunks()))
    content = answer.chunks() if request.method == "GET" else iter(())
    return httpx.Response(answer.status, headers=headers, content=content)


def _not_found(httpx: ModuleType, request: Any, code: str, why: str) -> Any:
    return _response(httpx, request, Answer(404, {"X-Error-Code": code, "X-Error-Message": why}, {"error": why}))


def _is_forced() -> bool:
    """Whether the caller wants a file anew: huggingface_hub's requests do not say so, only its functions know."""
    return any(frame.f_locals.get("force_download") is True for frame in _callers())


def _callers() -> Iterator[FrameType]:
    """Return what runs of huggingface_hub, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("huggingface_hub"):
            yield frame
        frame = frame.f_back
