"""`diskless mirror org/name s3://bucket/hub`: fills a mirror, for `diskless.cache`, with repositories of the Hub."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from diskless.errors import InvalidOption

if TYPE_CHECKING:
    from diskless.mirroring.check import Checked

_SHOWN = 20  # problems of one repository


def add_command(commands: Any) -> None:
    """Add `mirror` to the parser's commands."""
    parser = commands.add_parser(
        "mirror",
        help="copy repositories of the Hugging Face Hub to S3, or check such copies",
        description=__doc__,
        usage="diskless mirror [datasets/]org/name[@revision] s3://bucket/hub [--allow PATTERN] [--ignore PATTERN]\n"
        "       diskless mirror --from-cache [DIR] s3://bucket/hub\n"
        "       diskless mirror --check s3://bucket/hub",
        epilog="A token for the Hub is taken from HF_TOKEN, or from where `hf auth login` has put it. A copy that was "
        "interrupted goes on when it is made again.",
    )
    parser.add_argument("places", nargs="*", metavar="NAME URL", help="what is copied, and s3://bucket/prefix")
    parser.add_argument("--from-cache", metavar="DIR", nargs="?", const="", help="copy a cache of huggingface_hub")
    parser.add_argument("--check", action="store_true", help="say what of a mirror is incomplete; status 1 if any is")
    parser.add_argument("--allow", metavar="PATTERN", action="append", help="only paths that match; may be repeated")
    parser.add_argument("--ignore", metavar="PATTERN", action="append", help="no paths that match; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")
    parser.set_defaults(run=run, usage_error=parser.error)


def run(options: argparse.Namespace) -> int:
    """Copy, or check, and print how that went; returns the exit status."""
    places, cache = list(options.places), options.from_cache
    if cache is not None and "://" in cache:  # the URL, where no directory is named
        places, cache = [cache, *places], ""
    if len(places) != (1 if options.check or cache is not None else 2):
        options.usage_error("one repository and one URL, or with --from-cache or --check one URL, are to be named")
    if options.check:
        return _check(places[0], options)
    if cache is not None and (options.allow or options.ignore):
        raise InvalidOption("--allow and --ignore choose from a repository of the Hub, not --from-cache")
    from diskless.mirroring.from_cache import copy_from_cache
    from diskless.mirroring.from_hub import copy_from_hub
    from diskless.ram.budget import format_size

    progress = False if options.json else None
    if cache is not None:
        done = copy_from_cache(cache or None, places[0], progress=progress)
    else:
        _silence_hub()
        done = copy_from_hub(
            places[0], places[1], allow_patterns=options.allow, ignore_patterns=options.ignore, progress=progress
        )
    if options.json:
        print(json.dumps(asdict(done), indent=2))
        return 0
    there = done.files - done.copied_files
    before = f", {_files(there)} {'was' if there == 1 else 'were'} there" if there else ""
    commit = f" (commit {done.commit})" if done.commit else ""
    copied = f"{_files(done.copied_files)}, {format_size(done.copied_bytes)}"
    print(f"{copied} to {done.url}{commit} in {done.seconds:.1f} s{before}")
    return 0


def _check(url: str, options: argparse.Namespace) -> int:
    if options.from_cache is not None or options.allow or options.ignore:
        raise InvalidOption("--check copies nothing, and goes with --json alone")
    from diskless.mirroring.check import check_mirror

    found = check_mirror(url)
    incomplete = sum(bool(each.problems) for each in found)
    unlisted = sum(bool(each.unlisted and not each.plain) for each in found)
    if options.json:
        # Of what nothing lists, nobody knows.
        told = [
            {**asdict(each), "complete": False if each.problems else None if each.unlisted else True} for each in found
        ]
        complete = False if incomplete else None if unlisted else True
        print(json.dumps({"url": url, "complete": complete, "repositories": told}, indent=2))
    else:
        for each in found:
            _print(each)
        many = f"{len(found)} repositor{'y' if len(found) == 1 else 'ies'}"
        state = (
            f"{incomplete} incomplete" if incomplete else "none known to be incomplete" if unlisted else "all complete"
        )
        print(f"{many}, {state}{f', {unlisted} without a listing' if unlisted else ''}")
    return 1 if incomplete else 0


def _print(checked: Checked) -> None:
    from diskless.cli.ls import printable
    from diskless.ram.budget import format_size

    state = "incomplete" if checked.problems else "complete"
    if not checked.problems and checked.unlisted:
        state = "complete as far as can be told: a snapshot has no listing"
    if checked.plain:
        state = "plain files, which are all there is"
    names = ", ".join(checked.revisions) or "no revision"
    what = f"{checked.repository} ({names}): {_files(checked.files)}, {format_size(checked.size_bytes)}, {state}"
    print(printable(what))
    for problem in checked.problems[:_SHOWN]:
        print(f"    {printable(problem)}")
    if len(checked.problems) > _SHOWN:
        print(f"    and {len(checked.problems) - _SHOWN} more")


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _silence_hub() -> None:
    """Leave the terminal to one bar of ours."""
    try:
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError:  # the copy says so
        return
    disable_progress_bars()
