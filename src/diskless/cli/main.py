"""`diskless`: reads the command line, runs one command, turns its errors into one line and an exit status.

Exit status: 0 done, 1 failed (the reason is one line on stderr), 2 the command line made no sense, 128 + n stopped by
signal n.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

import diskless
from diskless.cli import completions, demo, load, ls, mirror, push
from diskless.errors import DisklessError, redact

# What errors call arguments of functions, and what they are on a command line.
_OPTIONS = {
    "overwrite=True": "--overwrite",
    "allow_patterns=": "--allow ",
    "ignore_patterns=": "--ignore ",
    "verify=True": "--verify",
    "budget=": "--budget ",
    "storage_options={'anon': True}": "AWS_SKIP_SIGNATURE=true",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `diskless` with these arguments (those of the process by default) and return its exit status."""
    try:
        options = _parser().parse_args(arguments)
        run = options.run
        return int(run(options))
    except DisklessError as error:
        print(f"diskless: {_as_options(redact(_one_line(error)))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output is gone: `diskless demo | head -1`
        sys.stderr.close()
        return 128 + signal.SIGPIPE
    except OSError as error:  # such as a full disk behind our output
        print(f"diskless: {redact(_one_line(error))}", file=sys.stderr)
        return 1


def _as_options(said: str) -> str:
    """Return what an error says with the names that arguments of functions have on a command line."""
    for argument, option in _OPTIONS.items():
        said = said.replace(argument, option)
    return said


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="diskless", description=diskless.__doc__)
    parser.add_argument("--version", action="version", version=f"diskless {diskless.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    demo.add_command(commands)
    load.add_command(commands)
    ls.add_command(commands)
    mirror.add_command(commands)
    push.add_command(commands)
    completions.add_command(commands, parser)
    return parser


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
