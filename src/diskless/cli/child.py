"""Starting a Python of ours: isolated from the terminal's signals, with our `sys.path`, talking in lines of JSON."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from diskless.cli.signals import Signals

_TAIL_BYTES = 16 << 10


class Child:
    """A running module of diskless whose `main` is called with `arguments`.

    Its standard input is the read end of a pipe of ours, so that it notices when we are gone. It leads a session of its
    own: Ctrl-C at the terminal is ours to handle, and we tell it.
    """

    def __init__(self, module: str, *arguments: object, env: Mapping[str, str]) -> None:
        # The path is handed over, since the child would otherwise look in the working directory first.
        code = (
            "import json, sys; sys.path[:], arguments = json.loads(sys.argv.pop());"
            f"from {module} import main; main(*arguments)"
        )
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-c", code, json.dumps([sys.path, arguments])],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._errors = b""

    def events(self, signals: Signals, *, tick_s: float | None = None) -> Iterator[dict[str, Any] | None]:
        """Yield what the child tells until it ends, and None whenever `tick_s` passed without a word.

        Raises Stopped when a stopping signal comes.
        """
        assert self._process.stdout is not None and self._process.stderr is not None
        words, errors = self._process.stdout.fileno(), self._process.stderr.fileno()
        begun = b""
        with selectors.DefaultSelector() as selector:
            for descriptor in (words, errors, signals.descriptor):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                signals.check()
                ready = {key.fd for key, _ in selector.select(tick_s)}
                signals.check()
                if errors in ready:
                    content = os.read(errors, 65536)
                    self._errors = (self._errors + content)[-_TAIL_BYTES:]
                    if not content:
                        selector.unregister(errors)
                if words in ready:
                    content = os.read(words, 65536)
                    if not content:
                        return
                    *lines, begun = (begun + content).split(b"\n")
                    yield from map(json.loads, lines)
                elif not ready:
                    yield None

    def wait(self) -> int:
        """Wait for the end of a child that said its last word; return its exit status."""
        return self._process.wait()

    @property
    def last_words(self) -> str:
        """The last line that it printed to standard error."""
        lines = self._errors.decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def stop(self, number: int, patience_s: float = 5.0) -> None:
        """Send it a signal, close its standard input and wait; kill it when it does not end in time."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and pipe is not self._process.stdin:
                pipe.close()
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
