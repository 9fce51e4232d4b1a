"""Hub JSON: what the Hub's server tells of repositories, as huggingface_hub reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple


class HubFile(NamedTuple):
    """A file of a repository: the id of git's blob, and the SHA-256 where it lies in LFS."""

    size_bytes: int
    blob_id: str
    sha256: str | None = None

    @classmethod
    def of_blob(cls, etag: str, size_bytes: int) -> HubFile:
        """Return what its ETag tells of a file."""
        if len(etag) != 64:
            return cls(size_bytes, etag)
        pointer = _pointer(etag, size_bytes)
        blob_id = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer, usedforsecurity=False).hexdigest()
        return cls(size_bytes, blob_id, etag)

    @property
    def etag(self) -> str:
        """What huggingface_hub calls the blob."""
        return self.sha256 or self.blob_id

    def lfs(self, hash_name: str) -> dict[str, dict[str, Any]]:
        """Return what is told of a file in LFS beside the rest; nothing of others."""
        if self.sha256 is None:
            return {}
        pointer_size = len(_pointer(self.sha256, self.size_bytes))
        return {"lfs": {hash_name: self.sha256, "size": self.size_bytes, "pointerSize": pointer_size}}


def _pointer(sha256: str, size_bytes: int) -> bytes:
    """Return what git has in place of a file in LFS: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n".encode()


def entries(files: Mapping[str, HubFile], commit: str) -> dict[str, dict[str, Any]]:
    """Return what a tree says of files, and of the directories that they are in, by path."""
    found: dict[str, dict[str, Any]] = {}
    for path, told in files.items():
        for depth in range(1, path.count("/") + 1):
            directory = "/".join(path.split("/")[:depth])
            found.setdefault(directory, {"type": "directory", "path": directory, "size": 0, "oid": commit})
        found[path] = {"type": "file", "path": path, "size": told.size_bytes, "oid": told.blob_id, **told.lfs("oid")}
    return dict(sorted(found.items()))


def _tags(card: Mapping[str, Any]) -> list[str]:
    """Return the tags that the Hub makes of a card; it adds others, of its own."""
    named = {"": "tags", "license:": "license", "dataset:": "datasets", "base_model:": "base_model"}
    tags = [str(card[key]) for key in ("library_name", "pipeline_tag") if card.get(key)]
    for start, key in named.items():
        told = card.get(key) or []
        tags += [f"{start}{each}" for each in (told if isinstance(told, list) else [told])]
    return tags


def info(
    name: str, commit: str, files: Mapping[str, HubFile], card: Mapping[str, Any], *, blobs: bool
) -> dict[str, Any]:
    """Return what is told of a repository at a commit, with what its card says: the metadata on top of its README."""
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in files]
    if blobs:
        for sibling, told in zip(siblings, files.values(), strict=True):
            sibling |= {"size": told.size_bytes, "blobId": told.blob_id, **told.lfs("sha256")}
    return {
        "_id": commit[:24],
        "id": name,
        "modelId": name,
        "sha": commit,
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": _tags(card),
        "downloads": 0,
        "likes": 0,
        "siblings": siblings,
        "cardData": dict(card),
        **{key: card[key] for key in ("pipeline_tag", "library_name") if card.get(key)},
    }
