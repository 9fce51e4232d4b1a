"""What a hub answers to a request: the files of a repository, what its API tells of them, and its refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.caches import hub_api
from tests.caches.repository import File, Repository

if TYPE_CHECKING:
    from tests.caches.hub_server import HubServer

RESOLVE = re.compile(r"/(?P<id>(?:datasets/)?[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
# The other way to a small file: where the hub redirects the first one to, on its own origin.
RESOLVE_CACHE = re.compile(r"/api/resolve-cache/(?P<id>.+)/(?P<revision>[0-9a-f]{40})/(?P<path>.+)")
API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+(?:/[^/]+)??)"
    r"(?:/(?P<call>revision|tree|paths-info|refs|commits|discussions|auth-check)(?:/(?P<rest>.*))?)?"
)
LFS = re.compile(r"/lfs/(?P<sha256>[0-9a-f]{64})")


@dataclass
class Request:
    """One request and what became of it; the names of headers are in lower case."""

    number: int
    method: str
    path: str  # with its query
    headers: dict[str, str]
    body: bytes
    to_cdn: bool
    status: int = 0  # of the answer; 0 where there was none
    sent: int = 0  # bytes of the body

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"

    @property
    def token(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" and token else None


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An answer that the client makes an error of, by its X-Error-Code."""

    def __init__(self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        told = {"X-Error-Code": code} if code else {}
        self.answer = _json({"error": message}, {"X-Error-Message": message, **told, **(headers or {})}, status=status)


def answer(hub: HubServer, request: Request) -> Answer:
    """Return what the hub, or its CDN, answers."""
    url = urlsplit(request.path)
    try:
        if request.to_cdn:
            return _cdn(hub, request, url.path)
        if request.token is not None and not hub.knows(request.token):
            raise Refused(401, None, "Invalid credentials in Authorization header")
        for pattern, route in ((RESOLVE_CACHE, _resolve_cache), (RESOLVE, _resolve), (API, _api)):
            if matched := pattern.fullmatch(url.path):
                return route(hub, request, matched, parse_qs(url.query, keep_blank_values=True))
        return _service(hub, request, url.path)
    except Refused as refused:
        return refused.answer


def _cdn(hub: HubServer, request: Request, path: str) -> Answer:
    """The bytes of a file in LFS. Its URL is all the permission that it takes, as with a signed one."""
    if matched := LFS.fullmatch(path):
        for repository in hub.repositories.values():
            if (file := repository.lfs_file(matched["sha256"])) is not None:
                return _bytes(request, file, {})
    return Answer(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})


