"""What a user sees of a transfer: a bar on a terminal, silence elsewhere, or calls to a function of theirs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

from diskless.errors import InvalidOption, MissingDependency

# Called with (bytes done, bytes in all), both for the whole Mount.
ProgressFunction = Callable[[int, int], None]
Progress = bool | ProgressFunction | None


class Display(Protocol):
    """Shows progress."""

    def update(self, done_bytes: int, total_bytes: int) -> None: ...

    def close(self) -> None: ...


def display(progress: Progress, title: str) -> Display:
    """Return how to show progress: None shows a bar when stderr is a terminal and tqdm is there; True insists.

    Raises MissingDependency when a bar is asked for without tqdm, InvalidOption for anything but a bool or a function.
    """
    if callable(progress):
        return _Function(progress)
    if progress not in (None, True, False):
        raise InvalidOption(f"progress= is True, False, None or a function, not {type(progress).__name__}")
    if progress is False or (progress is None and not _on_a_terminal()):
        return _Silent()
    try:
        return _Bar(title)
    except ImportError:
        if progress is None:
            return _Silent()
        raise MissingDependency('progress=True needs tqdm: pip install "diskless[cli]"') from None


def _on_a_terminal() -> bool:
    stderr = sys.stderr  # None or closed in a daemon
    return stderr is not None and not stderr.closed and stderr.isatty()


class _Silent:
    def update(self, done_bytes: int, total_bytes: int) -> None:
        pass

    def close(self) -> None:
        pass


class _Function:
    def __init__(self, function: ProgressFunction) -> None:
        self._function = function

    def update(self, done_bytes: int, total_bytes: int) -> None:
        self._function(done_bytes, total_bytes)

    def close(self) -> None:
        pass


class _Bar:
    def __init__(self, title: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=title, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr)

    def update(self, done_bytes: int, total_bytes: int) -> None:
        self._bar.total = total_bytes
        self._bar.update(done_bytes - self._bar.n)

    def close(self) -> None:
        self._bar.close()
