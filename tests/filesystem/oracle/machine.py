"""Oracle: the state machine that does the same to both worlds and compares. Its rules are in `rules`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from tests.filesystem.oracle import exceptions, places
from tests.filesystem.oracle.places import Flags, Place
from tests.filesystem.oracle.user import User
from tests.filesystem.oracle.world import Error, World

NOTHING = object()


Operation = tuple[Any, ...]


class Difference(AssertionError):
    """The two worlds did not do the same."""

    def __init__(self, told: str, signature: str = "", trace: list[Operation] | None = None) -> None:
        super().__init__(told)
        self.signature, self.trace = signature, trace or []


def told(operation: Operation) -> str:
    return f"{operation[0]}({', '.join(map(repr, operation[1:]))})"


class Oracle(RuleBasedStateMachine):
    """Two worlds, started anew for every example by `make`, and operated on by `user`."""

    make: ClassVar[Callable[[], tuple[World, World]]]
    user: ClassVar[User]
    steps: ClassVar[int] = 0
    # Where differences are only counted, not raised: how often each was met, and the shortest trace to it.
    survey: ClassVar[Counter[str] | None] = None
    examples: ClassVar[dict[str, list[Operation]]] = {}
    # How often everything is compared: seldom while looking for a difference, always when narrowing it down.
    look_every: ClassVar[int] = 10
    # Whether known differences count (exceptions.py).
    strict: ClassVar[bool] = False
    # Called with every trace before its last operation is done, for who wants to know after a crash.
    journal: ClassVar[Callable[[list[Operation]], None] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.reference, self.subject = type(self).make()
        self.number = 0
        self.wandering = False
        self.over = False
        self.marked = 0
        self.trace: list[Operation] = []
        self.user.become()
        # The numbers of what is open, which the strategies draw from.
        self.handles: list[int] = []
        self.streams: list[int] = []
        self.open_handle("open", Place(b""), Flags(os.O_RDONLY), 0)
        self.open_handle("open", Place(b"b"), Flags(os.O_RDWR | os.O_CREAT), 0o644)
        self.trace.clear()

    def both(self, operation: str, *arguments: Any) -> Any:
        """Do one operation in both worlds, compare what came of it, and return that."""
        if (
            self.over
            or self._leads_out(operation, arguments)
            or (not self.strict and self._excepted(operation, arguments))
        ):
            return NOTHING
        type(self).steps += 1
        self.trace.append((operation, *arguments))
        if self.journal:
            self.journal(self.trace)
        expected = self.reference.run(operation, *arguments)
        got = self.subject.run(operation, *arguments)
        if expected != got:
            self._differs(self._pair(expected, got))
        else:
            self.reference.settle_streams()
            self.subject.settle_streams()
            if len(self.trace) % self.look_every == 0:
                self.look()
        return expected

    def mark(self) -> None:
        """From here on, changed times are told from unchanged ones."""
        self.trace.append(("mark",))
        self.reference.clock.set()

    def umask(self, mask: int) -> None:
        """Set what both worlds share."""
        self.trace.append(("umask", mask))
        os.umask(mask)

    def repeat(self, operation: Operation) -> None:
        """Do one operation of a trace again."""
        name, *arguments = operation
        getattr(self, name)(*arguments) if name in ("mark", "umask") else self.both(name, *arguments)

    def open_handle(self, operation: str, *arguments: Any) -> None:
        """The same for operations that open a descriptor."""
        self._open(self.handles, operation, *arguments)

    def open_stream(self, *arguments: Any) -> None:
        """The same for a directory stream."""
        self._open(self.streams, "open_stream", *arguments)

    def _open(self, numbers: list[int], operation: str, *arguments: Any) -> None:
        self.number += 1
        result = self.both(operation, self.number, *arguments)
        if result is not NOTHING and not isinstance(result, Error) and not self.over:
            numbers.append(self.number)

    def look(self) -> None:
        """Compare all that there is."""
        with self.user.as_root():
            difference = self.reference.snapshot().difference(self.subject.snapshot())
        if difference:
            self.trace.append(("look",))
            self._differs(difference)

    def teardown(self) -> None:
        try:
            if not self.over:
                self.look()
        finally:
            self.user.leave()
            self.reference.close_all()
            self.subject.close_all()

    def _leads_out(self, operation: str, arguments: tuple[Any, ...]) -> bool:
        """Whether the operation would change what is not the test's: the way up is open to paths with `..`."""
        named = [each for each in arguments if isinstance(each, Place)]
        if any(each.base != "root" and each.path.startswith(b"/") for each in named):
            return True
        self.wandering |= any(b".." in each for each in _texts(arguments))
        if not self.wandering:
            return False
        with self.user.as_root():
            return any(
                self.reference.leads_out(each) for each in arguments if isinstance(each, Place) and each.base != "here"
            )

    def _excepted(self, operation: str, arguments: tuple[Any, ...]) -> bool:
        """Whether a known difference would be met: see exceptions.py."""
        if operation in exceptions.ROOT_ONLY and self.user.uid != 0 and arguments[-1]:
            return True
        if any(isinstance(each, Flags) and exceptions.may_open_link_itself(each) for each in arguments):
            return True
        handles = exceptions.HANDLES_OF_DATA.get(operation)
        return handles is not None and any(self.reference.is_directory(arguments[index]) for index in handles)

    def _pair(self, expected: object, got: object) -> str:
        if hasattr(expected, "difference") and type(expected) is type(got):
            return str(expected.difference(got))
        return f"{_short(expected)} != {_short(got)}"

    def _differs(self, how: str) -> None:
        signature = f"{self.trace[-1][0]}: {how}"[:120]
        self.over = True
        if self.survey is None:
            names = f"{self.reference.name} != {self.subject.name}"
            raise Difference(f"{told(self.trace[-1])}: {how} ({names})", signature, self.trace)
        self.survey[signature] += 1
        if signature not in self.examples or len(self.trace) < len(self.examples[signature]):
            self.examples[signature] = self.trace


def _texts(arguments: tuple[Any, ...]) -> list[bytes]:
    return [each.path if isinstance(each, Place) else each for each in arguments if isinstance(each, (Place, bytes))]


def _short(value: object) -> str:
    told = repr(value)
    return told if len(told) < 200 else told[:200] + "…"


# Strategies by function, since hypothesis prints what makes them for every draw that it repeats.


@st.composite
def handles(draw: st.DrawFn) -> int:
    """One of the open handles; the last ones are the likeliest to matter."""
    machine = draw(st.runner())
    index = draw(st.integers(0, 7))
    return int(machine.handles[-1 - index % len(machine.handles)])


@st.composite
def directories(draw: st.DrawFn) -> int:
    """One of the open handles, preferably a directory's."""
    machine = draw(st.runner())
    known = [each for each in machine.handles if machine.reference.is_directory(each)]
    index = draw(st.integers(0, 9))
    return int(known[index % len(known)]) if known and index < 8 else draw(handles())


@st.composite
def streams(draw: st.DrawFn) -> int:
    """One of the open streams, or 0."""
    machine = draw(st.runner())
    index = draw(st.integers(0, 3))
    return int(machine.streams[-1 - index % len(machine.streams)]) if machine.streams else 0


@st.composite
def where(draw: st.DrawFn) -> Place:
    """A place: most often below the root, else relative to a handle, else below its name in /proc."""
    base = draw(st.sampled_from(["root", "root", "root", "root", "at", "at", "proc"]))
    path = draw(places.paths())
    return Place(path) if base == "root" else Place(path, base, draw(directories()))
