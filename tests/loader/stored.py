"""What S3 tells of objects that were uploaded with checksums."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Sequence

from awscrt import checksums

ALGORITHMS: dict[str, Callable[[bytes], bytes]] = {
    "CRC64NVME": lambda data: checksums.crc64nvme(data).to_bytes(8, "big"),
    "CRC32C": lambda data: checksums.crc32c(data).to_bytes(4, "big"),
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
}


def full_object(algorithm: str, data: bytes) -> dict[str, str]:
    """The headers of a HEAD of an object with a checksum of the whole."""
    encoded = base64.b64encode(ALGORITHMS[algorithm](data)).decode()
    return {f"x-amz-checksum-{algorithm.lower()}": encoded, "x-amz-checksum-type": "FULL_OBJECT"}


def composite(algorithm: str, data: bytes, part_sizes: Sequence[int]) -> dict[str, str]:
    """The headers of a HEAD of an object with a checksum of the checksums of its parts."""
    digest, position, digests = ALGORITHMS[algorithm], 0, b""
    for size in part_sizes:
        digests += digest(data[position : position + size])
        position += size
    assert position == len(data)
    encoded = f"{base64.b64encode(digest(digests)).decode()}-{len(part_sizes)}"
    return {f"x-amz-checksum-{algorithm.lower()}": encoded, "x-amz-checksum-type": "COMPOSITE"}
