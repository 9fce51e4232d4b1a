"""The names of ram://: how what a user writes becomes the one name that a file has on every Backing."""

from __future__ import annotations

import posixpath

from diskless.errors import InvalidURL

ROOT = "/diskless"


def canonical(path: object) -> str:
    """Return the name, such as ``/diskless/x``, of ``ram://x``, ``x``, ``/x``, ``/diskless/x`` or ``ram:///diskless/x``.

    Raises InvalidURL for a name with a NUL, and where ``..`` leads out of ram://; TypeError for what is no str.
    """
    if not isinstance(path, str):
        raise TypeError(f"a path of ram:// is a str, not {type(path).__name__}")
    if "\0" in path:
        raise InvalidURL(f"{path!r} has a NUL in it, which no name can have")
    name = path.removeprefix("ram://")
    if not _is_inside(name):
        name = f"{ROOT}/{name}"
    # With one slash at the front: normpath would keep two.
    name = posixpath.normpath("/" + name.lstrip("/"))
    if not _is_inside(name):
        raise InvalidURL(f"{path!r} leads out of ram://")
    return name


def parent(name: str) -> str:
    """Return the name of the directory above, of the root the root."""
    return name if name == ROOT else name.rpartition("/")[0]


def _is_inside(name: str) -> bool:
    return name == ROOT or name.startswith(ROOT + "/")
