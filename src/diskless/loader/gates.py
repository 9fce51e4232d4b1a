"""Gates as the Loader sees them: words of a page where readers in the user's process wait (native/gate.cpp)."""

from __future__ import annotations

import mmap
import os
import select
import threading
from collections.abc import Callable

# As native/gate.cpp lays the page out: two words of the Loader's, then one for each gate.
_PAGE_BYTES = 1 << 20
_BEATS, _LOADER, _FIRST = 0, 1, 2
_GATES_IN_PAGE = _PAGE_BYTES // 4 - _FIRST
_CLOSED, _WANTED, _OPENED, _FAILED, _REFUSED = 0, 1, 2, 3, 4
_FUTEX = {"x86_64": 202, "aarch64": 98}
_FUTEX_WAKE, _ALL = 1, 0x7FFFFFFF

_WANTED_BYTE = bytes([_WANTED])

# By the identity of the page: all connections of one process share it.
_attached: dict[tuple[int, int], Gates] = {}
_attach_lock = threading.Lock()


def attach(memory: int, event: int) -> Gates:
    """Return the gates of the page that `memory` leads to; takes both descriptors over."""
    status = os.fstat(memory)
    with _attach_lock:
        gates = _attached.get((status.st_dev, status.st_ino))
        if gates is None:
            gates = _attached[status.st_dev, status.st_ino] = Gates(memory, event)
        else:
            os.close(event)
        os.close(memory)
        return gates


class Gates:
    """The gates of one user's process."""

    def __init__(self, memory: int, event: int) -> None:
        self._page = mmap.mmap(memory, _PAGE_BYTES)
        self._words = memoryview(self._page).cast("I")
        self._words[_LOADER] = os.getpid()
        self._event = event
        self._end = 0
        self._lock = threading.Lock()
        # Called when a reader has come to wait somewhere.
        self._watchers: list[Callable[[], None]] = []
        threading.Thread(target=self._watch, name="diskless-gates", daemon=True).start()

    def know(self, gate: int) -> int:
        """Return the number of a gate within its page, from where on `wanted` may return it."""
        number = gate % _GATES_IN_PAGE
        self._end = max(self._end, 4 * (_FIRST + number + 1))
        return number

    def settle(self, gate: int, *, complete: bool, last: bool = True) -> None:
        """Let who waits for the file go on, or tell that its bytes do not come: unless `last`, others may ask again."""
        word = _FIRST + gate % _GATES_IN_PAGE
        waited_for = self._words[word] == _WANTED
        self._words[word] = _OPENED if complete else _FAILED if last else _REFUSED
        # Who came in between sees it soon: its waits are short.
        if waited_for:
            self._wake(word)

    def close(self, gate: int) -> None:
        """Have whoever comes wait for the file."""
        self._words[_FIRST + gate % _GATES_IN_PAGE] = _CLOSED

    def is_open(self, gate: int) -> bool:
        """Whether nobody needs to wait for the file."""
        return self._words[_FIRST + gate % _GATES_IN_PAGE] == _OPENED

    def wanted(self) -> list[int]:
        """Return the gates at which readers wait, as `know` numbers them."""
        found, at = [], 4 * _FIRST
        # A search, since there may be a gate for each of very many files; no further than they go, since to look at the
        # page fills it.
        while (at := self._page.find(_WANTED_BYTE, at, self._end)) >= 0:
            word, at = divmod(at, 4)[0], at + 1
            if self._words[word] == _WANTED:
                found.append(word - _FIRST)
        return found

    def beat(self) -> None:
        """Tell those who wait that bytes arrive."""
        self._words[_BEATS] = (self._words[_BEATS] + 1) & 0xFFFFFFFF

    def watch(self, watcher: Callable[[], None]) -> None:
        with self._lock:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        with self._lock:
            self._watchers.remove(watcher)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        while True:
            poll.poll()
            os.read(self._event, 8)
            with self._lock:
                watchers = list(self._watchers)
            for watcher in watchers:
                watcher()

    def _wake(self, word: int) -> None:
        import ctypes  # late: most transfers have nobody waiting

        number = _FUTEX.get(os.uname().machine)
        if number is not None:
            address = ctypes.c_uint32.from_buffer(self._page, 4 * word)
            ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.byref(address), _FUTEX_WAKE, _ALL, None, None, 0)
