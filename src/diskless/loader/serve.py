"""The far end of a job: lists and fetches for one connection, in the Loader process or in a thread of the user's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from diskless.errors import DisklessError
from diskless.loader.plan import Part
from diskless.loader.protocol import Channel, Message, pieces
from diskless.loader.transfer import Transfer, known

if TYPE_CHECKING:
    from diskless.sources import Credentials, Object, Source

_LIST_PIECE = 200
_CREDENTIALS_WAIT_S = 60.0


class Service:
    """Serves one connection until the other side closes it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._send_lock = threading.Lock()
        self._source: Source | None = None
        self._transfer: Transfer | None = None
        self._ended = threading.Event()
        self._files: list[tuple[Object, int]] = []
        self._missing: list[Part] = []
        self._credentials: Credentials | None = None
        self._credentials_there = threading.Event()

    def run(self) -> None:
        """Answer requests until the connection ends, then stop what goes on and close everything."""
        answers: dict[str, Callable[[Message, list[int]], None]] = {
            "open": self._open,
            "list": self._list,
            "files": self._take_files,
            "fetch": self._fetch,
            "credentials": self._take_credentials,
        }
        try:
            while True:
                message, descriptors = self._channel.receive()
                try:
                    answers[str(message["op"])](message, descriptors)
                except BaseException as error:
                    self._send_error(error)
        except (EOFError, OSError):
            pass
        finally:
            if self._transfer is not None:
                self._transfer.cancel()
                self._ended.wait()
            self._close_files()
            self._channel.close()

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

    def _take_files(self, message: Message, descriptors: list[int]) -> None:
        from diskless.sources import Object

        entries: Any = message["files"]
        if len(entries) != len(descriptors):
            for fd in descriptors:
                os.close(fd)
            raise OSError("not all descriptors arrived: the limit (RLIMIT_NOFILE) is too low")
        for (entry, missing), fd in zip(entries, descriptors, strict=True):
            number = len(self._files)
            self._files.append((Object.from_message(entry), fd))
            self._missing.extend(Part(number, start, end) for start, end in missing)

    def _fetch(self, message: Message, descriptors: list[int]) -> None:
        assert self._source is not None
        self._ended.clear()
        transfer = Transfer(self._source, self._files, self._missing, self._report, self._end)
        transfer.start()
        self._transfer = transfer

    def _report(self, done_bytes: int, parts: Sequence[Part], retries: int) -> bool:
        return self._send_some(
            [
                {"op": "progress", "bytes": done_bytes, "retries": retries, "parts": piece}
                for piece in pieces(parts, 500)
            ]
            or [{"op": "progress", "bytes": done_bytes, "retries": retries, "parts": []}]
        )

    def _end(self, error: BaseException | None) -> None:
        self._close_files()
        self._files, self._missing, self._transfer = [], [], None
        if error is None:
            self._send({"op": "complete"})
        else:
            self._send_error(error)
        self._ended.set()

    def _close_files(self) -> None:
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
        with self._send_lock:
            try:
                self._channel.send(message)
            except OSError:
                pass  # the other side is gone: `run` sees it too

    def _send_some(self, messages: list[Message]) -> bool:
        """Send progress unless that would block: a transfer never waits for a user's process that is busy."""
        return all(self._channel.offer(message) for message in messages)

    def _send_error(self, error: BaseException) -> None:
        ours: DisklessError = known(error)
        self._send({"op": "error", "kind": type(ours).__name__, "message": str(ours)[:8000]})
