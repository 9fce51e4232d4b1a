"""The far end of a job: lists and fetches for one connection, in the Loader process or in a thread of the user's."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diskless.errors import BudgetExceeded, DescriptorLimit, DisklessError
from diskless.loader.plan import Part
from diskless.loader.protocol import Channel, Message, pieces
from diskless.loader.transfer import Happened, Transfer, known
from diskless.window import WINDOW_BYTES

if TYPE_CHECKING:
    from diskless.loader.gates import Gates
    from diskless.loader.room import LazyFile, Room
    from diskless.loader.trace import Entry
    from diskless.sources import Credentials, Object, Source

_LIST_PIECE = 200
_CREDENTIALS_WAIT_S = 60.0
# What was closed a moment ago may have made room for a lazy file.
_ROOM_WAIT_S = 0.2
# In JSON a character takes up to twelve bytes, and an error is one message.
_ERROR_CHARACTERS = 2500


class Service:
    """Serves one connection until the other side closes it."""

    def __init__(self, channel: Channel, source: Source | None = None) -> None:
        self._channel = channel
        self._send_lock = threading.Lock()
        self._source = source
        self._transfer: Transfer | None = None
        # Guards the descriptors, so that none is closed twice.
        self._files_lock = threading.Lock()
        self._files: list[tuple[Object, int]] = []
        self._missing: list[Part] = []
        self._entries: deque[Entry] = deque()  # of a trace that somebody watches, not told yet
        # Held while they are told, in their order.
        self._entries_lock = threading.Lock()
        self._gates: Gates | None = None
        self._gate_of: dict[int, int] = {}  # by the number of the file; of those that are not complete
        self._file_of: dict[int, int] = {}  # by the number of the gate in its page
        self._complete: list[tuple[int, int]] = []  # files and gates that need nothing any more
        self._lazy = self._all_wanted = False
        self._room: Room | None = None  # where lazy files find it
        self._most_bytes: int | None = None  # that lazy files may take
        self._windowed = False  # one of them is read through a window
        self._incomplete = False  # not all files arrived: nothing is fetched
        self._ended = threading.Event()
        self._verifying: threading.Thread | None = None
        self._credentials: Credentials | None = None
        self._credentials_there = threading.Event()

    def run(self) -> None:
        """Answer requests until the connection ends, then stop what goes on and close everything."""
        answers: dict[str, Callable[[Message, list[int]], None]] = {
            "open": self._open,
            "list": self._list,
            "gates": self._take_gates,
            "files": self._take_files,
            "fetch": self._fetch,
            "fetch_all": self._fetch_all,
            "ask": self._ask,
            "room": self._take_room,
            "verify": self._verify,
            "credentials": self._take_credentials,
        }
        try:
            while True:
                try:
                    message, descriptors = self._channel.receive()
                except DescriptorLimit as error:
                    # Not the end yet: the other side is still sending, and reads the error after that.
                    self._incomplete = True
                    self._send_error(error)
                    continue
                except (EOFError, OSError):
                    break
                try:
                    answers[str(message["op"])](message, descriptors)
                except BaseException as error:
                    self._send_error(error)
        finally:
            # The user's process settles them itself, and may give the numbers to other files at once.
            self._gate_of.clear()
            if self._gates is not None:
                self._gates.unwatch(self._hurry)
            transfer = self._transfer
            if transfer is not None:
                self._keep_all()
                transfer.cancel()
                self._let_go()
                transfer.join()
            self._ended.set()
            if self._verifying is not None:
                self._verifying.join()
            self._close_files()
            close = getattr(self._source, "close", None)  # of those that would keep connections
            if close is not None:
                close()
            self._channel.close()

    def refuse(self, error: BaseException) -> None:
        """Answer with an error and end the connection, where nothing can be served."""
        self._send_error(error)
        self._channel.close()

    def _let_go(self) -> None:
        """Free the bytes of a transfer that has failed, though a read that stalls may keep it for a while.

        What is still written to the numbers goes to /dev/null, until no thread uses them.
        """
        with contextlib.suppress(OSError), open(os.devnull, "r+b", buffering=0) as null, self._files_lock:
            for _, fd in self._files:
                os.dup2(null.fileno(), fd, inheritable=False)

    def _open(self, message: Message, descriptors: list[int]) -> None:
        from diskless.sources import SourceSpec, open_source

        spec: Any = message["source"]
        refresh = self._ask_credentials if message["refresh"] else None
        self._source = open_source(SourceSpec.from_message(spec), refresh=refresh)

    def _list(self, message: Message, descriptors: list[int]) -> None:
        threading.Thread(target=self._run_list, name="diskless-list", daemon=True).start()

    def _run_list(self) -> None:
        try:
            assert self._source is not None
            listing = self._source.list()
            # What was sent is let go: of a million objects nobody holds a second list.
            listing.objects.reverse()
            objects = (listing.objects.pop().to_message() for _ in range(len(listing.objects)))
            for entries in pieces(objects, _LIST_PIECE):
                self._send({"op": "objects", "objects": entries})
            for refused in pieces(listing.refused, _LIST_PIECE):
                self._send({"op": "refused", "refused": refused})
            self._send({"op": "listed", "is_object": listing.is_object})
        except BaseException as error:
            self._send_error(error)

    def _take_gates(self, message: Message, descriptors: list[int]) -> None:
        from diskless.loader.gates import attach

        memory, event = descriptors
        self._gates = attach(memory, event)
        self._gates.watch(self._hurry)

    def _take_files(self, message: Message, descriptors: list[int]) -> None:
        from diskless.sources import Object

        entries: Any = message["files"]
        if len(entries) != len(descriptors):
            for fd in descriptors:
                os.close(fd)
            raise ValueError(f"{len(entries)} files came with {len(descriptors)} descriptors")
        for (entry, missing, gate), fd in zip(entries, descriptors, strict=True):
            number = len(self._files)
            self._files.append((Object.from_message(entry), fd))
            self._missing.extend(Part(number, start, end) for start, end in missing)
            if gate >= 0 and self._gates is not None:
                self._file_of[self._gates.know(gate)] = number
                if missing or not self._gates.is_open(gate):
                    self._gate_of[number] = gate
                else:
                    self._complete.append((number, gate))

    def _fetch(self, message: Message, descriptors: list[int]) -> None:
        assert self._source is not None
        if self._incomplete:
            return
        self._lazy = bool(message["lazy"]) and not self._all_wanted
        if self._lazy:
            from diskless.loader.room import room

            self._room = room
        trace = None
        if message.get("trace"):
            from diskless.loader.trace import Trace  # late: most transfers do without

            trace = Trace(self._entries.append)
        self._windowed = bool(message.get("windowed"))
        transfer = self._transfer = Transfer(
            self._source,
            self._files,
            self._missing,
            self._report,
            self._end,
            self._complete_file,
            self._refuse_file if self._lazy else None,
            verify=bool(message["verify"]),
            most_connections=int(str(message["connections"])),
            most_part_bytes=int(str(message["part_bytes"])),
            windowed=self._windowed,
            trace=trace,
        )
        self._missing = []
        for number, gate in self._complete if self._lazy else ():
            self._may_drop(number, gate)
        transfer.start()
        self._hurry()  # for those who came before

    def _fetch_all(self, message: Message, descriptors: list[int]) -> None:
        """Make a lazy transfer one of all files, of which none is dropped any more."""
        self._all_wanted = True
        if self._transfer is not None and self._lazy:
            self._lazy = False
            self._keep_all()
            self._transfer.fetch_all()

    def _ask(self, message: Message, descriptors: list[int]) -> None:
        """Fetch first the range of a file that a reader waits for."""
        asked: Any = message
        number, start, end = asked["file"], asked["start"], asked["end"]
        transfer = self._transfer
        if transfer is None:
            return
        if not self._lazy:
            return transfer.ask(number, start, end)
        room, file = self._room, self._lazy_file(number)
        assert room is not None
        try:
            _patiently(lambda: room.fetch_range(transfer, number, (start, end), file, self._most_bytes))
        except BaseException as error:
            self._send({"op": "refused_range", "file": number, "start": start, "end": end, **_described(error)})

    def _keep_all(self) -> None:
        if self._room is not None and self._transfer is not None:
            self._room.keep(self._transfer)

    def _take_room(self, message: Message, descriptors: list[int]) -> None:
        self._most_bytes = int(str(message["bytes"]))

    def _verify(self, message: Message, descriptors: list[int]) -> None:
        if not self._incomplete:
            self._verifying = threading.Thread(target=self._run_verify, name="diskless-verify", daemon=True)
            self._verifying.start()

    def _run_verify(self) -> None:
        from diskless.errors import Cancelled
        from diskless.loader.verification import mismatches

        def tick() -> None:
            if self._ended.is_set():
                raise Cancelled("the connection ended")

        try:
            assert self._source is not None
            numbers = mismatches(self._source, self._files, tick)
            self._close_files()
            for piece in pieces(numbers, _LIST_PIECE):
                self._send({"op": "mismatches", "files": piece})
            self._send({"op": "verified"})
        except BaseException as error:
            self._send_error(error)

    def _hurry(self) -> None:
        """Fetch first what readers wait for."""
        gates, transfer = self._gates, self._transfer
        if gates is None or transfer is None:
            return
        wanted = {self._file_of[gate] for gate in gates.wanted() if gate in self._file_of}
        if not self._lazy:
            if wanted:
                transfer.hurry(wanted)
            return
        for number in wanted:
            try:
                self._fetch_lazily(transfer, number)
            except BaseException as error:
                self._refuse_file(number, error)

    def _fetch_lazily(self, transfer: Transfer, number: int) -> None:
        room, file = self._room, self._lazy_file(number)
        assert room is not None
        _patiently(lambda: room.fetch(transfer, number, file, self._most_bytes))

    def _lazy_file(self, number: int) -> LazyFile:
        from diskless.loader.room import LazyFile

        entry, fd = self._files[number]
        most_bytes = WINDOW_BYTES if self._windowed else entry.size_bytes
        return LazyFile(fd, min(entry.size_bytes, most_bytes), entry.key)

    def _complete_file(self, number: int) -> None:
        """Let in who waits for a file, sealed unless it may be dropped. Others are sealed by the user's process."""
        gate = self._gate_of.pop(number, -1)
        if self._gates is None or gate < 0:
            return
        entry, fd = self._files[number]
        os.utime(fd, ns=(time.time_ns(), entry.mtime_ns))
        if self._lazy:
            self._may_drop(number, gate)
        else:
            seal(fd)
        self._gates.settle(gate, complete=True)

    def _refuse_file(self, number: int, error: BaseException) -> None:
        """Tell who waits for a lazy file that it does not come now, and the user's process why."""
        if self._room is not None and self._transfer is not None:
            self._room.forget(self._transfer, number, self._files[number][1])
        self._send({"op": "refused_file", "file": number, **_described(error)})
        gate = self._gate_of.get(number, -1)
        if self._gates is not None and gate >= 0:
            self._gates.settle(gate, complete=False, last=False)

    def _may_drop(self, number: int, gate: int) -> None:
        from diskless.loader.room import Droppable

        transfer, gates, room = self._transfer, self._gates, self._room
        assert transfer is not None and gates is not None and room is not None

        def on_drop() -> None:
            self._gate_of[number] = gate
            transfer.drop(number)

        entry, fd = self._files[number]
        room.complete(transfer, number, Droppable(fd, entry.size_bytes, entry.mtime_ns, gates, gate, on_drop))

    def _report(self, happened: Happened) -> bool:
        if self._gates is not None:
            self._gates.beat()
        if self._entries and not self._tell_entries(self._channel.offer):
            return False
        first = {"op": "progress", "bytes": happened.done_bytes, "retries": happened.retries}
        some = [{**first, "dropped": piece, "parts": []} for piece in pieces(happened.dropped, 500)]
        some += [{**first, "dropped": [], "parts": piece} for piece in pieces(happened.parts, 500)]
        return self._send_some(some or [{**first, "dropped": [], "parts": []}])

    def _tell_entries(self, deliver: Callable[[Message], bool]) -> bool:
        """Tell what was traced, each entry once, as long as `deliver` takes it; whether all was told."""
        with self._entries_lock:
            for piece in pieces(list(self._entries), 500):
                if not deliver({"op": "trace", "entries": piece}):
                    return False
                for _ in piece:
                    self._entries.popleft()
        return True

    def _end(self, error: BaseException | None) -> None:
        self._keep_all()
        self._tell_entries(self._send)
        if error is None:
            self._close_files()
            self._send({"op": "complete"})
        else:
            if self._gates is not None:
                for gate in list(self._gate_of.values()):
                    self._gates.settle(gate, complete=False)
            self._let_go()
            self._send_error(error)

    def _close_files(self) -> None:
        with self._files_lock:
            for _, fd in self._files:
                os.close(fd)
            self._files = []

    def _ask_credentials(self) -> Credentials:
        """Return credentials that only the user's process can make."""
        from diskless.errors import CredentialsError

        self._credentials_there.clear()
        self._send({"op": "credentials"})
        if not self._credentials_there.wait(_CREDENTIALS_WAIT_S) or self._credentials is None:
            raise CredentialsError("the session of the user's process gave no fresh credentials")
        return self._credentials

    def _take_credentials(self, message: Message, descriptors: list[int]) -> None:
        from diskless.sources import Credentials

        given: Any = message["credentials"]
        self._credentials = Credentials.from_message(given) if given is not None else None
        self._credentials_there.set()

    def _send(self, message: Message) -> bool:
        with self._send_lock, contextlib.suppress(OSError):  # the other side is gone: `run` sees it too
            self._channel.send(message)
            return True
        return False

    def _send_some(self, messages: list[Message]) -> bool:
        """Send progress unless that would block: a transfer never waits for a user's process that is busy."""
        return all(self._channel.offer(message) for message in messages)

    def _send_error(self, error: BaseException) -> None:
        self._send({"op": "error", **_described(error)})


def _patiently(fetch: Callable[[], None]) -> None:
    """Have a lazy file fetched; BudgetExceeded where there is no room for it, nor a moment later."""
    until = time.monotonic() + _ROOM_WAIT_S
    while True:
        try:
            return fetch()
        except BudgetExceeded:
            if time.monotonic() >= until:
                raise
        time.sleep(_ROOM_WAIT_S / 10)


def _described(error: BaseException) -> Message:
    ours: DisklessError = known(error)
    return {"kind": type(ours).__name__, "message": str(ours)[:_ERROR_CHARACTERS]}


def seal(fd: int) -> None:
    """Make a RAM file immutable for ever, as native/guard.cpp does (F_ADD_SEALS, fcntl(2))."""
    import fcntl

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
