"""Hub layout: what of a mirror goes where in a cache of huggingface_hub, from the mirror's listing alone.

A mirror holds a repository as `aws s3 sync` copies it out of such a cache (`models--org--name/refs`, `snapshots`,
`blobs`, where what were links have become copies), or as plain files (`org/name/…`, `org/name/<revision>/…`).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from diskless.sources import Object

_log = logging.getLogger("diskless")
KINDS = ("models", "datasets", "spaces")
COMMIT = re.compile(r"[0-9a-f]{40}")
# Beside blobs and snapshots, what huggingface_hub reads: names of revisions, files that it knows not to exist, and
# listings of commits.
_AS_THEY_ARE = ("refs", ".no_exist", "trees")
_CONFIGURATIONS = ("config.json", "model_index.json")
# How files begin that lie beside the repositories of an organisation; those of a desktop are in any folder.
_BESIDE = ("README", "LICENSE", ".")
_OF_A_DESKTOP = (".DS_Store", "Thumbs.db")


def split_id(asked: str) -> tuple[str, str, str]:
    """Return the kind, the name and the revision that ``org/name@revision`` or ``datasets/org/name`` asks for."""
    whole, _, revision = asked.partition("@")
    first, _, rest = whole.partition("/")
    # No organisation is called as the kinds are, so ``datasets/name`` is a dataset of none.
    kind, name = (first, rest) if first in KINDS and rest else ("models", whole)
    return kind, name, revision or "main"


def join_id(kind: str, name: str) -> str:
    """Return what `split_id` takes."""
    return name if kind == "models" else f"{kind}/{name}"


def folder_of(kind: str, name: str) -> str:
    """Return the name of a repository's directory in a cache, such as ``models--org--name``."""
    return "--".join((kind, *name.split("/")))


def of_folder(folder: str) -> tuple[str, str] | None:
    """Return the kind and the name of the repository that has this directory in a cache, if one has."""
    kind, _, name = folder.partition("--")
    return (kind, name.replace("--", "/")) if kind in KINDS and name else None


def in_folder(path: str) -> tuple[tuple[str, str], str] | None:
    """Return the kind and name of the repository whose directory a path begins with, and the path below that."""
    folder, _, below = path.partition("/")
    key = of_folder(folder)
    return (key, below) if key is not None and below else None


@dataclass
class Repository:
    """One repository of the mirror, as names below its folder in the cache."""

    kind: str
    name: str
    # Where it is in the mirror, for messages.
    prefix: str
    # Whether each snapshot is all there is of its revision: so it is of plain files.
    plain: bool
    # Names to the paths in the mirror of the files they are.
    files: dict[str, str] = field(default_factory=dict)
    # Names to the names of the blobs that they link to.
    links: dict[str, str] = field(default_factory=dict)
    # Names to what is written in them.
    texts: dict[str, str] = field(default_factory=dict)
    # Blobs that the mirror does not have by their names, which are so no hashes of their bytes.
    made: set[str] = field(default_factory=set)

    @property
    def folder(self) -> str:
        """The name of its directory in the cache."""
        return folder_of(self.kind, self.name)

    @property
    def commits(self) -> set[str]:
        """The commits of which there are snapshots."""
        return {path.split("/")[1] for path in self.links}

    def paths(self, commit: str) -> list[str]:
        """Return the files of a commit by their paths in it."""
        start = f"snapshots/{commit}/"
        return [path.removeprefix(start) for path in self.links if path.startswith(start)]

    @property
    def names_of_revisions(self) -> list[str]:
        """Such as ``refs/main``."""
        return [path for path in (*self.files, *self.texts) if path.startswith("refs/")]

    def names(self, revision: str) -> bool:
        """Whether the mirror has this revision, or says which commit it is."""
        ref = f"refs/{revision}"
        return ref in self.files or ref in self.texts or revision in self.commits


def repositories(objects: Mapping[str, Object], others: Iterable[str] = ()) -> dict[tuple[str, str], Repository]:
    """Return the repositories of a mirror by kind and name, from its objects by their paths below its URL.

    What begins with one of `others` is other libraries'. What has the same bytes by the store's ETag, in
    whichever repositories and in the store that they share, is one file.
    """
    first: dict[tuple[str, int], str] = {}
    for entry in objects.values():
        if entry.etag:
            first.setdefault((entry.etag, entry.size_bytes), entry.path)
    objects = {
        path: entry._replace(path=first[entry.etag, entry.size_bytes]) if entry.etag else entry
        for path, entry in objects.items()
    }
    groups: dict[tuple[str, str], dict[str, Object]] = {}
    plain: dict[tuple[str, str], dict[str, Object]] = {}
    skipped = tuple(others)
    for path, entry in objects.items():
        if (found := in_folder(path)) is not None:
            groups.setdefault(found[0], {})[found[1]] = entry
            continue
        top, _, rest = path.partition("/")
        if rest and not path.startswith(skipped) and not top.startswith(".") and top != "blobs":
            kind, below = (top, rest) if top in KINDS[1:] else ("models", path)
            plain.setdefault((kind, below.partition("/")[0]), {})[below.partition("/")[2]] = entry
    made = {key: _of_a_cache(*key, files) for key, files in groups.items()}
    for repository in _of_plain_files(plain):
        key = repository.kind, repository.name
        if key in made:
            _log.warning("the mirror has %s twice: %s is left out", repository.name, repository.prefix)
        else:
            made[key] = repository
    return made


