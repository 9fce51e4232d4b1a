"""Being stopped: Ctrl-C and termination end a command at points of its own choosing, so that it can clean up."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """The command was asked to stop by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


class Signals:
    """While this context is open a stopping signal raises nothing where it hits; it is noted, and `check` raises.

    An exception at an arbitrary moment could fall between the start of a process and the note that it runs; it would
    then be left behind. `descriptor` becomes readable when a signal comes, so that a wait ends at once.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self.descriptor, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Signals:
        self._previous = {number: signal.signal(number, self._note) for number in _STOPPING}
        self._previous_wakeup = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._previous_wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self.descriptor)
        os.close(self._wakeup)

    def check(self) -> None:
        """Raise Stopped if a stopping signal came."""
        if self._received is not None:
            raise Stopped(self._received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
