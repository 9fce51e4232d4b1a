"""`python -m tests.filesystem.oracle --steps 1000000`: the oracle on demand."""

from __future__ import annotations

import argparse
import os
import pickle
import random
import signal
import sys
import tempfile
import time
import traceback
from typing import IO

from tests.filesystem.oracle.machine import Operation, Oracle
from tests.filesystem.oracle.rules import Everything, WithWorkingDirectory
from tests.filesystem.oracle.run import SUBJECTS, listed, run, survey, two_worlds
from tests.filesystem.oracle.shrink import CRASH, shrink
from tests.filesystem.oracle.user import User


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.filesystem.oracle", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--subject", choices=sorted(SUBJECTS), default="scratch")
    parser.add_argument("--uid", type=int, default=0, help="who does it; another than 0 needs root to begin with")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--chdir", action="store_true", help="from a working directory in the tree, too")
    parser.add_argument("--survey", action="store_true", help="go on after differences, and count them")
    parser.add_argument("--strict", action="store_true", help="known differences count, too (exceptions.py)")
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr, flush=True)
    # In a child, since a crash is a difference as well: it leaves its last series in a file.
    with tempfile.TemporaryFile() as journal:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = work(options, journal)
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            journal.seek(0)
            explain_crash(options, signal.Signals(os.WTERMSIG(status)).name, pickle.load(journal))
            return 1
        return os.waitstatus_to_exitcode(status)


def machine_of(options: argparse.Namespace) -> type[Oracle]:
    machine = WithWorkingDirectory if options.chdir else Everything
    return type(machine.__name__, (machine,), {"strict": options.strict})


def work(options: argparse.Namespace, journal: IO[bytes]) -> int:
    user, machine, began = User(options.uid), machine_of(options), time.monotonic()

    def note(trace: list[Operation]) -> None:
        os.pwrite(journal.fileno(), pickle.dumps(trace), 0)

    machine.journal = staticmethod(note)
    with two_worlds(options.subject, user) as worlds:
        if options.survey:
            for count, signature, trace in survey(machine, worlds, user, options.steps, options.seed):
                print(f"{count}x {signature}\n{trace}", flush=True)
            return 0
        steps = run(machine, worlds, user, options.steps, options.seed)
    print(f"{steps} steps without a difference in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


def explain_crash(options: argparse.Namespace, name: str, trace: list[Operation]) -> None:
    """Print the shortest series that still crashes."""
    user = User(options.uid)
    with two_worlds(options.subject, user) as worlds:
        machine = type("Crashing", (machine_of(options),), {"make": staticmethod(worlds), "user": user})
        print(f"{CRASH} by {name} after\n{listed(shrink(machine, trace, CRASH))}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
