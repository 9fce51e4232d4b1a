"""The manifest of a prefix: which files belong to it, with their sizes and checksums; written by `push`, last.

An object ``diskless-manifest.json`` directly below the prefix, one JSON document::

    {"diskless_manifest": 1, "complete": true, "files": [
        {"path": "model.safetensors", "size_bytes": 7, "checksum": "CRC64NVME AAAAAAAAAAA=", "etag": "\"…\""}]}

`path` is relative to the prefix, `checksum` as `Checksum.text`, `etag` what the store answered to the upload. Where a
listing of the prefix has one

* only the files in it are shown, and it is not;
* each must be listed with the same size and ETag: otherwise another push is under way, or something else has changed
  the prefix, and the listing is an error, so that files of two pushes are never shown together (a copy that another
  tool makes may have other ETags: leave the manifest out of it);
* its checksums are those that ``verify=True`` compares with, and the store is not asked again.

`push` begins with one that is not ``complete``: it is an error, too. A manifest matters for the URL of its own prefix:
with ``s3://bucket/a`` that of ``a/b/`` is a file like others.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from diskless.errors import ObjectChanged, TransferError
from diskless.sources.checksums import Checksum
from diskless.sources.spec import Object

NAME = "diskless-manifest.json"
_VERSION = 1


@dataclass(frozen=True)
class File:
    """One file of a manifest."""

    path: str
    size_bytes: int
    checksum: str
    etag: str | None


def unfinished() -> bytes:
    """Return the manifest of a push that is under way; no two are the same, so that its ETag tells whose it is."""
    return _written([], complete=False, push=secrets.token_hex(16))


def written(files: Iterable[File]) -> bytes:
    """Return the manifest of these files."""
    return _written([vars(file) for file in files], complete=True)


def _written(files: list[dict[str, Any]], *, complete: bool, **more: str) -> bytes:
    return json.dumps({"diskless_manifest": _VERSION, "complete": complete, **more, "files": files}, indent=1).encode()


def read(content: bytes, url: str) -> list[File]:
    """Return the files of the manifest at `url`.

    Raises ObjectChanged where it is not complete, TransferError where it is no manifest.
    """
    try:
        document = json.loads(content)
        version, complete = document["diskless_manifest"], document["complete"]
        if version != _VERSION:
            raise TransferError(
                f"{url}/{NAME} is of version {version!r}, and this diskless reads {_VERSION}: update diskless"
            )
        files = [
            File(str(file["path"]), int(file["size_bytes"]), Checksum.parse(file["checksum"]).text, file.get("etag"))
            for file in document["files"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TransferError(
            f"{url}/{NAME} is no manifest ({type(error).__name__}: {error}); remove it, or push again"
        ) from None
    if complete is not True:
        raise ObjectChanged(f"{url}: a push to it is under way, or has died: wait for it, or push again")
    return files


def chosen(files: Iterable[File], listed: Iterable[Object], url: str) -> list[Object]:
    """Return the listed objects that are files of the manifest, with their checksums.

    Raises ObjectChanged where one differs.
    """
    there = {entry.path: entry for entry in listed}
    objects: list[Object] = []
    for file in files:
        entry = there.get(file.path)
        differs = (
            "is not there"
            if entry is None
            else f"has {entry.size_bytes} bytes, and {file.size_bytes} in the manifest"
            if entry.size_bytes != file.size_bytes
            else "has another ETag than in the manifest"
            if file.etag and entry.etag and file.etag.strip('"') != entry.etag.strip('"')
            else ""
        )
        if entry is None or differs:
            raise ObjectChanged(
                f"{url}: {file.path} {differs}: a push is under way, or something else has changed the prefix; wait, "
                f"or push again (or remove {NAME}, to have what is there)"
            )
        objects.append(entry._replace(checksum=file.checksum))
    return objects
