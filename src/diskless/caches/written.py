"""Written: what libraries have put into caches in RAM, and where a mirror has it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Set
from typing import NamedTuple

from diskless.caches.hub_layout import of_folder

# What libraries call a file that is not complete yet.
_ON_THE_WAY = (".incomplete", ".partial", ".part", ".tmp", ".lock")


class Written(NamedTuple):
    """A file in RAM, and its name below the URL of a mirror."""

    path: str
    name: str


def below(
    directory: str, prefix: str, of_mirror: Collection[int], left_out: Collection[str], *, with_hub: bool = False
) -> Iterator[Written]:
    """Return the files of a library's directory but those whose inodes are `of_mirror`, and the paths in `left_out`.

    Where it has the directory `with_hub`, what repositories have in it is not the library's.
    """
    for path in files(directory):
        name = os.path.relpath(path, directory)
        if path.endswith(_ON_THE_WAY) or path in left_out or (with_hub and of_folder(name.partition("/")[0])):
            continue
        if _is_new(path, of_mirror):
            yield Written(path, prefix + name)


def of_hub(directory: str, of_mirror: Collection[int], left_out: Set[str]) -> Iterator[Written]:
    """Return the files of snapshots, then what leads to them: who reads meanwhile finds no commit that is not there.

    Blobs are left out: a mirror has the bytes once, under the names that they have in snapshots. So are the folders
    and files in `left_out`, below the directory.
    """
    last: list[Written] = []
    for path in files(directory):
        name = os.path.relpath(path, directory)
        folder, _, rest = name.partition("/")
        if "--" not in folder or left_out & {folder, name} or not _is_new(path, of_mirror):
            continue
        if rest.startswith("snapshots/"):
            yield Written(path, name)
        elif rest.startswith(".no_exist/") or (rest.startswith(("refs/", "trees/")) and not rest.endswith(".tmp")):
            last.append(Written(path, name))
    yield from sorted(last, key=lambda each: "/refs/" in each.name)


def _is_new(path: str, of_mirror: Collection[int]) -> bool:
    """Whether a library has written the file, and has it still."""
    try:
        return os.stat(path).st_ino not in of_mirror
    except FileNotFoundError:  # removed meanwhile, or a link to nothing
        return False


def files(directory: str) -> Iterator[str]:
    """Return the paths of all that is no directory below one."""
    for top, _, names in os.walk(directory):
        for name in names:
            yield os.path.join(top, name)
