"""A scratch against a tmpfs, by a state machine; and that machine against itself and against trees that are wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import diskless
from tests.filesystem.oracle.machine import Difference
from tests.filesystem.oracle.rules import Everything
from tests.filesystem.oracle.run import run, two_worlds
from tests.filesystem.oracle.user import User
from tests.filesystem.oracle.world import World

STEPS = int(os.environ.get("DISKLESS_ORACLE_STEPS", "10000"))
# Minutes for the ten thousand of CI, hours for a million.
LIMIT_S = 600 + STEPS // 20

pytestmark = pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a tmpfs at /dev/shm")
root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user or to have things of others")
USERS = [pytest.param(0, marks=root_only, id="root"), pytest.param(65534, id="an ordinary user")]


def oracle(*options: object) -> str:
    """Run the oracle in a process of its own, whose umask, user and working directory it changes."""
    command = [sys.executable, "-m", "tests.filesystem.oracle", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stderr


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.skipif(not hasattr(diskless, "scratch"), reason="there is no scratch yet")
@pytest.mark.parametrize("uid", USERS)
def test_a_scratch_does_what_a_tmpfs_does(uid: int) -> None:
    assert "without a difference" in oracle("--steps", STEPS, "--subject", "scratch", "--uid", uid, "--seed", 1)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("uid", USERS)
def test_two_tmpfs_do_the_same(uid: int) -> None:
    """Without it a difference would prove nothing."""
    assert "without a difference" in oracle("--steps", 1000, "--subject", "tmpfs", "--uid", uid, "--chdir", "--seed", 1)


class Overwrites(World):
    """Does not see O_EXCL."""

    def open(self, number, place, flags, mode):
        return super().open(number, place, flags & ~os.O_EXCL, mode)


class ForgetsToMove(World):
    """Leaves the old name of what is renamed."""

    def rename(self, old, new):
        first, second = self.alone(old), self.alone(new)
        if os.path.isfile(first):
            shutil.copy2(first, second)
        else:
            os.rename(first, second)


class IgnoresUmask(World):
    """Gives a new directory all the bits that were asked for."""

    def mkdir(self, place, mode):
        super().mkdir(place, mode)
        os.chmod(self.alone(place), mode & 0o1777)


class KeepsTimes(World):
    """Writes without a trace in mtime."""

    def pwrite(self, handle, data, offset):
        before = os.fstat(self.handles[handle])
        written = super().pwrite(handle, data, offset)
        os.utime(self.handles[handle], ns=(before.st_atime_ns, before.st_mtime_ns))
        return written


class LosesNames(World):
    """Lists all names but `c`."""

    def listdir(self, target):
        return [name for name in super().listdir(target) if name != b"c"]


class SaysAccess(World):
    """The wrong error for a name that is not there."""

    def unlink(self, place):
        path = self.alone(place)
        if os.path.isabs(path) and not os.path.lexists(path) and os.path.isdir(os.path.dirname(path)):
            raise PermissionError(13, "no")
        super().unlink(place)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("wrong", [Overwrites, ForgetsToMove, IgnoresUmask, KeepsTimes, LosesNames, SaysAccess])
def test_a_tree_that_is_wrong_is_found_out(wrong: type[World]) -> None:
    """And by a series so short that it can be read."""
    user = User(os.getuid())
    with two_worlds("tmpfs", user, wrong) as worlds, pytest.raises(Difference) as found:
        run(Everything, worlds, user, STEPS, seed=1)
    assert 1 <= len(found.value.trace) <= 5, str(found.value)
