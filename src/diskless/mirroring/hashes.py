"""What the Hub calls the bytes of a file: their SHA-256 where it lies in LFS, else the id of git's blob."""

from __future__ import annotations

import hashlib
import os
import re

from diskless.errors import ChecksumMismatch

_CHUNK_BYTES = 1 << 20
_NAMES = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def is_name(text: str) -> bool:
    """Whether a text may be such a name, as the blobs of a cache have them."""
    return _NAMES.fullmatch(text) is not None


def check(path: str, name: str, what: str) -> None:
    """Raise ChecksumMismatch unless the file's bytes are those that the Hub calls `name`; `what` is for the message."""
    size = os.path.getsize(path)
    hasher = hashlib.sha256() if len(name) == 64 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    if hasher.hexdigest() != name:
        kind = "SHA-256" if len(name) == 64 else "git blob"
        raise ChecksumMismatch(f"{what} has {size} bytes whose {kind} is {hasher.hexdigest()}, and it should be {name}")
