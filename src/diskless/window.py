"""Window: where who reads from the front to the back has the bytes: so many of the object, and then over again.

Byte `n` of the object is byte `n % WINDOW_BYTES` of the RAM file, so that a stream of any size is written to the same
few pages. Nothing is asked for while what was to be in its place may still be on its way.
"""

from __future__ import annotations

from collections.abc import Callable

WINDOW_BYTES = 64 << 20


def place(position: int) -> tuple[int, int]:
    """Return where a byte of the object has its place, and how many have theirs from there on before it goes over."""
    at = position % WINDOW_BYTES
    return at, WINDOW_BYTES - at


class Window:
    """What was asked for, of one reader."""

    def __init__(self) -> None:
        self._begin = self._end = 0  # all that was asked for and may be on its way lies between them

    def make_way(self, start: int, end: int, wait_for: Callable[[int, int], object]) -> None:
        """Have what was asked for, and would be written where these bytes go, arrive first, by `wait_for(start, end)`.

        From `start` to `end` it is less than a window, as it is from any byte that may still be read.
        """
        apart = start > self._end
        until = self._end if apart else min(self._end, end - WINDOW_BYTES)
        if self._begin < until:
            wait_for(self._begin, until)
        if apart:
            self._begin, self._end = start, end
        else:
            self._begin, self._end = min(max(self._begin, until), start), max(self._end, end)
