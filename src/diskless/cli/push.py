"""`diskless push PATH URL`: uploads a file or a directory; readers with diskless see all of it or nothing."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any


def add_command(commands: Any) -> None:
    """Add `push` to the parser's commands."""
    parser = commands.add_parser("push", help="upload a file or a directory", description=__doc__)
    parser.add_argument("path", help="a file or a directory")
    parser.add_argument("url", help="s3://bucket/prefix of a directory, s3://bucket/key of a file")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("--allow", metavar="PATTERN", action="append", help="only paths that match; may be repeated")
    parser.add_argument("--ignore", metavar="PATTERN", action="append", help="no paths that match; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Upload, and print what went where; returns the exit status."""
    import diskless
    from diskless.ram.budget import format_size

    done = diskless.push(
        options.path,
        options.url,
        overwrite=options.overwrite,
        allow_patterns=options.allow,
        ignore_patterns=options.ignore,
        progress=False if options.json else None,
    )
    if options.json:
        print(json.dumps(asdict(done), indent=2))
    else:
        files = f"{done.files} file{'' if done.files == 1 else 's'}"
        print(f"{files}, {format_size(done.size_bytes)} to {done.url} in {done.seconds:.1f} s")
    return 0
