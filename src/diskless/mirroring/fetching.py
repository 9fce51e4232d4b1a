"""Fetching: some files of a repository of the Hub on their way into RAM."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import threading
from collections.abc import Callable, Mapping

from diskless.caches.hub_json import HubFile
from diskless.errors import ChecksumMismatch
from diskless.mirroring import hashes
from diskless.mirroring.hub import HubRepository

_AT_ONCE = 8
_TICK_S = 0.1


class Fetching:
    """Fetches `files`, by their paths, from now on, several at once, into a cache of huggingface_hub at `directory`.

    In threads that nobody has to wait for: Ctrl-C is not to last until gigabytes have come.
    """

    def __init__(self, repository: HubRepository, files: Mapping[str, HubFile], directory: str) -> None:
        self.files = files
        self.size_bytes = sum(file.size_bytes for file in files.values())
        self._repository = repository
        self._directory = directory
        self._wanted: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[str, str | BaseException]] = queue.SimpleQueue()
        self._stop = threading.Event()
        for path in files:
            self._wanted.put(path)
        self._seen_bytes = 0
        for number in range(min(_AT_ONCE, len(files))):
            thread = threading.Thread(target=self._work, name=f"diskless-hub-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # this user has as many as it may
                if number == 0:
                    raise
                break

    @property
    def fetched_bytes(self) -> int:
        """How much has come so far, as far as that can be seen."""
        if self._seen_bytes == self.size_bytes:
            return self._seen_bytes
        # Before anything has come there is no directory, and a file that gets its own name is not seen for a moment.
        blobs = os.path.join(self._directory, self._repository.folder, "blobs")
        with contextlib.suppress(FileNotFoundError), os.scandir(blobs) as entries:
            seen_bytes = sum(entry.stat().st_size for entry in entries)
            self._seen_bytes = max(self._seen_bytes, min(seen_bytes, self.size_bytes))
        return self._seen_bytes

    def wait(self, tick: Callable[[], None]) -> dict[str, str]:
        """Return where the files lie, by their paths, or raise the first error; `tick` is called meanwhile."""
        found: dict[str, str] = {}
        while len(found) < len(self.files):
            try:
                path, result = self._done.get(timeout=_TICK_S)
            except queue.Empty:
                tick()
                continue
            if isinstance(result, BaseException):
                raise result
            found[path] = result
        self._seen_bytes = self.size_bytes
        return found

    def free(self) -> None:
        """Free what has come, and what is on its way when it has."""
        self._stop.set()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                path = self._wanted.get_nowait()
            except queue.Empty:
                break
            try:
                self._done.put((path, self._fetch(path)))
            except BaseException as error:
                self._done.put((path, error))
        if self._stop.is_set():
            self.free()  # what came after the others had gone

    def _fetch(self, path: str) -> str:
        """Fetch a file, once more if it is not what the Hub says that it is, and return where it lies."""
        what, name = f"{self._repository.name}/{path} as the Hub sent it", self.files[path].etag
        local = self._repository.fetch(path, self._directory)
        try:
            hashes.check(local, name, what)
        except ChecksumMismatch:
            local = self._repository.fetch(path, self._directory, anew=True)
            hashes.check(local, name, f"{what} twice")
        return local
