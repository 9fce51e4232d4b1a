"""The far end of a job: lists and fetches for one connection, in the Loader process or in a thread of the user's."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from diskless.errors import DescriptorLimit, DisklessError
from diskless.loader.plan import Part
from diskless.loader.protocol import Channel, Message, pieces
from diskless.loader.transfer import Transfer, known

if TYPE_CHECKING:
    from diskless.loader.gates import Gates
    from diskless.sources import Credentials, Object, Source

_LIST_PIECE = 200
_CREDENTIALS_WAIT_S = 60.0
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
        self._gates: Gates | None = None
        self._gate_of: dict[int, int] = {}  # by the number of the file; of those that are not settled
        self._incomplete = False  # not all files arrived: nothing is fetched
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
            if self._gates is not None:
                self._gates.unwatch(self._hurry)
            transfer = self._transfer
            if transfer is not None:
                transfer.cancel()
                self._let_go()
                transfer.join()
            self._close_files()
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
            for entries in pieces([entry.to_message() for entry in listing.objects], _LIST_PIECE):
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
            if gate >= 0:
                self._gate_of[number] = gate

    def _fetch(self, message: Message, descriptors: list[int]) -> None:
        assert self._source is not None
        if self._incomplete:
            return
        transfer = Transfer(self._source, self._files, self._missing, self._report, self._end, self._complete_file)
        transfer.start()
        self._transfer = transfer
        self._missing = []
        self._hurry()  # for those who came before

    def _hurry(self) -> None:
        """Fetch first what readers wait for."""
        if self._gates is not None and self._transfer is not None:
            wanted = {number for number, gate in list(self._gate_of.items()) if self._gates.is_wanted(gate)}
            if wanted:
                self._transfer.hurry(wanted)

    def _complete_file(self, number: int) -> None:
        """Seal a file that readers may be waiting for, and let them in. Others are sealed by the user's process."""
        gate = self._gate_of.pop(number, -1)
        if self._gates is None or gate < 0:
            return
        entry, fd = self._files[number]
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        seal(fd)
        self._gates.settle(gate, complete=True)

    def _report(self, done_bytes: int, parts: Sequence[Part], retries: int) -> bool:
        if self._gates is not None:
            self._gates.beat()
        return self._send_some(
            [
                {"op": "progress", "bytes": done_bytes, "retries": retries, "parts": piece}
                for piece in pieces(parts, 500)
            ]
            or [{"op": "progress", "bytes": done_bytes, "retries": retries, "parts": []}]
        )

    def _end(self, error: BaseException | None) -> None:
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

    def _send(self, message: Message) -> None:
        with self._send_lock, contextlib.suppress(OSError):  # the other side is gone: `run` sees it too
            self._channel.send(message)

    def _send_some(self, messages: list[Message]) -> bool:
        """Send progress unless that would block: a transfer never waits for a user's process that is busy."""
        return all(self._channel.offer(message) for message in messages)

    def _send_error(self, error: BaseException) -> None:
        ours: DisklessError = known(error)
        self._send({"op": "error", "kind": type(ours).__name__, "message": str(ours)[:_ERROR_CHARACTERS]})


def seal(fd: int) -> None:
    """Make a RAM file immutable for ever, as native/guard.cpp does (F_ADD_SEALS, fcntl(2))."""
    import fcntl

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
