"""Mirrored hub: answers what huggingface_hub asks, for repositories that a mirror holds, from their folders in RAM.

The names in a folder are all that is needed: `refs` say the commit, a snapshot links to blobs, and a blob is called by
its ETag. What the library has fetched from the hub into such a folder is answered likewise.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from diskless.caches import hub_json
from diskless.caches.hub_json import HubFile
from diskless.caches.hub_layout import COMMIT, Repository, join_id
from diskless.caches.hub_requests import Asked
from diskless.forks import LOCK

_CHUNK_BYTES = 1 << 20
_ABOUT = re.compile(r"/api/(models|datasets|spaces)/([^/]+)/([^/]+)")
# What a snapshot may be called.
_SEGMENT = re.compile(r"(?!\.)[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Answer:
    """A response: `body` is the JSON of it, or the path of a file with the range that is sent."""

    status: int
    headers: Mapping[str, str]
    body: object = None
    path: str | None = None
    start: int = 0
    end: int = 0

    def chunks(self) -> Iterator[bytes]:
        """Return the bytes of the body."""
        if self.path is None:
            yield b"" if self.body is None else json.dumps(self.body).encode()
            return
        with open(self.path, "rb") as file:
            file.seek(self.start)
            left = self.end - self.start
            while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk


@dataclass(frozen=True)
class Lacking:
    """What the mirror cannot say: `commit` is that of the revision, if it knows that, and `why` is a sentence.

    `instead` is what it says where the hub cannot say it either.
    """

    commit: str | None
    why: str
    code: str
    instead: Answer | None = None


class MirroredHub:
    """The repositories of a mirror, whose folders are in `directory`; `put` puts there what was removed."""

    def __init__(
        self,
        url: str,
        repositories: Mapping[tuple[str, str], Repository],
        directory: str,
        put: Callable[[Repository], None],
    ) -> None:
        self._url = url
        self._repositories = repositories  # what is in them is guarded by LOCK
        self._directory = directory
        self._put = put
        # Where huggingface_hub keeps listings that may lack files: those of `Lacking.instead`.
        self.assumed: set[str] = set()

    def is_of_one(self, path: str) -> bool:
        """Whether a request's path is about one of the repositories."""
        found = _ABOUT.match(path)
        if found is None:
            return False
        kind, first, second = found[1], unquote(found[2]), unquote(found[3])
        return (kind, first) in self._repositories or (kind, f"{first}/{second}") in self._repositories

    def lacks(self, kind: str, name: str) -> str:
        """Return what there is to say of a repository that the mirror does not have."""
        known = sorted(join_id(*key) for key in self._repositories)
        there = ", ".join(known[:5]) + (" and others" if len(known) > 5 else "")
        return f"{self._url} has no repository {join_id(kind, name)} (it has {there or 'none'})"

    def assume(self, asked: Asked, lacking: Lacking) -> None:
        """Note that `instead` was the answer."""
        if lacking.instead is not None and lacking.instead.status == 200:
            self.assumed.add(f"{self._repositories[asked.kind, asked.name].folder}/trees/{lacking.commit}.json")

    def name_blob(self, asked: Asked, commit: str, etag: str) -> None:
        """Let a file's blob have the name that it has on a disk, by which huggingface_hub replaces it."""
        repository = self._repositories.get((asked.kind, asked.name))
        if repository is None or asked.what != "file" or not COMMIT.fullmatch(commit) or not etag:
            return
        link = f"snapshots/{commit}/{asked.path}"
        with LOCK:
            blob = repository.links.get(link)
            if blob in repository.made:
                repository.files[f"blobs/{etag}"] = repository.files[f"blobs/{blob}"]
                repository.links[link] = etag
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._directory, repository.folder, link))
                self._put(repository)

    def answer(
        self,
        asked: Asked,
        byte_range: str | None = None,
        body: bytes = b"",
        *,
        recursive: bool = False,
        blobs: bool = False,
        to_verify: bool = False,
    ) -> Answer | Lacking | None:
        """Return the answer, or what is lacking for one; None for a repository that is not in the mirror.

        `recursive` and `blobs` are what huggingface_hub asks with; `to_verify` is whether a tree is for its checksums.
        """
        repository = self._repositories.get((asked.kind, asked.name))
        if repository is None:
            return None
        folder = os.path.join(self._directory, repository.folder)
        if asked.what == "refs":
            return _refs(folder)
        place = f"{self._url}/{repository.prefix}"
        commit = commit_of(folder, asked.revision)
        if commit is None and repository.names(asked.revision):  # as `hf cache rm` leaves it
            self._put(repository)
            commit = commit_of(folder, asked.revision)
        if commit is None:
            known = ", ".join(sorted(_names(os.path.join(folder, "refs")))) or "none"
            why = f"{place} has no revision {asked.revision} (it has {known})"
            if repository.names(asked.revision):
                why = f"{place}refs/{asked.revision} cannot be read, or names no commit"
            return Lacking(None, why, "RevisionNotFound")
        snapshot = os.path.join(folder, "snapshots", commit)
        if not os.path.isdir(snapshot):
            why = f"{place}refs/{asked.revision} names the commit {commit}, of which the mirror has no snapshot"
            return Lacking(commit, why, "RevisionNotFound")
        if asked.what == "file":
            return self._file(repository, folder, commit, asked, byte_range, place)
        listed = self._listed(repository, commit)
        if listed is None and commit not in repository.commits:
            # Of what came from the hub there is no more than was asked for so far.
            return Lacking(commit, f"{place} has no listing of the commit {commit}", "RevisionNotFound")
        files = listed or {path: _described(os.path.join(snapshot, path)) for path in sorted(_names(snapshot))}
        if asked.what == "info":
            return _json(hub_json.info(asked.name, commit, files, _card(snapshot), blobs=blobs), commit)
        if asked.what == "paths-info":
            entries = hub_json.entries(files, commit)
            wanted = parse_qs(body.decode()).get("paths", [])  # HfApi.get_paths_info sends a form
            return _json([entries[path] for path in wanted if path in entries], commit)
        found = _tree(asked, commit, files, place, recursive=recursive)
        if to_verify and listed is None and any(told.etag in repository.made for told in files.values()):
            why = f"{place} has no listing of the commit {commit}, so nothing says what its checksums are to be"
            found = Answer(501, {"X-Error-Message": why}, {"error": why})
        if listed is None and not asked.path and not repository.plain and COMMIT.fullmatch(asked.revision):
            # The cache that was copied may have been asked for a few of the files only, and this is snapshot_download,
            # which wants all. Others look by the name of the revision whether there is this or that.
            why = f"{place} has no listing of the commit {commit}: what it has of that is taken for all"
            return Lacking(commit, why, "EntryNotFound", instead=found)
        return found

    def _file(
        self, repository: Repository, folder: str, commit: str, asked: Asked, byte_range: str | None, place: str
    ) -> Answer | Lacking:
        path = os.path.join(folder, "snapshots", commit, asked.path)
        if not os.path.isfile(path):
            why = f"{place} has no {asked.path} at revision {asked.revision} (commit {commit})"
            known = self._listed(repository, commit)
            never = os.path.exists(os.path.join(folder, ".no_exist", commit, asked.path))
            whole = repository.plain and commit in repository.commits
            if whole or never or (known is not None and asked.path not in known):
                return _missing(commit, why)
            if known is not None:
                why += ", which its listing of that commit names: it is incomplete"
            return Lacking(commit, why, "EntryNotFound")
        size = os.path.getsize(path)
        told = _described(path)
        if told.etag in repository.made:
            listed = (self._listed(repository, commit) or {}).get(asked.path)
            told = listed if listed is not None and listed.size_bytes == size else told
        headers = {
            "ETag": f'"{told.etag}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        asked_range = _range(byte_range, size)
        if asked_range is None:
            return Answer(200, headers | {"Content-Length": str(size)}, path=path, end=size)
        start, end = asked_range
        if start >= end:
            return Answer(416, headers | {"Content-Length": "0", "Content-Range": f"bytes */{size}"})
        headers |= {"Content-Length": str(end - start), "Content-Range": f"bytes {start}-{end - 1}/{size}"}
        return Answer(206, headers, path=path, start=start, end=end)

    def _listed(self, repository: Repository, commit: str) -> dict[str, HubFile] | None:
        """Return the files of a commit, where huggingface_hub has left its listing: its `_tree_cache` writes them."""
        name = f"{repository.folder}/trees/{commit}.json"
        if name in self.assumed:
            return None
        try:
            with open(os.path.join(self._directory, name), "rb") as file:
                files = json.load(file)["files"]
            return {
                path: HubFile(told["size"], told["blob_id"], told.get("lfs_sha256")) for path, told in files.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


def commit_of(folder: str, revision: str) -> str | None:
    """Return the commit of a revision of the repository in a folder; None where it has none."""
    if COMMIT.fullmatch(revision):
        return revision if os.path.isdir(os.path.join(folder, "snapshots", revision)) else None
    try:
        with open(os.path.join(folder, "refs", revision), errors="replace") as file:
            commit = file.read().strip()
    except OSError:  # it is not there, or cannot be fetched any more
        return None
    return commit if _SEGMENT.fullmatch(commit) else None


def _names(directory: str) -> Iterator[str]:
    """Return the files below a directory, by their paths in it."""
    for top, _, files in os.walk(directory):
        for name in files:
            yield os.path.relpath(os.path.join(top, name), directory)


def _card(snapshot: str) -> dict[str, Any]:
    """Return the metadata in a README, such as the task that a pipeline is for; nothing where there is none."""
    from huggingface_hub.repocard import metadata_load

    try:
        told = metadata_load(os.path.join(snapshot, "README.md")) or {}
        return dict(json.loads(json.dumps(told, default=str)))  # YAML has dates
    except Exception:  # it is missing, does not come, or is not YAML
        return {}


def _described(path: str) -> HubFile:
    """Return what the name of its blob tells of a file."""
    size = os.path.getsize(path)
    blob = os.path.basename(os.readlink(path)) if os.path.islink(path) else f"{size:x}"
    return HubFile.of_blob(blob, size)


def _range(asked: str | None, size: int) -> tuple[int, int] | None:
    """Return where the one range that is asked for begins and ends; None for the whole file (RFC 9110, section 14)."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


def _tree(asked: Asked, commit: str, files: Mapping[str, HubFile], place: str, *, recursive: bool) -> Answer:
    below = f"{asked.path}/" if asked.path else ""
    found = [
        entry
        for path, entry in hub_json.entries(files, commit).items()
        if path.startswith(below) and (recursive or "/" not in path[len(below) :])
    ]
    if not found and below:
        return _missing(commit, f"{place} has no {asked.path} at revision {asked.revision}")
    return _json(found, commit)


def _refs(folder: str) -> Answer:
    """Return the names of revisions; nothing tells tags from branches."""
    found: dict[str, list[dict[str, Any]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    for name in sorted(_names(os.path.join(folder, "refs"))):
        kind = "pullRequests" if name.startswith("refs/pr/") else "branches"
        ref = name if name.startswith("refs/") else f"refs/heads/{name}"
        found[kind].append({"name": name, "ref": ref, "targetCommit": commit_of(folder, name)})
    return _json(found, None)


def _json(body: object, commit: str | None) -> Answer:
    headers = {"Content-Type": "application/json"} | ({"X-Repo-Commit": commit} if commit else {})
    return Answer(200, headers, body)


def _missing(commit: str, why: str) -> Answer:
    headers = {"X-Repo-Commit": commit, "X-Error-Code": "EntryNotFound", "X-Error-Message": why}
    return Answer(404, headers, {"error": why})
