"""A repository of a Hugging Face hub: commits, each with its own files, and the names that lead to them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

# What the hub's own .gitattributes keep in LFS; everything else lies in git.
LFS_SUFFIXES = (".safetensors", ".bin", ".onnx", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".parquet")


@dataclass(frozen=True)
class File:
    """One file at one commit, in the words of the hub."""

    path: str
    data: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return _sha256(self.data)

    @property
    def pointer(self) -> bytes:
        """What git keeps in place of the bytes of a file in LFS."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @property
    def blob_id(self) -> str:
        return git_blob_id(self.pointer if self.is_lfs else self.data)

    @property
    def etag(self) -> str:
        """What names the bytes: the client's cache calls the file so in its `blobs`."""
        return self.sha256 if self.is_lfs else self.blob_id


@dataclass
class Repository:
    """Files by commit (40 hex digits, oldest first), and the branches and tags that point to commits."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    gated: bool = False  # everybody sees what is there, and only its readers get the files
    private: bool = False  # for all but its readers it does not exist
    readers: set[str] = field(default_factory=set)  # tokens
    other_ids: set[str] = field(default_factory=set)  # what it was called before it was renamed
    labels: list[str] = field(default_factory=list)  # the tags of the model card, no git tags
    lfs_suffixes: tuple[str, ...] = LFS_SUFFIXES

    @classmethod
    def of(cls, files: Mapping[str, bytes], *, gated: bool = False, private: bool = False) -> Repository:
        """One with a single commit, on `main`."""
        repository = cls(gated=gated, private=private)
        repository.commit(files)
        return repository

    def commit(self, files: Mapping[str, bytes], *, branch: str = "main", tag: str | None = None) -> str:
        """Add a commit with exactly these files to a branch, and return it; the same history has the same commits."""
        told = hashlib.sha1(f"{branch}\0{self.branches.get(branch, '')}".encode())
        for path in sorted(files):
            told.update(f"\0{path}\0{_sha256(bytes(files[path]))}".encode())
        commit = told.hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        if tag is not None:
            self.tags[tag] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        """Return the commit which a branch, a tag or a commit itself names, `refs/heads/…` and the like included."""
        for names, prefix in ((self.branches, "refs/heads/"), (self.tags, "refs/tags/")):
            for name in (revision, revision.removeprefix(prefix)):
                if name in names:
                    return names[name]
        return revision if revision in self.commits else None

    def file(self, commit: str, path: str) -> File | None:
        data = self.commits[commit].get(path)
        return None if data is None else File(path, data, path.endswith(self.lfs_suffixes))

    def files(self, commit: str) -> Iterator[File]:
        for path in sorted(self.commits[commit]):
            file = self.file(commit, path)
            assert file is not None
            yield file

    def lfs_file(self, sha256: str) -> File | None:
        """The file in LFS with these bytes, at whatever commit."""
        for commit in self.commits:
            for file in self.files(commit):
                if file.is_lfs and file.sha256 == sha256:
                    return file
        return None

    def lets_read(self, token: str | None) -> bool:
        return token in self.readers or not (self.gated or self.private)


def git_blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


# A model is hashed once and not with each request.
@functools.lru_cache(maxsize=256)
def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
