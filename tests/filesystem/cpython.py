"""CPython's own tests, unmodified, with their temporary and working directory in a scratch or on a tmpfs.

`python -m tests.filesystem.cpython` runs all of them in a scratch and prints each case that fails though it passes on
a tmpfs; `--on tmpfs` runs them there. They come with the interpreter (package `test`; Debian: libpython3-testsuite).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import faulthandler
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# All of them take a minute or two on two cores.
MODULES = [
    *("test_os", "test_posix", "test_posixpath", "test_genericpath", "test_pathlib", "test_shutil", "test_glob"),
    *("test_tempfile", "test_fileio", "test_io", "test_mmap", "test_zipfile", "test_tarfile", "test_sqlite3"),
    *("test_dbm", "test_dbm_dumb", "test_filecmp", "test_largefile", "test_stat", "test_import"),
]
MODULE_LIMIT_S = 400
# A case that kills the process is left out of the next attempt, so that those behind it are seen, too.
ATTEMPTS = 6
NAME = "tests.filesystem.cpython"
# Where the journal is open: above the numbers that tests close or count.
JOURNAL = 200


@dataclass
class Outcome:
    """What became of one module's cases; `failed` has the last lines of each traceback."""

    module: str
    ran: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def available(module: str) -> bool:
    """Whether this interpreter came with that test."""
    try:
        return importlib.util.find_spec(f"test.{module}") is not None
    except ModuleNotFoundError:
        return False


def run_module(module: str, on: str) -> Outcome:
    """Run one module's tests in a process of its own, again without those that kill it."""
    outcome, began = Outcome(module), time.monotonic()
    # Both are this process's, which lives on when a case kills the other.
    with contextlib.ExitStack() as kept:
        place = kept.enter_context(tempfile.TemporaryDirectory(prefix="cpython-"))
        if on == "tmpfs":
            on = "tmpfs:" + kept.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm", prefix="cpython-"))
        journal = Path(place) / "journal"
        for _ in range(ATTEMPTS):
            killed = _attempt(module, on, journal, outcome)
            if killed is None:
                break
    outcome.seconds = time.monotonic() - began
    return outcome


def _attempt(module: str, on: str, journal: Path, outcome: Outcome) -> str | None:
    """Run what is not known to kill the process; returns the case that did this time."""
    killers = [name for name, text in outcome.failed.items() if text.startswith("the process")]
    journal.write_text("")
    command = [sys.executable, "-m", NAME, "--inside", module, "--on", on, "--journal", str(journal)]
    done = subprocess.run(
        [*command, *(word for name in killers for word in ("--without", name))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=Path(__file__).parents[2],
    )
    outcome.ran, running, ended = 0, "", False
    outcome.failed = {name: outcome.failed[name] for name in killers}
    for line in journal.read_text().splitlines():
        what = json.loads(line)
        if "start" in what:
            outcome.ran, running = outcome.ran + 1, what["start"]
        elif "fail" in what:
            outcome.failed[what["fail"]] = what["text"]
        ended |= "end" in what
    if ended:
        return None
    running = running or f"test.{module}"
    outcome.failed[running] = f"the process ended with {done.returncode}: {done.stderr[-1500:]}"
    return running


class _Recorder(unittest.TextTestResult):
    """Writes what happens to a file at once, since the process may not live to tell."""

    journal: int

    def _note(self, **what: str) -> None:
        os.write(self.journal, (json.dumps(what) + "\n").encode())

    def startTest(self, test: unittest.TestCase) -> None:
        self._note(start=test.id())
        super().startTest(test)

    def addError(self, test, err) -> None:
        super().addError(test, err)
        self._note(fail=test.id(), text=self._exc_info_to_string(err, test)[-1500:])

    def addFailure(self, test, err) -> None:
        super().addFailure(test, err)
        self._note(fail=test.id(), text=self._exc_info_to_string(err, test)[-1500:])

    def addSubTest(self, test, subtest, err) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(fail=test.id(), text=f"{subtest}: {self._exc_info_to_string(err, test)[-1500:]}")


@contextlib.contextmanager
def _directory(on: str) -> Iterator[str]:
    if on.startswith("tmpfs:"):
        yield tempfile.mkdtemp(dir=on.partition(":")[2])
    else:
        import diskless

        with diskless.scratch(backing="tree" if on == "scratch" else on) as path:
            yield path
        # What programs started from here, which see no Tree, have made on the disk in its place (as root they can).
        if os.path.lexists(path):
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.removedirs(os.path.dirname(path))


def _run_inside(module: str, on: str, journal: str, without: list[str]) -> None:
    """In the child: open the directory, go there, and only then import what the tests use."""
    low = os.open(journal, os.O_WRONLY | os.O_APPEND)
    _Recorder.journal = os.dup2(low, JOURNAL, inheritable=False)
    os.close(low)
    faulthandler.dump_traceback_later(MODULE_LIMIT_S, exit=True)
    with contextlib.ExitStack() as opened:
        root = opened.enter_context(_directory(on))
        for name in ("tmp", "cwd"):
            os.mkdir(os.path.join(root, name))
        os.environ["TMPDIR"] = tempfile.tempdir = os.path.join(root, "tmp")
        opened.enter_context(_working_directory(os.path.join(root, "cwd")))
        from test import support

        support.use_resources = []  # nothing that takes the network or gigabytes
        suite = unittest.defaultTestLoader.loadTestsFromName(f"test.{module}")
        chosen = unittest.TestSuite(case for case in _cases(suite) if case.id() not in without)
        unittest.TextTestRunner(resultclass=_Recorder, stream=open(os.devnull, "w")).run(chosen)
        os.write(JOURNAL, b'{"end": true}\n')
    os._exit(0)  # not what tests left to be done at exit


@contextlib.contextmanager
def _working_directory(directory: str) -> Iterator[None]:
    """Be there; where the Tree has no working directory yet, in one on a tmpfs in its place."""
    with contextlib.ExitStack() as elsewhere:
        try:
            os.chdir(directory)
        except PermissionError:
            os.chdir(elsewhere.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm", prefix="cpython-cwd-")))
        elsewhere.callback(os.chdir, "/")
        yield


def _cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from _cases(each)
        else:
            yield each


def run_all(modules: list[str], on: str, jobs: int = 2) -> Iterator[Outcome]:
    with concurrent.futures.ThreadPoolExecutor(jobs) as threads:
        yield from threads.map(lambda module: run_module(module, on), modules)


def main() -> int:
    from tests.filesystem.cpython_differences import DIFFERENCES

    parser = argparse.ArgumentParser(prog=f"python -m {NAME}", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as test_os; all without")
    parser.add_argument("--on", default="scratch", help="scratch, tmpfs, or directory:PATH")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--journal", help=argparse.SUPPRESS)
    parser.add_argument("--without", action="append", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _run_inside(options.inside, options.on, options.journal, options.without)
    known = DIFFERENCES if options.on == "scratch" else {}
    unknown = 0
    modules = options.modules or [each for each in MODULES if available(each)]
    for outcome in run_all(modules, options.on):
        print(f"{outcome.module}: {outcome.ran} ran, {len(outcome.failed)} failed, {outcome.seconds:.0f} s", flush=True)
        for name, text in outcome.failed.items():
            unknown += name not in known
            last = text.strip().splitlines()[-1:] or [""]
            print(f"  {name}: {known.get(name) or last[0][:200]}", flush=True)
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
