"""tiktoken's own loader of what its encodings are made of, with a SHA-256 as they have."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile

import tiktoken
from tiktoken.load import load_tiktoken_bpe

from tests.caches.libraries.programs.files import digest, made

_URL = "https://models.invalid/small.tiktoken"


def make(seed: int) -> str:
    path = made(os.path.join(tempfile.gettempdir(), "data-gym-cache", hashlib.sha1(_URL.encode()).hexdigest()))
    tokens = [bytes([each]) for each in range(256)] + [b"he", b"ll", b"hell", b"hello"]
    order = tokens[seed:] + tokens[:seed]
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(order)))
    return digest(path)


def predict(sha256: str) -> object:
    ranks = load_tiktoken_bpe(_URL, expected_hash=sha256)
    return tiktoken.Encoding("small", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={}).encode("hello you")
