"""Hub cache: the directory of huggingface_hub with the repositories of a mirror in it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from diskless.caches import libraries
from diskless.caches.hub_client import HubClient
from diskless.caches.hub_layout import Repository, repositories, split_id
from diskless.caches.mirrored_hub import MirroredHub, commit_of
from diskless.caches.place import make_parent, put
from diskless.errors import InvalidOption, NotFound
from diskless.forks import LOCK

if TYPE_CHECKING:
    from diskless.caches.mirror import Mirror
    from diskless.ram.file import RamFile


class HubCache:
    """A directory in RAM that may be written, filled with what a mirror has, until `close`.

    What else of `directories` there is has links to the repositories in the first.
    """

    def __init__(self, directories: list[str], mirror: Mirror | None, *, ask: bool, token: str | None) -> None:
        self.directories = directories
        self.directory = directories[0]
        self._mirror = mirror
        self._closed = False  # guarded by LOCK: what is put anywhere after that would be on the disk
        self._repositories = repositories(mirror.objects, libraries.PREFIXES) if mirror is not None else {}
        for repository in self._repositories.values():
            self._put(repository)
        self._hub = (
            MirroredHub(mirror.url, self._repositories, self.directory, self._put) if mirror is not None else None
        )
        place = mirror.url if mirror is not None else "the cache in RAM"
        self._client = HubClient(self._hub, place, ask=ask, token=token)
        _forget_listings()

    @property
    def holds_any(self) -> bool:
        """Whether the mirror has a repository."""
        return bool(self._repositories)

    @property
    def not_written_back(self) -> set[str]:
        """What is not to be in the mirror, below the directory.

        A copied cache beside what it has as plain files would hide those, and a listing that lacks files would stay.
        Nor is the name of a revision that the mirror has: where it leads there still, and where it leads to a commit of
        which it would have fewer files than before.
        """
        left_out = self._hub.assumed.copy() if self._hub is not None else set()
        for repository in self._repositories.values():
            folder = os.path.join(self.directory, repository.folder)
            if repository.plain:
                left_out.add(repository.folder)
                continue
            left_out |= {
                f"{repository.folder}/{name}" for name in repository.files if self._leads_somewhere(repository, name)
            }
            for name, before in repository.texts.items():
                commit = commit_of(folder, name.removeprefix("refs/"))
                if commit in (before, None) or not _has_all(folder, str(commit), repository.paths(before)):
                    left_out.add(f"{repository.folder}/{name}")
        return left_out

    def _leads_somewhere(self, repository: Repository, name: str) -> bool:
        """Whether it is the name of a revision with a commit, whichever that is."""
        assert self._mirror is not None
        return name.startswith("refs/") and self._mirror.objects[repository.files[name]].size_bytes in (40, 41)

    def close(self) -> None:
        """Let huggingface_hub ask its server as before."""
        with LOCK:
            self._closed = True
        self._client.close()
        _forget_listings()

    def files_of(self, ids: str | Iterable[str]) -> dict[str, RamFile]:
        """Return the files of repositories of the mirror by their paths in the directory.

        Raises InvalidOption where there is no mirror, NotFound for what it does not have, and BudgetExceeded where they
        do not fit together.
        """
        if self._mirror is None:
            raise InvalidOption("without a mirror there is nothing to fetch beforehand")
        names: dict[str, str] = {}
        asked = [ids] if isinstance(ids, str) else list(ids)
        for each in asked:
            if not isinstance(each, str):
                raise InvalidOption(
                    f"a repository is a str such as 'org/name' or 'org/name@revision', not {each!r:.50}"
                )
        for each in asked:
            repository, blobs = self._find(self._mirror, each)
            for blob in blobs:
                path = os.path.join(self.directory, repository.folder, "blobs", blob)
                names[path] = repository.files[f"blobs/{blob}"]
        self._mirror.check_room(", ".join(asked), names.values())
        return {path: self._mirror.files[name] for path, name in names.items()}

    def _find(self, mirror: Mirror, asked: str) -> tuple[Repository, set[str]]:
        """Return the repository of ``org/name@revision``, and the blobs of that revision."""
        kind, name, revision = split_id(asked)
        repository = self._repositories.get((kind, name))
        if repository is None:
            assert self._hub is not None  # as there is a mirror
            raise NotFound(self._hub.lacks(kind, name))
        self._put(repository)
        commit = commit_of(os.path.join(self.directory, repository.folder), revision)
        start = f"snapshots/{commit}/"
        blobs = {blob for path, blob in repository.links.items() if path.startswith(start)}
        if not blobs:
            place = f"{mirror.url}/{repository.prefix}"
            revisions = sorted(path.removeprefix("refs/") for path in repository.names_of_revisions)
            raise NotFound(
                f"{place} has no snapshot of the revision {revision} (it has {', '.join(revisions) or 'none'})"
            )
        return repository, blobs

    def _put(self, repository: Repository) -> None:
        """Give a repository's files their names, those that were removed again, and leave what is there."""
        assert self._mirror is not None
        folder = os.path.join(self.directory, repository.folder)
        with LOCK:
            if self._closed:
                return
            for name, path in repository.files.items():
                put(os.path.join(folder, name), self._mirror.files[path])
            for name, text in repository.texts.items():
                make_parent(os.path.join(folder, name))
                with contextlib.suppress(FileExistsError), open(os.path.join(folder, name), "x") as file:
                    file.write(text)
            for name, blob in repository.links.items():
                path = os.path.join(folder, name)
                make_parent(path)
                with contextlib.suppress(FileExistsError):
                    os.symlink(os.path.relpath(os.path.join(folder, "blobs", blob), os.path.dirname(path)), path)
            for directory in self.directories[1:]:
                with contextlib.suppress(FileExistsError):
                    os.symlink(folder, os.path.join(directory, repository.folder))


def _has_all(folder: str, commit: str, paths: Iterable[str]) -> bool:
    """Whether the snapshot of a commit has the files of another one."""
    return all(os.path.exists(os.path.join(folder, "snapshots", commit, path)) for path in paths)


def _forget_listings() -> None:
    """Let huggingface_hub read listings of commits anew: those that it remembers by their paths are of other files."""
    module = sys.modules.get("huggingface_hub._tree_cache")  # of 2.0 and later
    getattr(module, "_IN_MEMORY_TREE_CACHE", {}).clear()