def _of_a_cache(kind: str, name: str, objects: Mapping[str, Object]) -> Repository:
    repository = Repository(kind, name, prefix="", plain=False)
    repository.prefix = repository.folder + "/"
    blobs: dict[tuple[str, int], str] = {}
    commits = {path.split("/")[1] for path in objects if path.startswith("snapshots/")}
    for path, entry in objects.items():
        top, _, rest = path.partition("/")
        if top == "refs" and rest and (commit := _told_by_etag(entry, commits)) is not None:
            repository.texts[path] = commit
        elif top == "blobs" and rest and "/" not in rest and not rest.endswith(".incomplete"):
            repository.files[path] = entry.path
            if entry.etag:
                blobs.setdefault((entry.etag, entry.size_bytes), rest)
        elif top in _AS_THEY_ARE and rest:
            repository.files[path] = entry.path
    for path, entry in objects.items():
        top, _, rest = path.partition("/")
        if top == "snapshots" and "/" in rest:
            _add(repository, path, entry, blobs)
    return repository


def _told_by_etag(entry: Object, commits: Iterable[str]) -> str | None:
    """Return which of the commits the name of a revision leads to, by its ETag, which is mostly the MD5 of the bytes.

    So it need not be fetched, and leads there still when the mirror is given a newer one.
    """
    etag = (entry.etag or "").strip('"')
    for commit in commits:
        for written in (commit, f"{commit}\n"):
            told = written.encode(errors="surrogateescape")
            if len(told) == entry.size_bytes and hashlib.md5(told, usedforsecurity=False).hexdigest() == etag:
                return commit
    return None


def _of_plain_files(groups: Mapping[tuple[str, str], Mapping[str, Object]]) -> Iterator[Repository]:
    for (kind, top), objects in groups.items():
        start = f"{kind}/" if kind != "models" else ""
        if _is_repository(objects):  # its name has no organisation
            yield _of_revisions(kind, top, f"{start}{top}/", {"main": objects})
            continue
        named: dict[str, dict[str, Object]] = {}
        for path, entry in objects.items():
            name, _, rest = path.partition("/")
            if rest:
                named.setdefault(name, {})[rest] = entry
        if any(map(of_folder, named)):
            _log.warning("%s%s/ is a cache of huggingface_hub itself: the mirror's URL has to name it", start, top)
            continue
        for name, files in named.items():
            prefix = f"{start}{top}/{name}/"
            if any(map(_is_right_in_it, files)):
                yield _of_revisions(kind, f"{top}/{name}", prefix, {"main": files})
                continue
            revisions: dict[str, dict[str, Object]] = {}
            for path, entry in files.items():
                revision, _, rest = path.partition("/")
                if rest:
                    revisions.setdefault(revision, {})[rest] = entry
            yield _of_revisions(kind, f"{top}/{name}", prefix, revisions)


def _is_right_in_it(path: str) -> bool:
    """Whether a file lies in a folder itself."""
    return "/" not in path and path not in _OF_A_DESKTOP


def _is_repository(paths: Iterable[str]) -> bool:
    """Whether a folder at the top of a mirror is a repository without an organisation, and not an organisation.

    An organisation may have a file beside its repositories, and a repository folders with a configuration in each.
    """
    own = [path for path in paths if _is_right_in_it(path)]
    beneath = any(path.partition("/")[2] in _CONFIGURATIONS for path in paths)
    return bool(own) and not (beneath and all(path.upper().startswith(_BESIDE) for path in own))


def _of_revisions(kind: str, name: str, prefix: str, revisions: Mapping[str, Mapping[str, Object]]) -> Repository:
    repository = Repository(kind, name, prefix, plain=True)
    blobs: dict[tuple[str, int], str] = {}
    for revision, objects in revisions.items():
        commit = revision if COMMIT.fullmatch(revision) else _commit_of(objects)
        if commit != revision:
            repository.texts[f"refs/{revision}"] = commit
        for path, entry in objects.items():
            _add(repository, f"snapshots/{commit}/{path}", entry, blobs)
    return repository


def _commit_of(objects: Mapping[str, Object]) -> str:
    """Return what stands for the commit of plain files: the same for the same files, another one for others."""
    told = [f"{path}\0{entry.size_bytes}\0{entry.etag or entry.mtime_ns}" for path, entry in sorted(objects.items())]
    return hashlib.sha1("\n".join(told).encode(), usedforsecurity=False).hexdigest()


def _add(repository: Repository, path: str, entry: Object, blobs: dict[tuple[str, int], str]) -> None:
    """Link a file of a snapshot to the blob that has its bytes, or is made for it.

    Copies are known by the store's ETag; where that tells nothing, a copy is another blob, and not fetched unless read.
    """
    same = (entry.etag, entry.size_bytes) if entry.etag else None
    blob = blobs.get(same) if same else None
    if blob is None:
        told = f"{entry.path}\0{entry.size_bytes}\0{entry.etag or entry.mtime_ns}"
        blob = hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest()
        repository.files[f"blobs/{blob}"] = entry.path
        repository.made.add(blob)
        if same:
            blobs[same] = blob
    repository.links[path] = blob