def _resolve(hub: HubServer, request: Request, matched: re.Match[str], query: dict[str, list[str]]) -> Answer:
    if redirect := _moved(hub, request, matched["id"], matched["id"]):
        return redirect
    repository = _repository(hub, request, matched["id"])
    _check_gate(repository, request, matched["id"])
    commit = _commit(repository, unquote(matched["revision"]))
    told = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    file = _file(repository, commit, unquote(matched["path"]), told)
    linked = {**told, "X-Linked-ETag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data))}
    if file.is_lfs:
        to = f"{hub.cdn}/lfs/{file.sha256}?signature=0"
        return Answer(302, f"Found. Redirecting to {to}".encode(), {**linked, "Location": to})
    if hub.redirects_small_files:
        to = f"/api/resolve-cache/{matched['id']}/{commit}/{quote(file.path)}"
        return Answer(307, f"Temporary Redirect. Redirecting to {to}".encode(), {**linked, "Location": to})
    return _bytes(request, file, told)


def _resolve_cache(hub: HubServer, request: Request, matched: re.Match[str], query: dict[str, list[str]]) -> Answer:
    repository = _repository(hub, request, matched["id"])
    _check_gate(repository, request, matched["id"])
    told = {"X-Repo-Commit": matched["revision"], "Accept-Ranges": "bytes"}
    return _bytes(request, _file(repository, matched["revision"], unquote(matched["path"]), told), told)


def _api(hub: HubServer, request: Request, matched: re.Match[str], query: dict[str, list[str]]) -> Answer:
    prefix = "datasets/" if matched["kind"] == "datasets" else ""
    if redirect := _moved(hub, request, prefix + matched["id"], matched["id"]):
        return redirect
    repository = _repository(hub, request, prefix + matched["id"])
    call, rest = matched["call"], matched["rest"] or ""
    if call == "refs":
        return _json(hub_api.refs(repository))
    if call == "discussions":
        return _json({"discussions": [], "count": 0, "start": 0})
    if call == "auth-check":
        _check_gate(repository, request, matched["id"])
        return _json({})
    revision, _, path = rest.partition("/")
    commit, path = _commit(repository, unquote(revision) or "main"), unquote(path)
    if call is None or call == "revision":
        expand = query.get("expand", []) + query.get("expand[]", [])
        return _json(hub_api.info(matched["id"], repository, commit, blobs="blobs" in query, expand=expand))
    if call == "commits":
        told = hub_api.commits(repository, commit)
        return _json(told, {"X-Total-Count": str(len(told))})
    if call == "paths-info":
        form = _form(request)
        return _json(hub_api.paths(repository, commit, form.get("paths", []), expand=_is_set(form, "expand")))
    return _tree(hub, repository, commit, path, request, query)


def _tree(
    hub: HubServer, repository: Repository, commit: str, path: str, request: Request, query: dict[str, list[str]]
) -> Answer:
    """One page of a listing; the cursor is how many entries came before."""
    recursive, expand = _is_set(query, "recursive"), _is_set(query, "expand")
    entries = hub_api.tree(repository, commit, path.rstrip("/"), recursive=recursive, expand=expand)
    if entries is None:
        raise Refused(404, "EntryNotFound", f"{path} does not exist on {commit!r}", {"X-Repo-Commit": commit})
    start = int(query.get("cursor", ["0"])[0])
    end = start + hub.page_size
    if end >= len(entries):
        return _json(entries[start:])
    address, _, asked = request.path.partition("?")
    kept = [part for part in asked.split("&") if part and not part.startswith("cursor=")]
    url = f"{hub.endpoint}{address}?{'&'.join([*kept, f'cursor={end}'])}"
    return _json(entries[start:end], {"Link": f'<{url}>; rel="next"'})


def _service(hub: HubServer, request: Request, path: str) -> Answer:
    """What is asked of no repository."""
    if path == "/api/whoami-v2":
        if request.token is None:
            raise Refused(401, None, "Invalid username or password.")
        access = {"displayName": "tests", "role": "read"}
        return _json(
            {"type": "user", "name": "tests", "orgs": [], "auth": {"type": "access_token", "accessToken": access}}
        )
    if path == "/api/agent-harnesses":  # who drives the client; it then tells so in its User-Agent
        return _json({"standardEnvVars": [], "harnesses": {}})
    if path.startswith("/api/telemetry/"):
        return Answer()
    with hub.lock:
        hub.unknown.append(request)
    raise Refused(404, None, "Sorry, we can't find the page you are looking for.")


def _moved(hub: HubServer, request: Request, repo_id: str, written: str) -> Answer | None:
    """The redirect to the same under the repository's own name, where it is asked for under another."""
    found = hub.find(repo_id)
    if found is None or found[0] == repo_id or (found[1].private and not found[1].lets_read(request.token)):
        return None
    name = found[0] if written == repo_id else found[0].removeprefix("datasets/")
    return Answer(307, b"Temporary Redirect", {"Location": request.path.replace(written, name, 1)})


def _repository(hub: HubServer, request: Request, repo_id: str) -> Repository:
    repository = hub.repositories.get(repo_id)
    if repository is None or (repository.private and not repository.lets_read(request.token)):
        # Whoever might be somebody after all is told less.
        if request.token is None:
            raise Refused(401, "RepoNotFound", "Invalid username or password.")
        raise Refused(404, "RepoNotFound", "Repository not found")
    return repository


def _check_gate(repository: Repository, request: Request, repo_id: str) -> None:
    """A gate is before the files and not before what the API tells of them."""
    if repository.lets_read(request.token):
        return
    if request.token is None:
        message = f"Access to {repo_id} is restricted. You must have access to it and be authenticated to access it."
        raise Refused(401, "GatedRepo", message)
    raise Refused(403, "GatedRepo", f"Access to {repo_id} is restricted and you are not in the authorized list.")


def _commit(repository: Repository, revision: str) -> str:
    if (commit := repository.resolve(revision)) is None:
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return commit


def _file(repository: Repository, commit: str, path: str, headers: Mapping[str, str]) -> File:
    if (file := repository.file(commit, path)) is None:
        raise Refused(404, "EntryNotFound", "Entry not found", headers)
    return file


def _bytes(request: Request, file: File, headers: Mapping[str, str]) -> Answer:
    """The file, or the one range of it that was asked for."""
    size, name = len(file.data), quote(file.path.rpartition("/")[2])
    told = {
        **headers,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{name}; filename=\"{name}\";",
        "ETag": f'"{file.etag}"',
    }
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if asked is None or asked[0] == "bytes=-":
        return Answer(200, file.data, told)
    start = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
    end = min(int(asked[2]) + 1, size) if asked[1] and asked[2] else size
    if start >= end:
        return Answer(416, b"", {**told, "Content-Range": f"bytes */{size}"})
    return Answer(206, file.data[start:end], {**told, "Content-Range": f"bytes {start}-{end - 1}/{size}"})


def _json(told: Any, headers: Mapping[str, str] | None = None, *, status: int = 200) -> Answer:
    return Answer(status, json.dumps(told).encode(), {"Content-Type": "application/json", **(headers or {})})


def _form(request: Request) -> dict[str, list[str]]:
    if "json" not in request.headers.get("content-type", ""):
        return parse_qs(request.body.decode())
    told = json.loads(request.body)
    return {name: value if isinstance(value, list) else [str(value)] for name, value in told.items()}


def _is_set(query: dict[str, list[str]], name: str) -> bool:
    return query.get(name, ["false"])[0].lower() in ("true", "1")
