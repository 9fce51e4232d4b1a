"""Which key becomes which path below a Mount, and which keys cannot."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diskless.sources.spec import Object

_NAME_MAX, _PATH_MAX = 255, 4000  # limits.h; room is left for the path of the Mount


# What may be wrong with a short path of ASCII characters.
_ODD = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x1f\x7f]")


def refusal(path: str) -> str | None:
    """Say why a relative path cannot be a file, or return None where it can."""
    if path.isascii() and len(path) <= _NAME_MAX and _ODD.search(path) is None:
        return None  # nearly all: a listing may have a million
    segments = path.split("/")
    if path.startswith("/") or "" in segments:
        return "it has an empty part between slashes"
    if "." in segments or ".." in segments:
        return "it has a part '.' or '..'"
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        return "it holds control characters"
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if any(len(segment) > _NAME_MAX for segment in encoded.split(b"/")):
        return f"a part is longer than {_NAME_MAX} bytes"
    if len(encoded) > _PATH_MAX:
        return f"it is longer than {_PATH_MAX} bytes"
    return None


def place(entries: Iterable[Object]) -> tuple[list[Object], list[tuple[str, str]]]:
    """Split listed objects, their `path` relative to the URL, into those that can be files and those refused.

    Directory markers (empty objects whose key ends in a slash) are no files, and nothing that needs to be said.
    """
    placed: list[Object] = []
    refused: list[tuple[str, str]] = []
    for entry in entries:
        if entry.key.endswith("/") and entry.size_bytes == 0:
            continue
        why = refusal(entry.path)
        if why is None:
            placed.append(entry)
        else:
            refused.append((entry.key, why))
    directories: set[str] = set()
    for entry in placed:
        # Upwards, until one is known: then those above it are too.
        parent = entry.path.rpartition("/")[0]
        while parent and parent not in directories:
            directories.add(parent)
            parent = parent.rpartition("/")[0]
    both = [entry for entry in placed if entry.path in directories]
    refused.extend(
        (entry.key, f"there are objects below {entry.key}/ too, and a path cannot be both") for entry in both
    )
    return [entry for entry in placed if entry.path not in directories], refused
