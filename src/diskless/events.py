"""What a load does, as small events, for a function that `mount(on_event=…)` or `prefetch(on_event=…)` is given.

Times are seconds of CLOCK_MONOTONIC, as `time.monotonic` gives them: they compare across the processes of a machine.
`path` is a file's path below the URL; ranges are bytes, with an exclusive end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from diskless.errors import InvalidOption

_log = logging.getLogger("diskless")


class PartFetched(NamedTuple):
    """A range is in place; after a Loader died it may come again.

    `connection` is a small number: at any moment no two parts that are on their way have the same. `attempts` counts
    the requests that it took, and `began_s` is the moment of the first.
    """

    path: str
    start: int
    end: int
    connection: int
    began_s: float
    ended_s: float
    attempts: int


class Retried(NamedTuple):
    """A range did not come, for the reason `cause`, and is asked for again; or all of a file is, whose checksum is not
    that of the store."""

    path: str
    start: int
    end: int
    connection: int
    at_s: float
    cause: str


class FileComplete(NamedTuple):
    """All bytes of a file are in place, and verified where that was asked for."""

    path: str
    size_bytes: int


class Dropped(NamedTuple):
    """The bytes of a file of a lazy Mount were let go of; the next open fetches them again."""

    path: str
    size_bytes: int


Event = PartFetched | Retried | FileComplete | Dropped
# Called in the thread that loads: it should return soon.
EventFunction = Callable[[Event], None]


def quiet(on_event: EventFunction | None) -> EventFunction | None:
    """Return a function that calls `on_event`, logs what that raises, once, and never raises itself.

    Raises InvalidOption for what is no function.
    """
    if on_event is None:
        return None
    if not callable(on_event):
        raise InvalidOption(f"on_event= is a function that takes an event, not {type(on_event).__name__}")
    function, failed = on_event, False

    def call(event: Event) -> None:
        nonlocal failed
        try:
            function(event)
        except Exception:
            if not failed:
                _log.exception("on_event= raised an exception; the load goes on, and further ones are not logged")
            failed = True

    return call
