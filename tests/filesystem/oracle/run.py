"""What a run of the oracle needs: two trees with the same things in them for every example, and a number of steps."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator

import hypothesis
from hypothesis.stateful import run_state_machine_as_test

from tests.filesystem.oracle.look import Clock
from tests.filesystem.oracle.machine import Difference, Operation, Oracle, told
from tests.filesystem.oracle.shrink import shrink
from tests.filesystem.oracle.user import User
from tests.filesystem.oracle.world import World

STEPS_AN_EXAMPLE = 50
EXAMPLES_A_ROUND = 200


@contextlib.contextmanager
def tmpfs_directory() -> Iterator[bytes]:
    """A directory on a tmpfs, which everybody may enter."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="oracle-") as path:
        os.chmod(path, 0o755)
        yield os.fsencode(path)


@contextlib.contextmanager
def scratch_directory() -> Iterator[bytes]:
    """A scratch of the Tree."""
    import diskless

    with diskless.scratch(backing="tree") as path:
        os.chmod(path, 0o755)
        yield os.fsencode(path)


SUBJECTS = {"tmpfs": tmpfs_directory, "scratch": scratch_directory}


class Worlds:
    """Makes both worlds anew, below two directories, one example after the other."""

    def __init__(
        self,
        reference: bytes,
        subject: bytes,
        outside: bytes,
        user: User,
        kind: type[World] = World,
        name: str = "subject",
    ) -> None:
        # Paths of one length, so that both reach PATH_MAX together and symlinks have one size.
        length = max(len(reference), len(subject)) + 8
        self.tops = [top + b"/" + b"p" * (length - len(top)) for top in (reference, subject)]
        self.outsides = [outside + b"/1", outside + b"/2"]
        for path in self.tops + self.outsides:
            os.mkdir(path)
            os.chmod(path, 0o755)
        self.user, self.kinds, self.names, self.made = user, (World, kind), ("tmpfs", name), 0

    def __call__(self) -> tuple[World, World]:
        self.remove()
        self.made += 1
        clock = Clock()
        first, second = (self._make(index, clock) for index in (0, 1))
        return first, second

    def _make(self, index: int, clock: Clock) -> World:
        example = b"/%06d" % self.made
        root, outside = self.tops[index] + example + b"/in/root", self.outsides[index] + example
        for path in (self.tops[index] + example, self.tops[index] + example + b"/in", root, outside):
            os.mkdir(path, 0o755)
        _furnish(root, self.user)
        _own(outside, self.user)
        return self.kinds[index](self.names[index], root, outside, clock)

    def remove(self) -> None:
        """Take away what the last examples left."""
        for top in self.tops + self.outsides:
            for name in os.listdir(top):
                _open_up(top + b"/" + name)
                shutil.rmtree(top + b"/" + name, ignore_errors=True)


def _furnish(root: bytes, user: User) -> None:
    """What every example begins with; things that belong to another only where root can make them."""
    for name in (b"", b"/d", b"/d/e"):
        if name:
            os.mkdir(root + name)
        _own(root + name, user)
    with open(root + b"/a", "wb") as opened:
        opened.write(b"mine")
    _own(root + b"/a", user)
    if not user.able and os.getuid() != 0:
        return
    for name, mode in ((b"theirs", 0o755), (b"sticky", 0o1777), (b"setgid", 0o2777), (b"closed", 0o700)):
        directory = root + b"/" + name
        os.mkdir(directory)
        for file, bits in ((b"a", 0o644), (b"b", 0o600), (b"c", 0o666)):
            with open(directory + b"/" + file, "wb") as opened:
                opened.write(b"theirs")
                os.fchmod(opened.fileno(), bits)
        os.mkdir(directory + b"/d", 0o777)
        os.chown(directory, 0, 100)
        os.chmod(directory, mode)


def _own(path: bytes, user: User) -> None:
    if user.able:
        os.chown(path, user.uid, user.uid)


def _open_up(path: bytes) -> None:
    if os.getuid() == 0:
        return
    for directory, names, _ in os.walk(path):
        for name in names:
            inside = os.path.join(directory, name)
            if stat.S_ISDIR(os.lstat(inside).st_mode):
                os.chmod(inside, 0o700)


def run(machine: type[Oracle], worlds: Worlds, user: User, steps: int, seed: int) -> int:
    """Do at least so many operations; raises Difference, with the shortest series that leads there."""
    chosen = type(machine.__name__, (machine,), {"make": staticmethod(worlds), "user": user, "steps": 0})
    while chosen.steps < steps:
        hypothesis.seed(seed)(chosen)
        examples = min(EXAMPLES_A_ROUND, max(1, (steps - chosen.steps) // STEPS_AN_EXAMPLE + 1))
        settings = hypothesis.settings(
            max_examples=examples,
            stateful_step_count=STEPS_AN_EXAMPLE,
            deadline=None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
            # Shorter than by hypothesis, and in a hundredth of the time, by leaving out operations (shrink.py).
            phases=[hypothesis.Phase.generate],
        )
        try:
            run_state_machine_as_test(chosen, settings=settings)
        except Difference as found:
            trace = shrink(chosen, found.trace, found.signature)
            raise Difference(f"{found} after\n" + listed(trace), found.signature, trace) from None
        seed += 1
    return chosen.steps


@contextlib.contextmanager
def two_worlds(subject: str, user: User, kind: type[World] = World) -> Iterator[Worlds]:
    """The reference on a tmpfs and the subject where its name says, links lead out to a disk."""
    with (
        tmpfs_directory() as reference,
        SUBJECTS[subject]() as place,
        tempfile.TemporaryDirectory(prefix="oracle-") as outside,
    ):
        os.chmod(outside, 0o755)
        worlds = Worlds(reference, place, os.fsencode(outside), user, kind, subject)
        try:
            yield worlds
        finally:
            worlds.remove()


def survey(machine: type[Oracle], worlds: Worlds, user: User, steps: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Go on after differences; yields how often each was met, what it is, and the shortest series that leads there."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[Operation]] = {}
    surveying = type(machine.__name__, (machine,), {"survey": counts, "examples": examples})
    run(surveying, worlds, user, steps, seed)
    plain = type(machine.__name__, (machine,), {"make": staticmethod(worlds), "user": user})
    for signature, count in counts.most_common():
        yield count, signature, listed(shrink(plain, examples[signature], signature))


def listed(trace: list[Operation]) -> str:
    return "\n".join("    " + told(operation) for operation in trace)
