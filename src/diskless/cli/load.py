"""`diskless load URL`: loads into RAM as a mount would, says how that went, and frees everything."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from diskless.cli.signals import Signals, Stopped
from diskless.errors import DisklessError

if TYPE_CHECKING:
    from diskless.cli.progress_line import ProgressLine
    from diskless.cli.recording import Recording
    from diskless.job import Job

# How often the terminal, the memory and the signals are looked after.
_TICK_S = 0.1


def add_command(commands: Any) -> None:
    """Add `load` to the parser's commands."""
    parser = commands.add_parser("load", help="load a URL into RAM, and say how that went", description=__doc__)
    parser.add_argument("url", help="what can be mounted: s3://bucket/prefix, s3://bucket/key of one object, ...")
    parser.add_argument("--allow", metavar="PATTERN", action="append", help="only paths that match; may be repeated")
    parser.add_argument("--ignore", metavar="PATTERN", action="append", help="no paths that match; may be repeated")
    parser.add_argument("--verify", action="store_true", help="compare every object with the store's checksum")
    parser.add_argument("--budget", metavar="SIZE", help="the most that may be held, such as 4GiB")
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")
    parser.add_argument("--report", metavar="OUT.html", help="write a page that shows the transfer as a picture")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load, print how that went, and free it; returns the exit status."""
    import diskless
    from diskless.cli import report
    from diskless.cli.progress_line import ProgressLine
    from diskless.cli.recording import Recording

    if options.report is not None:
        report.check_place(options.report)
    shows = not options.quiet and sys.stderr is not None and sys.stderr.isatty()
    line = ProgressLine(sys.stderr) if shows else None
    recording = Recording()
    recording.sample(0)
    with Signals() as signals:
        try:
            job = diskless.prefetch(
                options.url,
                allow_patterns=options.allow,
                ignore_patterns=options.ignore,
                verify=options.verify,
                budget=options.budget,
                progress=False,
                on_event=recording.add if options.report is not None else None,
            )
            error: DisklessError | None = None
            try:
                _watch(job, signals, recording, line)
            except DisklessError as failure:
                error = failure
            finally:
                if line is not None:
                    line.clear()
                job.close()
            if options.report is not None:
                report.write(options.report, report.page(job.url, job.stats, recording, error))
            if error is not None:
                raise error
        except Stopped as stopped:
            print(f"diskless: the load was stopped by {stopped}", file=sys.stderr)
            return stopped.exit_status
    if options.json:
        print(json.dumps(_document(job, recording), indent=2))
    elif not options.quiet:
        print(_summary(job, recording))
        if options.report is not None:
            print(f"the transfer as a picture: {options.report}")
    return 0


def _watch(job: Job, signals: Signals, recording: Recording, line: ProgressLine | None) -> None:
    """Return when all is loaded; raises Stopped, or the load's own error."""
    ended = False
    while not ended:
        try:
            job.wait(_TICK_S)
            ended = True
        except TimeoutError:
            pass
        finally:
            done_bytes = job.stats.size_bytes if ended else job.stats.fetched_bytes
            recording.sample(done_bytes)
        signals.check()
        if line is not None:
            line.show(job.stats, done_bytes)


def _summary(job: Job, recording: Recording) -> str:
    from diskless.cli.progress_line import format_rate
    from diskless.ram.budget import format_size

    stats = job.stats
    words = [
        f"{stats.files} file{'' if stats.files == 1 else 's'}",
        f"{format_size(stats.size_bytes)} in {stats.seconds:.2f} s",
        format_rate(stats.rate_bytes_per_s),
        f"{stats.retries} retr{'y' if stats.retries == 1 else 'ies'}",
    ]
    if recording.peak_bytes is not None:
        words.append(f"the processes took {format_size(recording.peak_bytes)} beside the bytes at most")
    return ", ".join(words)


def _document(job: Job, recording: Recording) -> dict[str, object]:
    stats = job.stats
    return {
        "url": job.url,
        "files": stats.files,
        "size_bytes": stats.size_bytes,
        "fetched_bytes": stats.fetched_bytes,
        "seconds": stats.seconds,
        "rate_bytes_per_s": stats.rate_bytes_per_s,
        "retries": stats.retries,
        "refetched_bytes": stats.refetched_bytes,
        "loaders_lost": stats.loaders_lost,
        "peak_process_bytes": recording.peak_bytes,
        "backing": stats.backing,
        "refused": [{"key": key, "reason": reason} for key, reason in stats.refused],
    }
