"""The page of `diskless load --report`: one file that needs no other, and asks nothing of any network."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from html import escape

import diskless
from diskless.cli.ls import printable
from diskless.cli.progress_line import format_rate
from diskless.cli.recording import Recording
from diskless.cli.report_charts import memory_chart, parts_chart, throughput_chart
from diskless.cli.report_style import SCRIPT, STYLE
from diskless.errors import DisklessError, InvalidOption, redact
from diskless.ram.budget import format_size
from diskless.stats import Stats

_SLOWEST, _RETRIES = 10, 20
# Nothing outside may be asked for, whatever the page holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def check_place(path: str) -> None:
    """Raise InvalidOption where no file could be written, before anything is loaded."""
    directory = os.path.dirname(path) or "."
    if os.path.isdir(path) or not os.path.basename(path):
        raise InvalidOption(
            f"--report {path}: a directory; name a file in it, such as {os.path.join(path, 'out.html')}"
        )
    if not os.path.isdir(directory):
        raise InvalidOption(f"--report {path}: there is no directory {directory}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InvalidOption(f"--report {path}: no file can be made in {directory}; name another directory")


def write(path: str, content: str) -> None:
    """Write a file so that nobody ever sees half of it; OSError where that fails."""
    fd, temporary = tempfile.mkstemp(prefix=".diskless-report-", dir=os.path.dirname(path) or ".")
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def page(url: str, stats: Stats, recording: Recording, error: DisklessError | None = None) -> str:
    """Return the page of a load of `url`; of one that failed, with the error."""
    name = escape(printable(redact(url)))
    end_s = max(
        stats.seconds,
        *(sample.at_s for sample in recording.samples),
        *(part.ended_s for part in recording.parts),
        1e-3,
    )
    bars = len(recording.bars())
    drawn = f", drawn as {bars:,} bars" if bars < len(recording.parts) else ""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    failed = f'<p class="failed">{escape(redact(str(error)))}</p>' if error is not None else ""
    tiles = "".join(
        f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for value, label in _tiles(stats, recording)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{name} · diskless load</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{name}</h1>
<p class="quiet">{"loaded" if error is None else "not loaded"} into RAM by diskless {diskless.__version__},
{when}, backing {escape(printable(stats.backing))}</p>
{failed}
<div class="tiles">{tiles}</div>
<section>
<h2>Parts <small>{len(recording.parts):,}, by connection{drawn}</small>
{_key("file by file", "one", "two")}{_key("after a retry", "retried")}{_key("the moment of a retry", "retry")}</h2>
<div class="chart">{parts_chart(recording, end_s)}</div>
</section>
<section>
<h2>Throughput <small>of the whole transfer</small></h2>
<div class="chart">{throughput_chart(recording, end_s)}</div>
</section>
<section>
<h2>Memory {_key("the bytes, in RAM files", "one")}{_key("beside them, this process and the Loader", "beside")}</h2>
<div class="chart">{memory_chart(recording, end_s)}</div>
</section>
{_slowest(recording)}
{_retries(recording)}
</main>
<div id="tip"></div>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _key(words: str, *colors: str) -> str:
    squares = "".join(f'<i style="background:var(--{color})"></i>' for color in colors)
    return f'<small class="key">{squares} {words}</small>'


def _tiles(stats: Stats, recording: Recording) -> list[tuple[str, str]]:
    peak = format_size(recording.peak_bytes) if recording.peak_bytes is not None else "unknown"
    return [
        (f"{stats.files:,}", "file" if stats.files == 1 else "files"),
        (format_size(stats.size_bytes), "in all"),
        (f"{stats.seconds:.2f} s", "from start to end"),
        (format_rate(stats.rate_bytes_per_s), "on average"),
        (f"{stats.retries:,}", "retry" if stats.retries == 1 else "retries"),
        (peak, "memory beside them"),
    ]


def _slowest(recording: Recording) -> str:
    if not recording.parts:
        return ""
    rows = []
    for part in recording.slowest(_SLOWEST):
        seconds, size_bytes = part.ended_s - part.began_s, part.end - part.start
        rows.append(
            f'<tr><td class="wide">{escape(printable(part.path))}</td><td class="number">{part.start:,}</td>'
            f'<td class="number">{format_size(size_bytes)}</td><td class="number">{seconds:.3f} s</td>'
            f'<td class="number">{format_rate(size_bytes / max(seconds, 1e-9))}</td>'
            f'<td class="number">{part.connection + 1}</td><td class="number">{part.attempts}</td></tr>'
        )
    return (
        '<section><h2>Slowest parts</h2><div class="table"><table><tr><th>file</th><th class="number">from byte</th>'
        '<th class="number">size</th><th class="number">time</th><th class="number">rate</th>'
        '<th class="number">connection</th><th class="number">requests</th></tr>'
        f"{''.join(rows)}</table></div></section>"
    )


def _retries(recording: Recording) -> str:
    if not recording.retries:
        return ""
    rows = [
        f'<tr><td class="number">{retry.at_s:.2f} s</td><td class="wide">{escape(printable(retry.path))}</td>'
        f'<td class="number">{retry.start:,}</td><td class="wide">{escape(printable(retry.cause))}</td></tr>'
        for retry in recording.retries[:_RETRIES]
    ]
    some = (
        f" <small>the first {_RETRIES} of {len(recording.retries):,}</small>"
        if len(recording.retries) > _RETRIES
        else ""
    )
    return (
        f'<section><h2>Retries{some}</h2><div class="table"><table><tr><th class="number">at</th><th>file</th>'
        f'<th class="number">from byte</th><th>why</th></tr>{"".join(rows)}</table></div></section>'
    )
