"""What the hub's API tells of a repository, as the JSON that `huggingface_hub` reads."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.caches.repository import File, Repository

DATE = "2026-01-02T03:04:05.000Z"
Json = dict[str, Any]


def info(repo_id: str, repository: Repository, commit: str, *, blobs: bool, expand: list[str]) -> Json:
    """The answer to `model_info` and `dataset_info`."""
    siblings = [_sibling(file, blobs) for file in repository.files(commit)]
    told: Json = {
        "author": repo_id.partition("/")[0] if "/" in repo_id else None,
        "cardData": None,
        "createdAt": DATE,
        "disabled": False,
        "downloads": 0,
        "gated": "manual" if repository.gated else False,
        "lastModified": DATE,
        "likes": 0,
        "private": repository.private,
        "sha": commit,
        "siblings": siblings,
        "tags": repository.labels,
        "usedStorage": sum(len(file.data) for file in repository.files(commit)),
    }
    always = {"_id": hashlib.sha1(repo_id.encode()).hexdigest()[:24], "id": repo_id, "modelId": repo_id}
    return {**always, **({name: told.get(name) for name in expand} if expand else told)}


def _sibling(file: File, blobs: bool) -> Json:
    if not blobs:
        return {"rfilename": file.path}
    lfs = {"sha256": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)} if file.is_lfs else None
    told = {"rfilename": file.path, "blobId": file.blob_id, "size": len(file.data)}
    return {**told, **({"lfs": lfs} if lfs else {})}


def tree(repository: Repository, commit: str, path: str, *, recursive: bool, expand: bool) -> list[Json] | None:
    """The entries below a directory, by name; None where there is no such directory."""
    prefix = f"{path}/" if path else ""
    entries: dict[str, Json] = {}
    for file in repository.files(commit):
        if not file.path.startswith(prefix):
            continue
        parts = file.path[len(prefix) :].split("/")
        shown = len(parts) if recursive else 1
        for depth in range(1, min(shown, len(parts) - 1) + 1):
            directory = prefix + "/".join(parts[:depth])
            entries.setdefault(directory, _directory(repository, commit, directory, expand))
        if shown == len(parts):
            entries[file.path] = _entry(file, commit, expand)
    if path and not entries:
        return None
    return [entries[name] for name in sorted(entries)]


def paths(repository: Repository, commit: str, wanted: list[str], *, expand: bool) -> list[Json]:
    """The answer to `get_paths_info`, which leaves out what is not there."""
    found = []
    for path in wanted:
        if (file := repository.file(commit, path)) is not None:
            found.append(_entry(file, commit, expand))
        elif any(file.path.startswith(f"{path}/") for file in repository.files(commit)):
            found.append(_directory(repository, commit, path, expand))
    return found


def _entry(file: File, commit: str, expand: bool) -> Json:
    told: Json = {"type": "file", "oid": file.blob_id, "size": len(file.data), "path": file.path}
    if file.is_lfs:
        told["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
    if expand:
        safe = {"status": "safe", "avScan": None, "pickleImportScan": None}
        told |= {"lastCommit": _last_commit(commit), "securityFileStatus": safe}
    return told


def _directory(repository: Repository, commit: str, path: str, expand: bool) -> Json:
    held = "".join(file.blob_id for file in repository.files(commit) if file.path.startswith(f"{path}/"))
    told: Json = {"type": "directory", "oid": hashlib.sha1(held.encode()).hexdigest(), "size": 0, "path": path}
    return {**told, **({"lastCommit": _last_commit(commit)} if expand else {})}


def _last_commit(commit: str) -> Json:
    return {"id": commit, "title": f"Commit {commit[:7]}", "date": DATE}


def refs(repository: Repository) -> Json:
    def told(names: dict[str, str], kind: str) -> list[Json]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": names[name]} for name in names]

    branches = {name: commit for name, commit in repository.branches.items() if not name.startswith("refs/")}
    requests = {name: commit for name, commit in repository.branches.items() if name.startswith("refs/pr/")}
    return {
        "branches": told(branches, "heads"),
        "tags": told(repository.tags, "tags"),
        "converts": [],
        "pullRequests": [{"name": name, "ref": name, "targetCommit": requests[name]} for name in requests],
    }


def commits(repository: Repository, commit: str) -> list[Json]:
    """All commits up to this one, the newest first; what branches there were is not told apart."""
    known = list(repository.commits)
    return [
        {"id": each, "title": f"Commit {each[:7]}", "message": "", "authors": [{"user": "tests"}], "date": DATE}
        for each in reversed(known[: known.index(commit) + 1])
    ]
