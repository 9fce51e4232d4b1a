"""ProgressLine: one line of a terminal that says how far a load is, written over itself."""

from __future__ import annotations

import shutil
from typing import TextIO

from diskless.ram.budget import format_size
from diskless.stats import Stats


class ProgressLine:
    """Shows Stats on a terminal until `clear`."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._width = 0

    def show(self, stats: Stats, done_bytes: int) -> None:
        """Show these, of which `done_bytes` are in place."""
        line = text(stats, done_bytes)[: shutil.get_terminal_size().columns - 1]
        self._terminal.write("\r" + line.ljust(self._width))
        self._terminal.flush()
        self._width = len(line)

    def clear(self) -> None:
        """Leave an empty line, with the cursor at its beginning."""
        if self._width:
            self._terminal.write("\r" + " " * self._width + "\r")
            self._terminal.flush()
        self._width = 0


def format_rate(bytes_per_s: float) -> str:
    """Return a rate for people, in decimal units as networks have them."""
    rate = bytes_per_s / 1e6
    return f"{rate:,.0f} MB/s" if rate >= 10 else f"{rate:.2f} MB/s"


def text(stats: Stats, done_bytes: int) -> str:
    """Return what is shown of these."""
    if not stats.files:
        return "listing ..."
    share = done_bytes / stats.size_bytes if stats.size_bytes else 1.0
    words = [
        f"{share:4.0%}",
        f"{format_size(done_bytes)} of {format_size(stats.size_bytes)}",
        format_rate(stats.rate_bytes_per_s),
        f"{stats.complete_files} of {stats.files} files",
    ]
    if stats.retries:
        words.append(f"{stats.retries} retries")
    if stats.eta_s is not None:
        minutes, seconds = divmod(round(stats.eta_s), 60)
        words.append(f"{minutes} min {seconds:02} s left" if minutes else f"{seconds} s left")
    return "  ".join(words)
