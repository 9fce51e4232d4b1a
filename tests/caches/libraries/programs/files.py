"""What the programs share: where they make files, and their digests."""

from __future__ import annotations

import hashlib
from pathlib import Path


def made(path: str) -> Path:
    """Return a path, whose directory there is then."""
    found = Path(path).expanduser()
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


def digest(path: Path, algorithm: str = "sha256") -> str:
    return hashlib.new(algorithm, path.read_bytes()).hexdigest()
