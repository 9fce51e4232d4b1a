"""The checksum that S3 has stored for an object, asked for without its bytes.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html and API_GetObjectAttributes.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from diskless.errors import DisklessError, InvalidOption, TransferError
from diskless.sources import xml
from diskless.sources.checksums import DIGEST_BYTES, Checksum, decoded
from diskless.sources.spec import Object

_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')


class Ask(Protocol):
    """Makes one request about the object, and raises for every answer that is no success."""

    def __call__(
        self, method: str, parameters: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[Mapping[str, str], bytes]: ...


def stored_checksum(entry: Object, named: str, ask: Ask) -> Checksum:
    """Return what the store knows: a checksum, else the MD5 that the ETag of an unencrypted object in one piece is.

    Raises InvalidOption when the store has no checksum, TransferError when it contradicts itself, or what `ask` raises.
    """
    headers, _ = ask("HEAD", {}, {"x-amz-checksum-mode": "ENABLED"})
    for algorithm in DIGEST_BYTES:
        found = headers.get(f"x-amz-checksum-{algorithm.lower()}")
        if not found or algorithm == "MD5":
            continue
        encoded, _, count = found.partition("-")
        try:
            digest = decoded(algorithm, encoded)
        except ValueError as error:
            raise TransferError(f"{named}: the store gives a checksum that is none: {error}") from None
        if not count and headers.get("x-amz-checksum-type") != "COMPOSITE":
            return Checksum(algorithm, digest)
        return Checksum(algorithm, digest, _part_ends(entry, named, ask, int(count) if count.isdigit() else None))
    etag = headers.get("etag") or entry.etag or ""
    md5 = _MD5_ETAG.fullmatch(etag)
    why = _no_md5(headers) or ("" if md5 else "as it is where an object was uploaded in parts")
    if md5 is None or why:
        raise InvalidOption(
            f"verify=True: the store has no checksum for {named}, and its ETag {etag} is no MD5, {why}. Load it "
            "without verify, or upload it with a checksum (diskless.push does; `aws s3 cp --checksum-algorithm "
            "CRC64NVME` onto itself, too)"
        )
    return Checksum("MD5", bytes.fromhex(md5[1]))


def _no_md5(headers: Mapping[str, str]) -> str:
    """Say why an ETag that looks like an MD5 is none; empty where it is one."""
    if headers.get("x-amz-server-side-encryption", "").startswith("aws:kms"):
        return "since it is encrypted with a key of KMS"
    if "x-amz-server-side-encryption-customer-algorithm" in headers:
        return "since it is encrypted with a key of the customer"
    return ""


def _part_ends(entry: Object, named: str, ask: Ask, count: int | None) -> tuple[int, ...]:
    """Return where the object's parts end: in one request for a thousand of them, or, if refused, in one for each."""
    try:
        sizes = _sizes_at_once(ask)
    except (DisklessError, ValueError):  # not allowed (s3:GetObjectAttributes), or no such request at this server
        sizes = []
    if not sizes:
        sizes = _sizes_one_by_one(ask, count)
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    if (count is not None and len(sizes) != count) or not ends or ends[-1] != entry.size_bytes:
        raise TransferError(
            f"{named}: its checksum is one of {count or 'several'} parts, and the store does not say which: it tells "
            f"of {len(sizes)} with {sum(sizes)} of {entry.size_bytes} bytes. Load it without verify"
        )
    return tuple(ends)


def _sizes_at_once(ask: Ask) -> list[int]:
    sizes: list[int] = []
    marker = "0"
    while True:
        wanted = {"x-amz-object-attributes": "ObjectParts", "x-amz-max-parts": "1000"}
        _, body = ask("GET", {"attributes": ""}, {**wanted, "x-amz-part-number-marker": marker})
        parts = xml.parse(body).find("ObjectParts")
        if parts is None:
            return []
        sizes += [int(xml.text(part, "Size")) for part in parts.iter("Part")]
        following = xml.text(parts, "NextPartNumberMarker")
        if xml.text(parts, "IsTruncated") != "true" or following == marker:
            return sizes
        marker = following


def _sizes_one_by_one(ask: Ask, count: int | None) -> list[int]:
    sizes: list[int] = []
    while count is None or len(sizes) < count:
        headers, _ = ask("HEAD", {"partNumber": str(len(sizes) + 1)}, {})
        sizes.append(int(headers.get("content-length") or 0))
        said = headers.get("x-amz-mp-parts-count", "")
        count = count or (int(said) if said.isdigit() else 1)
    return sizes


class WithoutChecksums:
    """A Source of whose objects no checksum is known."""

    def checksum(self, entry: Object) -> Checksum:
        raise InvalidOption(
            f"verify=True: the checksum of {entry.key} cannot be asked for: that is known only of s3:// and of what a "
            "manifest holds. Load it without verify"
        )
