"""What a contender is asked to transfer, and what it is."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """The objects to transfer, all below one prefix; the endpoint and the credentials are in the environment too.

    `ca_bundle` is the file with the authority to trust where the endpoint is TLS.
    """

    endpoint: str
    bucket: str
    keys: list[str]
    sizes: list[int]
    scratch: str
    ca_bundle: str | None = None

    @property
    def key(self) -> str:
        """The first object, which is the only one in most scenarios."""
        return self.keys[0]

    @property
    def size_bytes(self) -> int:
        """Of all objects."""
        return sum(self.sizes)

    @property
    def prefix(self) -> str:
        """The prefix of several objects, with its slash."""
        return self.key.rpartition("/")[0] + "/"

    @property
    def url(self) -> str:
        """Of the object where it is one, else of the prefix."""
        return f"s3://{self.bucket}/{self.key if len(self.keys) == 1 else self.prefix}"

    @property
    def tls(self) -> bool:
        return self.endpoint.startswith("https:")


# What holds the bytes of one object: a buffer, or the path of a file.
Held = bytes | bytearray | memoryview | str
# Transfers once, and returns what holds each object, in the order of the keys.
Transfer = Callable[[], list[Held]]


@dataclass(frozen=True)
class Contender:
    """One way to get objects into memory: `set_up` imports and connects, and returns what transfers.

    `needs` are the packages and programs without which it is left out, `packages` what brings them. Only
    contenders that are `optional` may be unable to do what a scenario asks.
    """

    set_up: Callable[[Target], Transfer]
    needs: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    packages: str = ""
    optional: bool = True

    def missing(self) -> str | None:
        """Say what is not installed here, or None."""
        lacks = [name for name in self.needs if importlib.util.find_spec(name) is None]
        lacks += [name for name in self.programs if shutil.which(name) is None]
        return f"not installed: {', '.join(lacks)} (pip install {self.packages})" if lacks else None
