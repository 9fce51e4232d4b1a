"""Many objects listed and lazily mounted, beside the bare listing of the same server, and the memory of a million.

    python -m benchmarks listing [--rounds 7]

The server answers at once, or each page after 100 ms, as S3 does.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from benchmarks.measure import ContenderFailed, environment
from benchmarks.verdict import Verdict

MIB = 1 << 20
_PAGE = 1000
_DELAY_S = 0.1
_MOUNT = "lazy mount"
# Prints how long the listing took, by how much the memory of both processes grew meanwhile, and that of this one.
_CODE = """
import json, os, sys, threading, time
url, options, count = json.loads(sys.argv[2])
done, pids, peak = threading.Event(), [os.getpid()], [0]
def memory():
    return sum(int(open(f"/proc/{pid}/statm").read().split()[1]) for pid in pids) * os.sysconf("SC_PAGE_SIZE")
def watch():
    while not done.wait(0.01):
        peak[0] = max(peak[0], memory())
if sys.argv[1] != "obstore":
    from benchmarks.fault_loads import loaders
    import diskless
    from diskless import sources
    from diskless.loader import client
    job = client.Job(sources.resolve(url, storage_options=options))
    job._connected()
    pids += loaders(os.getpid())
    first = job.list
    def work():
        if sys.argv[1] == "diskless":
            return job.list().objects
        mount = diskless.mount(url, storage_options=options, load="lazy", progress=False)
        return range(mount.stats.files)
else:
    import obstore
    from obstore.store import S3Store
    store = S3Store("many", endpoint=options["endpoint_url"], client_options={"allow_http": True}, region="us-east-1",
                    access_key_id="k", secret_access_key="s", virtual_hosted_style_request=False)
    def work():
        return [entry for page in obstore.list(store, "m/") for entry in page]
    first = work
if sys.argv[3] != "watched":
    first()  # what is imported for it is start-up, which `startup` times
before = memory()
loader, pids[1:] = pids[1:], []
mine_before = memory()
pids += loader
if sys.argv[3] == "watched":
    threading.Thread(target=watch).start()
begun = time.monotonic()
listed = work()
seconds = time.monotonic() - begun
done.set()
assert len(listed) == count, len(listed)
pids[1:] = []
print(json.dumps([seconds, peak[0] - before, memory() - mine_before]))
"""


@dataclass(frozen=True)
class Report:
    """Medians in seconds by (server, contender); what a million take: at the peak of both processes, and in the end."""

    objects: int
    rounds: int
    seconds: dict[tuple[str, str], float]
    million: int
    peak_bytes: int
    held_bytes: int
    verdicts: list[Verdict]


def benchmark(*, objects: int, million: int, rounds: int, say: Callable[[str], None]) -> Report:
    """List `objects` objects `rounds` times each way, and `million` once."""
    seconds: dict[tuple[str, str], float] = {}
    ratios: dict[str, float] = {}
    for server, delay_s in (("at once", 0.0), (f"{_DELAY_S * 1000:.0f} ms a page", _DELAY_S)):
        with _server(objects, delay_s) as where:
            times: dict[str, list[float]] = {"diskless": [], _MOUNT: [], "obstore": []}
            for number in range(rounds + 1):
                for contender, found in times.items():
                    took, _, _ = _listed(contender, where)
                    found += [took] if number else []
                    say(f"round {number}/{rounds} {server:14} {contender:10} {took:6.2f} s")
        for contender, what in (("diskless", "listing"), (_MOUNT, "lazy mount")):
            over = statistics.median(o / b for o, b in zip(times[contender], times["obstore"], strict=True))
            ratios[f"{what} of {objects} over the bare listing, {server}"] = over
        seconds |= {(server, contender): statistics.median(found) for contender, found in times.items()}
    with _server(million, 0.0) as where:
        took, peak_bytes, held_bytes = _listed("diskless", where, watched=True)
    say(f"{million} objects in {took:.1f} s: {peak_bytes / MIB:.0f} MiB at most, {held_bytes / MIB:.0f} MiB held")
    verdicts = [Verdict(what, ratio, "< 1.5", ratio < 1.5) for what, ratio in ratios.items()]
    times_held = peak_bytes / held_bytes
    what = f"peak memory of both processes for {million} objects, of what they take in the end"
    verdicts.append(Verdict(what, times_held, "< 1.5", times_held < 1.5))
    return Report(objects, rounds, seconds, million, peak_bytes, held_bytes, verdicts)


def table(report: Report) -> str:
    lines = [f"{report.objects} objects, medians of {report.rounds} rounds", f"{'server':16}{'client':12}{'time':>9}"]
    lines += [f"{server:16}{client:12}{took:7.2f} s" for (server, client), took in report.seconds.items()]
    peak, held = report.peak_bytes / MIB, report.held_bytes / MIB
    lines.append(
        f"{report.million} objects: {peak:.0f} MiB at the peak of both processes, {held:.0f} MiB held in the end"
    )
    return "\n".join(lines)


def _listed(contender: str, where: list[object], *, watched: bool = False) -> tuple[float, int, int]:
    ended = subprocess.run(
        [sys.executable, "-c", _CODE, contender, json.dumps(where), "watched" if watched else ""],
        env=environment("http://127.0.0.1:1"),
        capture_output=True,
        text=True,
    )
    if ended.returncode != 0:
        raise ContenderFailed(f"{contender}: {ended.stderr}")
    seconds, peak_bytes, held_bytes = json.loads(ended.stdout)
    return float(seconds), int(peak_bytes), int(held_bytes)


@contextmanager
def _server(count: int, delay_s: float) -> Iterator[list[object]]:
    """A process that lists `count` objects below s3://many/m; yields URL, options and count."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.listing", str(count), str(delay_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None and process.stdout is not None
        try:
            endpoint = process.stdout.readline().strip()
            options = {"key": "k", "secret": "s", "region": "us-east-1", "endpoint_url": endpoint}
            yield ["s3://many/m/", options, count]
        finally:
            process.stdin.close()


def _page(start: int, count: int) -> bytes:
    end = min(start + _PAGE, count)
    contents = "".join(
        f"<Contents><Key>m/folder-{number // 100:05}/some-object-of-a-data-set-{number:08}.bin</Key>"
        f"<LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;{number:032x}&quot;</ETag>"
        "<Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(start, end)
    )
    token = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < count else ""
    return (
        f"<ListBucketResult><Name>many</Name><IsTruncated>{str(end < count).lower()}</IsTruncated>{token}{contents}"
        "</ListBucketResult>"
    ).encode()


def _serve(count: int, delay_s: float) -> None:
    # Made before, unless there are too many: what is measured is the client.
    pages = {start: _page(start, count) for start in range(0, min(count, 100 * _PAGE), _PAGE)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            start = int(query.get("continuation-token", ["0"])[0])
            body = pages.get(start) or _page(start, count)
            time.sleep(delay_s)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]))
