"""`diskless ls URL`: the files that a Mount of the URL would show. Nothing is fetched but the listing."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diskless.sources import Object


def add_command(commands: Any) -> None:
    """Add `ls` to the parser's commands."""
    parser = commands.add_parser("ls", help="list what a URL holds", description=__doc__)
    parser.add_argument(
        "url", help="s3://bucket/prefix, s3://bucket/key of one object, or another URL that can be mounted"
    )
    parser.add_argument("--allow", metavar="PATTERN", action="append", help="only paths that match; may be repeated")
    parser.add_argument("--ignore", metavar="PATTERN", action="append", help="no paths that match; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what there is, one file a line, and the sum; returns the exit status."""
    from diskless.loader import client
    from diskless.ram.budget import format_size
    from diskless.selection import patterns, select
    from diskless.sources import resolve

    spec = resolve(options.url)
    with client.Job(spec) as job:
        listing = job.list()
    allowed, ignored = patterns("--allow", options.allow), patterns("--ignore", options.ignore)
    objects = select(listing, allowed, ignored, spec.display)
    if options.json:
        refused = [{"key": key, "reason": reason} for key, reason in listing.refused]
        print(json.dumps({"url": spec.display, "files": list(map(_described, objects)), "refused": refused}, indent=2))
        return 0
    for entry in objects:
        modified = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry.mtime_ns // 10**9))
        print(f"{entry.size_bytes:>15,}  {modified}  {printable(entry.path)}")
    total_bytes = sum(entry.size_bytes for entry in objects)
    print(f"{len(objects)} file{'' if len(objects) == 1 else 's'}, {format_size(total_bytes)}")
    return 0


def _described(entry: Object) -> dict[str, object]:
    modified = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.mtime_ns // 10**9))
    return {
        "path": entry.path,
        "key": entry.key,
        "size_bytes": entry.size_bytes,
        "modified": modified,
        "etag": entry.etag,
        "version": entry.version,
    }


def printable(path: str) -> str:
    """Return a path that cannot move the cursor of a terminal, nor break a line."""
    return path if path.isprintable() else repr(path)[1:-1]
