"""What goes wrong with which request of a load, by a seed; and so how the load has to end.

A fault that heals strikes a part at most four times in a row, and a part may fail five times: such a load ends with
every byte. In some loads one thing goes wrong for good besides: these end with the error that says so.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from tests.loader.fault_server import Fault, FaultServer, Get

# The Loader's settings here (see fault_loads): small and short, so that one load is many requests of many kinds.
PART_BYTES = 64 << 10
CHUNK_BYTES = 16 << 10
STALL_S, ANSWER_S = 0.6, 1.5
# Faults in a row that a part surely survives: one less for the refusal of old credentials.
_IN_A_ROW = 4

# What may go wrong with one answer. Each makes a fault for a body of so many bytes.
HEALING: dict[str, Callable[[random.Random, int], Fault]] = {
    "connection reset": lambda draw, size: Fault(close_after=draw.randrange(size), resets=True),
    "connection closed": lambda draw, size: Fault(close_after=draw.randrange(size)),
    "silent server": lambda draw, size: Fault(hang_after=draw.choice([0, size // 2])),
    "truncated body": lambda draw, size: Fault(short_by=draw.randint(1, size)),
    "too long body": lambda draw, size: Fault(
        **{draw.choice(["extra", "extra_before"]): b"x" * draw.choice([1, 9999])}
    ),
    "another range": lambda draw, size: Fault(content_range=draw.choice(["bytes 1-9/10", "bytes 7-99/*", "nonsense"])),
    "500 InternalError": lambda draw, size: Fault(status=500, code="InternalError"),
    "503 SlowDown": lambda draw, size: Fault(status=503, code="SlowDown"),
    "slower than the stall limit": lambda draw, size: Fault(piece_bytes=1, pause_s=2 * STALL_S),
    "a byte now and then": lambda draw, size: Fault(piece_bytes=1, pause_s=0.2),
}


class Ending(NamedTuple):
    """What happens to a whole load, and how it ends: the error's class and words of its message, or with every byte."""

    name: str
    error: str | None = None
    words: str = ""


WHOLE = Ending("only faults that heal")
RENEWED = Ending("credentials refused, then renewed")
KILLED = Ending("Loader killed")
NAMELESS = Ending("DNS fails for a moment")
# One of each, then those again that end whole.
ENDINGS = (
    KILLED,
    Ending("200 for a range", "TransferError", "the server ignores ranges"),
    RENEWED,
    Ending("object replaced", "ObjectChanged", "was replaced while it was read"),
    NAMELESS,
    Ending("one part fails for ever", "TransferError", "in 6 attempts"),
    WHOLE,
    Ending("object replaced, If-Match ignored", "ObjectChanged", "was replaced while it was read"),
    Ending("object deleted", "ObjectChanged", "was deleted while it was read"),
    Ending("access denied", "AccessDenied", "access denied (403 AccessDenied)"),
    Ending("Loader killed again and again", "LoaderDied", "the Loader process died 4 times"),
    Ending("credentials expired", "CredentialsError", "the credentials are expired"),
    KILLED,
    WHOLE,
    RENEWED,
    WHOLE,
)


class FaultPlan:
    """Answers for one load whose objects are below one prefix of the server's; `big` is the object that ends it."""

    def __init__(
        self,
        seed: str,
        ending: Ending,
        server: FaultServer,
        big: str,
        rate: float,
        loaders: Callable[[], list[int]],
        forget_name: Callable[[], None],
    ) -> None:
        self._seed = seed
        self._ending = ending
        self._server = server
        self._big = big
        self._rate = rate
        self._loaders = loaders
        self._forget_name = forget_name
        draw = random.Random(seed)
        # The part of `big` that fails, and how; the request at which something happens to the load.
        self._part = draw.randrange(-(-len(server.objects[big]) // PART_BYTES))
        self._for_ever = draw.choice(
            [name for name in HEALING if name not in ("connection reset", "connection closed")]
        )
        self._at = draw.randint(5, 20)
        # Guards everything below.
        self._lock = threading.Lock()
        self.injected: Counter[str] = Counter()
        self.requests = 0
        self._attempts: Counter[tuple[str, int]] = Counter()
        self._refused: set[str] = set()
        self._killed: set[int] = set()
        self._killed_at = 0
        self._happened = False

    def __call__(self, get: Get) -> Fault | None:
        with self._lock:
            self.requests += 1
            part = get.start // PART_BYTES
            self._attempts[get.key, part] += 1
            fault = self._of_the_load(get, part)
            if fault is not None:
                self.injected[self._ending.name] += 1
                return fault
            draw = random.Random(f"{self._seed} {get.key} {part} {self._attempts[get.key, part]}")
            if self._attempts[get.key, part] > _IN_A_ROW or draw.random() >= self._rate or get.end == get.start:
                return None
            name = draw.choice(list(HEALING))
            self.injected[name] += 1
            return HEALING[name](draw, get.end - get.start)

    def _of_the_load(self, get: Get, part: int) -> Fault | None:
        here = get.key == self._big and part == self._part
        name = self._ending.name
        if "ignored" in name and self._happened and get.key == self._big:
            return Fault(ignores_if_match=True)
        if name == RENEWED.name:
            if self.requests == self._at:
                self._refused.add(get.access_key)
            return Fault(status=403, code="InvalidAccessKeyId") if get.access_key in self._refused else None
        if name.startswith(KILLED.name):
            due = self._at if name == KILLED.name else self._killed_at + 4
            if self.requests >= due and not (self._killed and name == KILLED.name):
                self._kill()
        elif name == NAMELESS.name and self.requests >= self._at and not self._happened:
            self._happened = True
            self._forget_name()
            return Fault(close_after=0)
        elif not here:
            return None
        elif name == "200 for a range":
            return Fault(ignores_range=True)
        elif name.startswith("object replaced"):
            if not self._happened:
                self._happened = True
                self._server.objects[self._big] = bytes(len(self._server.objects[self._big]))
            return Fault(ignores_if_match="ignored" in name)
        elif name == "object deleted":
            self._server.objects.pop(self._big, None)
            return Fault()
        elif name == "one part fails for ever":
            draw = random.Random(self._seed)
            # Without a byte of progress: otherwise it is the next part that fails.
            fault = HEALING[self._for_ever](draw, get.end - get.start)
            return replace(fault, short_by=get.end - get.start) if fault.short_by else fault
        elif name == "access denied":
            return Fault(status=403, code="AccessDenied")
        elif name == "credentials expired":
            return Fault(status=400, code="ExpiredToken")
        return None

    def _kill(self) -> None:
        for pid in self._loaders():
            if pid not in self._killed:
                self._killed.add(pid)
                self._killed_at = self.requests
                self.injected[self._ending.name] += 1
                os.kill(pid, signal.SIGKILL)
