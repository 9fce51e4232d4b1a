"""What diskless costs before a byte moves: `import diskless`, and from process start to the first request on the wire.

python -m benchmarks startup
"""

from __future__ import annotations

import compileall
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import diskless
from benchmarks.measure import ContenderFailed, environment
from benchmarks.verdict import Verdict

# What `import diskless` must leave to the moment it is needed.
HEAVY = ("fsspec", "boto3", "botocore", "torch", "huggingface_hub", "obstore", "rich", "tqdm", "asyncio")

_IMPORT = f"""
import json, sys, time
before = set(sys.modules)
start = time.perf_counter()
import diskless
took = time.perf_counter() - start
print(json.dumps([took, sorted(set(sys.modules) - before), [n for n in {HEAVY!r} if n in sys.modules]]))
"""

_REQUEST = """
import diskless
try:
    diskless.mount("s3://bench/absent")
except FileNotFoundError:
    pass
"""


@dataclass(frozen=True)
class Report:
    """Medians over `rounds` processes, in seconds, and what `import diskless` loads."""

    rounds: int
    import_s: float
    modules: list[str]
    heavy: list[str]
    bare_python_s: float
    first_request_s: float
    verdicts: list[Verdict]


class WireClock:
    """A server that knows when the first byte of the first request came, and answers each that nothing is there."""

    _ANSWER = (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    )
    _BODY = b"<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>"

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.first_byte: float | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            request = connection.recv(65536)
            if not request:
                return
            if self.first_byte is None:
                self.first_byte = time.monotonic()
            head = self._ANSWER % len(self._BODY)
            connection.sendall(head if request.startswith(b"HEAD") else head + self._BODY)


def benchmark(*, rounds: int, say: Callable[[str], None]) -> Report:
    """Measure in fresh processes, with byte code as pip leaves it; the first of each kind only warms the page cache."""
    compileall.compile_dir(str(Path(diskless.__file__).parent), quiet=1)
    say("import diskless")
    imports = [json.loads(_python(_IMPORT, "http://127.0.0.1:9")) for _ in range(rounds + 1)][1:]
    say("process start to first request")
    bare: list[float] = []
    requests: list[float] = []
    for _ in range(rounds + 1):
        started = time.monotonic()
        _python("pass", "http://127.0.0.1:9")
        bare.append(time.monotonic() - started)
        requests.append(_first_request())
    import_s = statistics.median(took for took, _, _ in imports)
    first_request_s = statistics.median(requests[1:])
    heavy = imports[0][2]
    verdicts = [
        Verdict("ms of import diskless", import_s * 1000, "< 30", import_s < 0.030),
        Verdict(f"heavy modules it loads {heavy or ''}", len(heavy), "0", not heavy),
        Verdict("ms from process start to first request", first_request_s * 1000, "< 150", first_request_s < 0.150),
    ]
    return Report(rounds, import_s, imports[0][1], heavy, statistics.median(bare[1:]), first_request_s, verdicts)


def table(report: Report) -> str:
    """Return the medians as text."""
    return "\n".join(
        [
            f"medians of {report.rounds} processes",
            f"import diskless                        {report.import_s * 1000:7.1f} ms, {len(report.modules)} modules",
            f"process start to first request         {report.first_request_s * 1000:7.1f} ms",
            f"(a Python that does nothing, to its end {report.bare_python_s * 1000:6.1f} ms)",
        ]
    )


def _first_request() -> float:
    clock = WireClock()
    try:
        started = time.monotonic()
        _python(_REQUEST, clock.endpoint)
        if clock.first_byte is None:
            raise ContenderFailed("diskless.mount sent no request")
        return clock.first_byte - started
    finally:
        clock.close()


def _python(code: str, endpoint: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment(endpoint), capture_output=True, text=True, timeout=60
    )
    if finished.returncode != 0:
        raise ContenderFailed(finished.stderr)
    return finished.stdout
