"""Shortens a series of operations to what a difference needs, by doing it again with less."""

from __future__ import annotations

import contextlib
import faulthandler
import os
from collections.abc import Iterator

from tests.filesystem.oracle.machine import Difference, Operation, Oracle
from tests.filesystem.oracle.places import Data, Mode, Place

# What the signature of a death by signal begins with.
CRASH = "crash"


def shrink(machine: type[Oracle], trace: list[Operation], signature: str) -> list[Operation]:
    """Return a shorter series with the same difference; the same series if it does not happen again."""
    looking = type(machine.__name__, (machine,), {"look_every": 1})
    kept = [operation for operation in trace if operation[0] != "look"]
    if not _differs(looking, kept, signature):
        return trace
    # Simpler operations may need fewer others.
    return _fewer(looking, _plainer(looking, _fewer(looking, kept, signature), signature), signature)


def _fewer(machine: type[Oracle], kept: list[Operation], signature: str) -> list[Operation]:
    """Leave out what can be left out, by halves and down to one by one."""
    size = max(1, len(kept) // 2)
    while size:
        start, before = len(kept), len(kept)
        while start > 0:
            start = max(0, start - size)
            fewer = kept[:start] + kept[start + size :]
            if _differs(machine, fewer, signature):
                kept = fewer
        if size > 1 or len(kept) == before:
            size //= 2
    return kept


def _plainer(machine: type[Oracle], kept: list[Operation], signature: str) -> list[Operation]:
    """Do on plain paths and with plain modes what shows the difference there, too."""
    for index in range(len(kept)):
        for simpler in _simpler(kept[index]):
            changed = [*kept[:index], simpler, *kept[index + 1 :]]
            if _differs(machine, changed, signature):
                kept = changed
                break
    return kept


def _differs(machine: type[Oracle], trace: list[Operation], signature: str) -> bool:
    """Whether the series still ends so. Where in the tree what was seen stands may change, what was seen not."""
    if not signature.startswith(CRASH):
        return _differs_here(machine, trace, signature)
    machine.make.made += 1  # type: ignore[attr-defined]  # what a child leaves on the tmpfs is in nobody's way
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        with contextlib.suppress(BaseException):
            _differs_here(machine, trace, signature)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _differs_here(machine: type[Oracle], trace: list[Operation], signature: str) -> bool:
    try:
        again = machine()
        try:
            for operation in trace:
                again.repeat(operation)
        finally:
            again.teardown()
    except Difference as found:
        return _essence(found.signature) == _essence(signature)
    return False


def _essence(signature: str) -> str:
    if not signature.startswith("look: "):
        return signature
    return signature.split(": ", 2)[-1].split(" ")[0]


def _simpler(operation: Operation) -> Iterator[Operation]:
    for index, argument in enumerate(operation):
        choices: list[object] = []
        if isinstance(argument, Place):
            choices = [Place(b"a"), Place(b"b"), Place(b"d"), Place(argument.path)]
        elif isinstance(argument, Data):
            choices = [Data(b"x")]
        elif isinstance(argument, Mode):
            choices = [Mode(0o777), Mode(0o644)]
        for choice in choices:
            if choice != argument:
                yield (*operation[:index], choice, *operation[index + 1 :])
