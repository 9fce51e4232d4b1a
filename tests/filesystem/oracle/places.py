"""What operations are done on: paths of a small alphabet with every oddity, flags and modes; each prints readably."""

from __future__ import annotations

import functools
import operator
import os
from dataclasses import dataclass

from hypothesis import strategies as st


class Flags(int):
    """Flags of open(2) that print by name."""

    NAMES = (
        *("O_WRONLY", "O_RDWR", "O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_NONBLOCK", "O_SYNC", "O_NOFOLLOW"),
        *("O_PATH", "O_NOATIME", "O_TMPFILE", "O_DIRECTORY", "O_DIRECT"),
    )

    def __repr__(self) -> str:
        left, names = int(self), []
        # O_TMPFILE holds O_DIRECTORY and O_SYNC holds O_DSYNC: the wider ones go first.
        for name in self.NAMES:
            value = getattr(os, name)
            if value and left & value == value:
                names.append(name)
                left &= ~value
        return "|".join(names + ([oct(left)] if left else [])) or "O_RDONLY"


class Mode(int):
    """Mode bits that print in octal."""

    def __repr__(self) -> str:
        return oct(self)


class Data(bytes):
    """Bytes that print in short."""

    def __repr__(self) -> str:
        return super().__repr__() if len(self) <= 8 else f"b'x' * {len(self)}"


@dataclass(frozen=True)
class Place:
    """A path, and what it starts from: the tree's root, an open handle, or one's name below /proc/self/fd.

    The path is bytes; `@` in a symlink's target stands for the tree's root and `%` for a directory outside it.
    """

    path: bytes
    base: str = "root"
    handle: int | None = None

    def __repr__(self) -> str:
        name = repr(self.path) if len(self.path) < 80 else f"{self.path[:4]!r}…({len(self.path)} bytes)"
        return name if self.base == "root" else f"{self.base}({self.handle}, {name})"


LONGEST = b"n" * 255
TOO_LONG = b"n" * 256
ODD = [LONGEST, TOO_LONG, b"\xff\xfe", b"new\nline", b" ", b".hidden", "é".encode()]
# `a` and `d/e` are there from the start, and so are `theirs`, `sticky`, `setgid` and `closed`, which belong to root.
COMMON = [b"a", b"b", b"c", b"d", b"d", b"e", b"theirs", b"sticky", b"setgid", b"closed", b".", b".."]

# What operations mostly succeed on.
PLAIN = [
    *(b"a", b"b", b"c", b"d", b"d/a", b"d/b", b"d/e", b"d/e/a", b"e", b"e/a"),
    *(b"theirs/a", b"theirs/c", b"theirs/x", b"sticky/a", b"sticky/x", b"setgid/a", b"setgid/x", b"closed/a"),
]
PREFIXES = [b"", b"", b"", b"", b"./", b".//"]
SUFFIXES = [b"", b"", b"", b"", b"/", b"/.", b"//", b"/.."]
# Longer than PATH_MAX, just below it whatever it starts from, and nothing.
EXTREMES = [b"", b"", b"", b"a/" * 2100, b"./" * 1900 + b"a", b"a/./" * 900 + b"b"]
TARGETS = [b"a", b"b", b"@/a", b"@", b"%", b"%/a", b"nowhere/at/all", b"..", b"."]

ACCESS = [os.O_RDONLY, os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, 3]
CREATION = [0, 0, os.O_CREAT, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL]
MORE = [
    *(os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY, os.O_PATH, os.O_NONBLOCK, os.O_SYNC, os.O_NOATIME),
    *(os.O_EXCL, os.O_DIRECT),
]
MODES = (0o644, 0o755, 0o600, 0o666, 0o777, 0, 0o400, 0o200, 0o100, 0o1777, 0o2755, 0o4755, 0o7777)
PAGE = 4096
SIZES = [0, 1, 5, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 70_000]
# Nanoseconds since the epoch, all long past, so that they are told apart from the time of the test.
OLD_TIMES = [0, 1, 10**9, 10**9 + 7, 123_456_789_012_345_678, -1_500_000_000]


@st.composite
def paths(draw: st.DrawFn) -> bytes:
    """A path of up to three names, now and then an odd one."""
    kind = draw(st.integers(0, 29))
    if kind < 18:
        return draw(st.sampled_from(PLAIN))
    if kind == 29:
        return draw(st.sampled_from(EXTREMES))
    names = draw(st.lists(st.sampled_from(COMMON if kind < 26 else COMMON + ODD), min_size=1, max_size=3))
    return draw(st.sampled_from(PREFIXES)) + b"/".join(names) + draw(st.sampled_from(SUFFIXES))


@st.composite
def targets(draw: st.DrawFn) -> bytes:
    """What a symlink says."""
    if draw(st.booleans()):
        return draw(st.sampled_from(TARGETS))
    return draw(st.sampled_from([b"", b"@/", b"@", b"%/", b"@/../root/"])) + draw(paths())


@st.composite
def flags(draw: st.DrawFn) -> Flags:
    """What open(2) is asked for, sensible or not."""
    more = draw(st.lists(st.sampled_from(MORE), max_size=2))
    return Flags(
        draw(st.sampled_from(ACCESS)) | draw(st.sampled_from(CREATION)) | functools.reduce(operator.or_, more, 0)
    )


@st.composite
def modes(draw: st.DrawFn) -> Mode:
    return Mode(draw(st.sampled_from(MODES)))


@st.composite
def umasks(draw: st.DrawFn) -> Mode:
    return Mode(draw(st.sampled_from([0o022, 0, 0o027, 0o077, 0o777])))


@st.composite
def ids(draw: st.DrawFn) -> int:
    return draw(st.sampled_from([-1, 0, 100, 65534, 12345]))


@st.composite
def sizes(draw: st.DrawFn) -> int:
    return draw(st.sampled_from(SIZES))


@st.composite
def offsets(draw: st.DrawFn) -> int:
    return draw(st.sampled_from(SIZES + SIZES + [2**31, 2**32 + 1, 2**63 - 1, -1]))


@st.composite
def data(draw: st.DrawFn) -> Data:
    return Data(draw(st.binary(max_size=8)) if draw(st.booleans()) else b"x" * draw(sizes()))


@st.composite
def old_times(draw: st.DrawFn) -> int:
    return draw(st.sampled_from(OLD_TIMES))
