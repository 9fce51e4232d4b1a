"""Hub requests: what huggingface_hub asks its server for, read off the path of a request."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

_FILE = re.compile(r"/(?:(datasets|spaces)/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)")
_API = re.compile(
    r"/api/(models|datasets|spaces)/([^/]+(?:/[^/]+)??)(?:/(revision|tree|paths-info|refs)(?:/([^/]+)(/.*)?)?)?"
)


class Asked(NamedTuple):
    """`what` is ``"file"``, ``"info"``, ``"tree"``, ``"paths-info"`` or ``"refs"``; `path` is one in the repository."""

    what: str
    kind: str
    name: str
    revision: str
    path: str = ""


def read(path: str) -> Asked | None:
    """Return what a path, percent-encoded and below the hub's own, asks for; None for what no mirror answers.

    As huggingface_hub makes them: `file_download.hf_hub_url` and the methods of `HfApi`.
    """
    if match := _FILE.fullmatch(path):
        kind, name, revision, file = match.groups()
        asked = Asked("file", kind or "models", unquote(name), unquote(revision), unquote(file))
    elif match := _API.fullmatch(path):
        kind, name, what, revision, rest = match.groups()
        if (what in ("tree", "paths-info")) != bool(revision) and what != "revision":
            return None
        shown = "info" if what in (None, "revision") else what
        asked = Asked(shown, kind, unquote(name), unquote(revision or "main"), unquote(rest or "").strip("/"))
    else:
        return None
    inside = _stays_inside(asked.revision) and (asked.path == "" or _stays_inside(asked.path))
    return asked if inside else None


def _stays_inside(path: str) -> bool:
    """Whether a path, joined to a directory, leads to something in it."""
    return not {"", ".", ".."} & set(path.split("/"))
