"""Checksum: what a store says about an object's bytes, by S3's names.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

# Bytes of each digest, by S3's name of the algorithm, in the order in which they are preferred. MD5 is what an ETag is.
DIGEST_BYTES = {"CRC64NVME": 8, "CRC32C": 4, "CRC32": 4, "SHA256": 32, "SHA1": 20, "MD5": 16}


@dataclass(frozen=True)
class Checksum:
    """The digest of an object, or, of a composite one, the digest of the digests of its parts.

    `part_ends` are the positions where the parts of a composite one end; None for one of the full object.
    """

    algorithm: str
    digest: bytes
    part_ends: tuple[int, ...] | None = None

    @property
    def shown(self) -> str:
        """As S3 writes it: base64, an ETag in hexadecimal, with the number of parts of a composite one."""
        return shown(self.algorithm, self.digest) + (f"-{len(self.part_ends)}" if self.part_ends is not None else "")

    @property
    def text(self) -> str:
        """Of a full object, in one line: the algorithm and the digest in base64."""
        return f"{self.algorithm} {base64.b64encode(self.digest).decode()}"

    @staticmethod
    def parse(text: str) -> Checksum:
        """Undo `text`; ValueError where it is none."""
        algorithm, _, encoded = text.partition(" ")
        return Checksum(algorithm, decoded(algorithm, encoded))


def shown(algorithm: str, digest: bytes) -> str:
    """Return a digest as S3 writes it."""
    return digest.hex() if algorithm == "MD5" else base64.b64encode(digest).decode()


def decoded(algorithm: str, encoded: str) -> bytes:
    """Return the digest that is written in base64; ValueError where it is none of that algorithm."""
    try:
        digest = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        digest = b""
    if algorithm not in DIGEST_BYTES or len(digest) != DIGEST_BYTES[algorithm]:
        raise ValueError(f"{encoded!r} is no {algorithm} checksum")
    return digest
