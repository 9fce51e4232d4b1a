"""Job: a transfer as the user's process sees it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from diskless import errors
from diskless import native_api as native
from diskless.errors import Cancelled, DisklessError, LoaderDied, TransferError
from diskless.events import EventFunction, PartFetched, Retried
from diskless.loader import process, ranges
from diskless.loader.concurrency import MOST
from diskless.loader.plan import MOST_BYTES
from diskless.loader.protocol import MAX_DESCRIPTORS, Channel, Message, pieces
from diskless.sources.store import open_source

if TYPE_CHECKING:
    from diskless.sources import Listing, Object, SourceSpec

_Answer = TypeVar("_Answer")
# How often a Loader that dies is replaced, per request.
_REPLACEMENTS = 3


@dataclass
class JobStats:
    """Counts of one job. `refetched_bytes` were fetched again after a Loader died."""

    retries: int = 0
    parts: int = 0
    loaders_lost: int = 0
    refetched_bytes: int = 0


class Target(NamedTuple):
    """An object and the descriptor that it is written to; who waits for it does so at the gate, if there is one."""

    entry: Object
    fd: int
    gate: int = -1


class Lazy(NamedTuple):
    """How a transfer fetches a file only when a reader waits for it, and may drop it again.

    `on_refusal` is called with the number of a file that cannot be had now, and why; the next open tries again.
    `on_drop` is called with the number of one whose bytes are not there any more. `most_bytes` is what lazy files of
    this process may take. `on_range_refusal` is called with the number, the start and the end of a range that cannot be
    had now, and why; what else was asked for of the file comes.
    """

    on_refusal: Callable[[int, DisklessError], None]
    on_drop: Callable[[int], None] = lambda number: None
    most_bytes: int | None = None
    on_range_refusal: Callable[[int, int, int, DisklessError], None] = lambda number, start, end, error: None


@dataclass
class _Progress:
    """Which bytes are in place; kept here, so that a new Loader can take up what is missing."""

    sizes: list[int]
    there: list[list[tuple[int, int]]] = field(init=False)
    bytes_before: int = 0  # in place before the present Loader began

    def __post_init__(self) -> None:
        self.there = [[] for _ in self.sizes]

    def add(self, file: int, start: int, end: int) -> None:
        """Note that bytes are in place. A copy is changed, since others look meanwhile."""
        there = self.there[file].copy()
        ranges.add(there, start, end)
        self.there[file] = there

    def missing(self, file: int) -> list[tuple[int, int]]:
        """Return the ranges of a file that are not in place."""
        return ranges.missing(self.there[file], 0, self.sizes[file])

    def done_bytes(self) -> int:
        # A part may be reported twice: when the socket was full in the midst of a report, all of it comes again.
        missing = sum(end - start for file in range(len(self.sizes)) for start, end in self.missing(file))
        return sum(self.sizes) - missing


class Job:
    """One connection to the Loader. Used by one thread; `cancel` may come from any."""

    def __init__(self, spec: SourceSpec) -> None:
        self.stats = JobStats()
        self._spec = spec
        # One that exists in this process only.
        self._source = open_source(spec) if spec.filesystem is not None else None
        # Guards all below: who cancels, or asks for all, meets the connection of the present Loader or tells the next.
        self._lock = threading.Lock()
        self._cancelled = False
        self._all_wanted = False
        self._most_bytes: int | None = None
        self._channel: Channel | None = None
        # Of the fetch that goes on: what is in place, and the Loader's numbers of the files.
        self._progress = _Progress([])
        self._numbers: dict[int, int] = {}

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a transfer under way stops."""
        with self._lock:
            self._disconnect()

    def cancel(self) -> None:
        """Stop: `list` or `fetch`, in whichever thread, raises Cancelled."""
        with self._lock:
            self._cancelled = True
            if self._channel is not None:
                self._channel.end()

    def list(self) -> Listing:
        """Return the objects of the URL; raises NotFound, CredentialsError, AccessDenied, SourceUnavailable …"""
        from diskless.sources import Listing, Object

        def ask(channel: Channel) -> Listing:
            channel.send({"op": "list"})
            objects: list[Object] = []
            refused: list[tuple[str, str]] = []
            while True:
                message = self._receive(channel)
                content: Any = message
                if message["op"] == "objects":
                    objects.extend(Object.from_message(entry) for entry in content["objects"])
                elif message["op"] == "refused":
                    refused.extend((key, why) for key, why in content["refused"])
                elif message["op"] == "listed":
                    return Listing(objects, refused, bool(message["is_object"]))

        return self._with_replacements(ask)

    def fetch_all(self) -> None:
        """Have a lazy `fetch`, in another thread, go on with all files and then return."""
        with self._lock:
            self._all_wanted = True
            self._tell({"op": "fetch_all"})

    def missing(self, number: int, start: int, end: int) -> Sequence[tuple[int, int]]:
        """Return which ranges of a file are not in place, between `start` and `end`, while `fetch` runs elsewhere."""
        there = self._progress.there
        return ranges.missing(there[number] if number < len(there) else (), start, end)

    def ask(self, number: int, start: int, end: int) -> None:
        """Have `fetch`, in another thread, fetch a range of a file next; a Loader that replaces a dead one forgets."""
        with self._lock:
            if number in self._numbers:
                self._tell({"op": "ask", "file": self._numbers[number], "start": start, "end": end})

    def set_room(self, most_bytes: int) -> None:
        """Say how much lazy files of this process may take from now on."""
        with self._lock:
            self._most_bytes = most_bytes
            self._tell({"op": "room", "bytes": most_bytes})

    def _tell(self, message: Message) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):  # another Loader is told when it is there
                self._channel.send(message)

    def fetch(
        self,
        files: Sequence[Target],
        on_progress: Callable[[int], None] = lambda done_bytes: None,
        on_file: Callable[[int], None] = lambda number: None,
        lazy: Lazy | None = None,
        on_event: EventFunction | None = None,
        on_begun: Callable[[], None] = lambda: None,
        *,
        verify: bool = False,
        most_connections: int = MOST,
        most_part_bytes: int = MOST_BYTES,
        windowed: bool = False,
    ) -> None:
        """Write every object into its descriptor; returns when all bytes are in place, a lazy one after `fetch_all`.

        `on_progress` is called about ten times a second with the bytes in place, `on_file` with the number of each file
        that is complete, and `on_begun` when the Loader knows what to fetch: from then on it needs nothing of this
        process. With `verify` a file's bytes are what the store has a checksum of by then, or ChecksumMismatch is
        raised, or InvalidOption where it has none. `on_event` is called with each PartFetched and Retried; without it
        the Loader notes none. With `windowed` a file has a window of its object's bytes, over and over again.

        Raises TransferError, ObjectChanged, LoaderDied, Cancelled, or what the store says.
        """
        progress = self._progress = _Progress([file.entry.size_bytes for file in files])
        wishes: Message = {
            "verify": verify,
            "connections": most_connections,
            "part_bytes": most_part_bytes,
            "windowed": windowed,
        }
        self._most_bytes = lazy.most_bytes if lazy is not None else None
        self._with_replacements(
            lambda channel: self._fetch(
                channel, files, progress, on_progress, on_file, lazy, on_event, on_begun, wishes
            )
        )

    def mismatches(self, files: Sequence[Target]) -> Sequence[int]:
        """Return the numbers of those files, whose bytes are in place, that are not what the store has."""

        def ask(channel: Channel) -> Sequence[int]:
            self._send_files(channel, files, [(file.entry.to_message(), [], -1) for file in files])
            channel.send({"op": "verify"})
            found: Sequence[int] = []
            while True:
                message = self._receive(channel)
                content: Any = message
                if message["op"] == "mismatches":
                    found = [*found, *content["files"]]
                elif message["op"] == "verified":
                    return found

        return self._with_replacements(ask)

    def _send_files(self, channel: Channel, files: Sequence[Target], entries: Sequence[tuple[Any, Any, int]]) -> None:
        sent = 0
        for piece in pieces(entries, MAX_DESCRIPTORS):
            channel.send({"op": "files", "files": piece}, [file.fd for file in files[sent : sent + len(piece)]])
            sent += len(piece)

    def _fetch(
        self,
        channel: Channel,
        files: Sequence[Target],
        progress: _Progress,
        on_progress: Callable[[int], None],
        on_file: Callable[[int], None],
        lazy: Lazy | None,
        on_event: EventFunction | None,
        on_begun: Callable[[], None],
        wishes: Message,
    ) -> None:
        if self.stats.loaders_lost:
            # What the last one has let readers in to is complete, and what it shut again is not, though it did not live
            # to say so.
            for number, file in enumerate(files):
                if file.gate >= 0 and (native.gate_opened(file.gate) or native.is_sealed(file.fd)):
                    progress.there[number] = [(0, file.entry.size_bytes)]
                elif lazy is not None and not progress.missing(number):
                    progress.there[number] = []
        progress.bytes_before = progress.done_bytes()
        numbers = [number for number in range(len(files)) if progress.missing(number)]
        for number in set(range(len(files))).difference(numbers):
            on_file(number)
        if lazy is not None:  # what is complete may be dropped
            numbers = [number for number, file in enumerate(files) if file.entry.size_bytes]
        process.make_room(len(numbers), in_thread=self._source is not None)
        # A thread of this process could not let anybody in who holds the GIL.
        gated = self._source is None and not process.in_process() and any(file.gate >= 0 for file in files)
        if gated:
            channel.send({"op": "gates"}, native.gate_descriptors())
        entries = [
            (files[number].entry.to_message(), progress.missing(number), files[number].gate if gated else -1)
            for number in numbers
        ]
        self._send_files(channel, [files[number] for number in numbers], entries)
        if not numbers:
            on_begun()
            return
        with self._lock:
            if self._most_bytes is not None:
                channel.send({"op": "room", "bytes": self._most_bytes})
            is_lazy = lazy is not None and not self._all_wanted
            channel.send({"op": "fetch", **wishes, "lazy": is_lazy, "trace": on_event is not None})
            self._numbers = {number: theirs for theirs, number in enumerate(numbers)}
        on_begun()
        retries_before, received = self.stats.retries, 0
        while True:
            try:
                message = self._receive(channel)
            except EOFError:
                self.stats.refetched_bytes += max(0, progress.bytes_before + received - progress.done_bytes())
                raise
            content: Any = message
            if message["op"] == "refused_file" and lazy is not None:
                lazy.on_refusal(numbers[content["file"]], _error(message))
            elif message["op"] == "refused_range" and lazy is not None:
                span = content["start"], content["end"]
                lazy.on_range_refusal(numbers[content["file"]], *span, _error(message))
            elif message["op"] == "progress":
                for number in content["dropped"]:
                    if lazy is not None:
                        lazy.on_drop(numbers[number])
                    progress.there[numbers[number]] = []
                for number, start, end in content["parts"]:
                    progress.add(numbers[number], start, end)
                    self.stats.parts += 1
                for file in {numbers[number] for number, _, _ in content["parts"]}:
                    if not progress.missing(file):
                        on_file(file)
                received = content["bytes"]
                self.stats.retries = retries_before + content["retries"]
                on_progress(progress.bytes_before + received)
            elif message["op"] == "trace" and on_event is not None:
                for kind, number, *rest in content["entries"]:
                    path = files[numbers[number]].entry.path
                    on_event(PartFetched(path, *rest) if kind == "part" else Retried(path, *rest))
            elif message["op"] == "complete":
                # The last report may have found the connection full.
                for number in [number for number in numbers if progress.missing(number)]:
                    progress.add(number, 0, files[number].entry.size_bytes)
                    on_file(number)
                return

    def _connected(self) -> Channel:
        """Return the connection, made where there is none."""
        if self._channel is None:
            channel = process.connect(self._source)
            with self._lock:
                self._channel = channel
                if self._cancelled:
                    channel.end()
            if self._source is not None:
                return channel
            channel.send(
                {"op": "open", "source": self._spec.to_message(), "refresh": self._spec.refresh is not None},
            )
        return self._channel

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.end()
            self._channel.close()
            self._channel = None

    def _with_replacements(self, ask: Callable[[Channel], _Answer]) -> _Answer:
        """Do `ask`, again with a new Loader when the present one dies."""
        while True:
            try:
                return ask(self._connected())
            except (EOFError, BrokenPipeError, ConnectionResetError):
                with self._lock:
                    if self._channel is not None and not self._cancelled:
                        process.lost(self._channel)
                    self._disconnect()
                if self._cancelled:
                    raise Cancelled(f"the load of {self._spec.display} was cancelled") from None
                self.stats.loaders_lost += 1
                if self.stats.loaders_lost > _REPLACEMENTS:
                    raise LoaderDied(
                        f"{self._spec.display}: the Loader process died {self.stats.loaders_lost} times; is it killed "
                        "for memory, or by a policy of this machine?"
                    ) from None

    def _receive(self, channel: Channel) -> Message:
        """Return the next answer; raises the error when it is one, and gives credentials when they are asked for."""
        while True:
            message, _ = channel.receive()
            if message["op"] == "error":
                raise _error(message)
            if message["op"] != "credentials":
                return message
            assert self._spec.refresh is not None
            channel.send({"op": "credentials", "credentials": self._spec.refresh().to_message()})


def _error(message: Message) -> DisklessError:
    kind = getattr(errors, str(message["kind"]), TransferError)
    return (kind if issubclass(kind, DisklessError) else TransferError)(str(message["message"]))
