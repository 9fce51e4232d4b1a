"""check_mirror: what a mirror in S3 lacks of what it says that it has."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from diskless.caches import libraries
from diskless.caches.hub_layout import Repository, folder_of, in_folder, join_id, repositories
from diskless.sources import Object

# The few small objects that say what there is to be.
_NOT_READ = ["*/snapshots/*", "*/blobs/*", "*/.no_exist/*"]


@dataclass
class Checked:
    """A repository of a mirror; it is complete where there are no `problems`, and one of `plain` files always is."""

    repository: str
    revisions: list[str] = field(default_factory=list)
    files: int = 0
    size_bytes: int = 0
    # Commits of which nothing says what files they have.
    unlisted: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    plain: bool = False


def check_mirror(url: str) -> list[Checked]:
    """Look through the listing of a mirror, and what it holds of names of revisions and listings of commits.

    Plain files, ``org/name/…``, are all there is of their repository. No file's bytes are read.

    Raises:
        NotFound: there is no mirror.
        InvalidURL, AccessDenied, CredentialsError, SourceUnavailable, TransferError: it cannot be read.
    """
    from diskless.errors import NotFound
    from diskless.loader import client
    from diskless.sources import resolve

    spec = resolve(url)
    with client.Job(spec) as job:
        objects = {entry.path: entry for entry in job.list().objects}
    folders: dict[tuple[str, str], dict[str, Object]] = {}
    for path, entry in objects.items():
        if (place := in_folder(path)) is not None:
            folders.setdefault(place[0], {})[place[1]] = entry
    plain = [each for each in repositories(objects, libraries.PREFIXES).values() if each.plain]
    if not folders and not plain:
        raise NotFound(f"{spec.display} holds no repository, such as models--org--name/ or org/name/")
    texts = _texts(url, folders)
    found = [_check(join_id(*key), folders[key], texts[key]) for key in folders]
    found += [_plain(repository, objects) for repository in plain]
    return sorted(found, key=lambda each: each.repository)


def _plain(repository: Repository, objects: Mapping[str, Object]) -> Checked:
    sizes = [objects[repository.files[f"blobs/{blob}"]].size_bytes for blob in repository.links.values()]
    names = [path.removeprefix("refs/") for path in repository.texts]
    return Checked(join_id(repository.kind, repository.name), names, len(sizes), sum(sizes), plain=True)


def _texts(url: str, folders: Mapping[tuple[str, str], Mapping[str, Object]]) -> dict[tuple[str, str], dict[str, str]]:
    """Return what is written in the names of revisions and the listings of commits, by repository and path."""
    import diskless

    found: dict[tuple[str, str], dict[str, str]] = {key: {} for key in folders}
    wanted = [(key, path) for key, paths in folders.items() for path in paths if path.startswith(("refs/", "trees/"))]
    if wanted:
        allowed = ["*/refs/*", "*/trees/*.json"]
        with diskless.mount(url, allow_patterns=allowed, ignore_patterns=_NOT_READ, progress=False) as top:
            for key, path in wanted:
                where = os.path.join(top, folder_of(*key), path)
                if os.path.exists(where):
                    with open(where, errors="replace") as file:
                        found[key][path] = file.read()
    return found


def _check(name: str, objects: Mapping[str, Object], texts: Mapping[str, str]) -> Checked:
    told = Checked(name)
    snapshots: dict[str, dict[str, int]] = {}
    for path, entry in objects.items():
        top, _, rest = path.partition("/")
        commit, _, below = rest.partition("/")
        if top == "snapshots" and below:
            snapshots.setdefault(commit, {})[below] = entry.size_bytes
            told.files += 1
            told.size_bytes += entry.size_bytes
    listed = {path[len("trees/") : -len(".json")] for path in texts if path.startswith("trees/")}
    for path, text in texts.items():
        if path.startswith("refs/"):
            told.revisions.append(path[len("refs/") :])
            if text.strip() not in snapshots and text.strip() not in listed:
                told.problems.append(f"{path} names the commit {text.strip()[:40]}, which has no snapshot")
        elif path.startswith("trees/"):
            commit = path[len("trees/") : -len(".json")]
            told.problems += _lacks(path, commit, text, snapshots.get(commit, {}))
    if not snapshots and not told.problems:
        told.problems.append("there is no snapshot")
    told.unlisted = sorted(snapshots.keys() - listed)
    return told


def _lacks(path: str, commit: str, text: str, files: Mapping[str, int]) -> Iterator[str]:
    """Yield what a snapshot lacks of what the listing of its commit names."""
    try:
        wanted = {name: int(told["size"]) for name, told in json.loads(text)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"{path} cannot be read: it is no listing of huggingface_hub's"
        return
    for name, size in wanted.items():
        if name not in files:
            yield f"snapshots/{commit}/{name} is missing"
        elif files[name] != size:
            yield f"snapshots/{commit}/{name} has {files[name]} bytes, and not {size}"
