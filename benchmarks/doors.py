"""Objects opened as files, by fsspec and by handle: diskless against the caches and file objects that there are.

python -m benchmarks doors [--size-mib 1024] [--rounds 7] [--scenario read_parquet]
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.door_contenders import COLUMNS, ROWS, SLOW_ROWS, shown, slices
from benchmarks.measure import ContenderFailed, Run, environment, measure
from benchmarks.servers import BUCKET, Nginx, S3Object, ServerUnavailable
from benchmarks.verdict import Verdict

MIB = 1 << 20
_TENSOR_BYTES = 64 * MIB
# Each row at the fast server, then some at the slow one.
PLACES = [(row, False) for row in ROWS] + [(row, True) for row in SLOW_ROWS]
_SECOND = ("ramcache", "simplecache", "filecache", "blockcache")


def titled(row: str, slow: bool) -> str:
    """Return what a row is called."""
    return f"{row}, slow" if slow else row


@dataclass(frozen=True)
class Second:
    """A second open: seconds until its first byte, and how many requests the server saw for it."""

    cache: str
    seconds: float
    requests: int


@dataclass(frozen=True)
class Report:
    """All runs, named by row in `scenario`; what the server was asked for by each contender of `read_parquet`."""

    size_bytes: int
    rounds: int
    runs: list[Run]
    parquet_bytes: int
    asked_bytes: dict[str, int]
    seconds: list[Second]
    left_out: dict[str, str]
    verdicts: list[Verdict]


def benchmark(
    *, size_bytes: int, rounds: int, say: Callable[[str], None], scenarios: Sequence[str] = (), brief: bool = False
) -> Report:
    """Run everybody in turns, or with `brief` just ours, each in a process of its own; of the rows, or of `scenarios`.

    Raises `measure.ContenderFailed` when one of ours does not run, or any arrives at other values: that is checked in
    the first, unmeasured round.
    """
    places = [(row, slow) for row, slow in PLACES if not scenarios or {row, titled(row, slow)} & {*scenarios}]
    with Nginx() as server:
        say(f"making objects of {size_bytes / MIB:.0f} MiB")
        if server.slow_endpoint is None:
            raise ServerUnavailable("nginx has no echo module (Debian: nginx-light), which the slow rows need")
        objects, expected = _put_objects(server, size_bytes)
        server.start()
        runs: list[Run] = []
        asked: dict[str, int] = {}
        left_out: dict[str, str] = {}
        for number in range(rounds + 1):
            for row, slow in places:
                key, _, there = ROWS[row]
                contenders = [name for name in there if not brief or name.startswith("diskless")]
                shown_entry = replace(objects[key], sha256=expected[row])
                shift = number % len(contenders)
                for name in contenders[shift:] + contenders[:shift]:
                    contender = f"{row}: {name}"
                    if contender in left_out:
                        continue
                    endpoint = server.slow_endpoint if slow else server.endpoint
                    try:
                        run = measure(
                            server,
                            [shown_entry],
                            contender,
                            endpoint=endpoint,
                            verify=number == 0,
                            module="benchmarks.door_contenders",
                        )
                    except ContenderFailed as failed:
                        if name.startswith("diskless") or "other bytes" in str(failed):
                            raise
                        left_out[contender] = str(failed).strip().splitlines()[-1]
                        continue
                    run = replace(run, contender=name, scenario=titled(row, slow))
                    peak = run.peak_bytes / MIB
                    say(f"round {number}/{rounds} {run.scenario:22}{name:22}{run.wall_s:7.2f} s  peak {peak:6.0f} MiB")
                    if row == "read_parquet":
                        asked[name] = _asked_bytes(server)
                    runs += [run] if number else []
        seconds = [_second(server, objects["bytes.bin"], cache) for cache in (_SECOND[:1] if brief else _SECOND)]
    report = Report(size_bytes, rounds, runs, objects["table.parquet"].size_bytes, asked, seconds, left_out, [])
    return replace(report, verdicts=_judge(report))


def _put_objects(server: Nginx, size_bytes: int) -> tuple[dict[str, S3Object], dict[str, str]]:
    """Return the objects, and of each row the digest of what whoever reads it right returns."""
    import pandas
    import torch

    count = max(1, size_bytes // _TENSOR_BYTES)
    state = {f"layer.{n}": torch.randn(size_bytes // count // 4) for n in range(count)}
    values = torch.randn(30, max(1000, size_bytes // 5 // 30 // 8), dtype=torch.float64).numpy()
    frame = pandas.DataFrame({f"c{n}": values[n] for n in range(30)})
    with tempfile.TemporaryDirectory(dir=server.root) as staging:
        pickled, saved, table = (Path(staging) / name for name in ("pickled", "saved", "table"))
        with open(pickled, "wb") as file:
            pickle.dump(state, file)
        torch.save(state, saved)
        frame.to_parquet(table, row_group_size=max(1, len(frame) // 10), index=False)
        objects = {
            key: server.put_file(key, path)
            for key, path in (("state.pkl", pickled), ("state.pt", saved), ("table.parquet", table))
        }
    objects["bytes.bin"] = server.put_random("bytes.bin", size_bytes)
    with open(server.root / BUCKET / "bytes.bin", "rb") as file:
        sums = [zlib.crc32(file.read(end - start)) for start, end in slices(size_bytes)]
        file.seek((size_bytes - 1) // MIB * MIB)
        end = zlib.crc32(file.read())
    columns = repr([(name, len(frame), float(frame[name].iloc[-1])) for name in COLUMNS])
    right = {
        "torch.load": shown(state),
        "pickle.load": shown(state),
        **dict.fromkeys(("read_parquet", "open_parquet_file"), columns),
        "32 threads": repr(sums),
        "one pass": repr((size_bytes, end)),
    }
    return objects, {row: hashlib.sha256(text.encode()).hexdigest() for row, text in right.items()}


def _asked_bytes(server: Nginx) -> int:
    """Return how many bytes the GETs in the log asked for."""
    ranges = [re.search(r"^GET .* bytes=(\d+)-(\d+) ", line) for line in server.requests()]
    return sum(int(found[2]) - int(found[1]) + 1 for found in ranges if found)


def _second(server: Nginx, entry: S3Object, cache: str) -> Second:
    with tempfile.TemporaryDirectory(dir=server.root) as scratch:
        options = {} if cache == "ramcache" else {cache: {"cache_storage": f"{scratch}/{cache}"}}
        request = {"url": f"{cache}::s3://{BUCKET}/{entry.key}", "options": options}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.second_open"],
            env=environment(server.endpoint),
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ContenderFailed(f"second open, {cache}: {done.stderr}")
        found = json.loads(done.stdout)
        return Second(cache, found["seconds"], server.requests_after(found["begun"]))


def _judge(report: Report) -> list[Verdict]:
    verdicts = []
    for row, contenders in _shown_rows(report):
        ours = contenders[0]
        peers = {
            name: _ratio(report, row, name, ours)
            for name in contenders
            if not name.startswith("diskless") and _walls(report, row, name)
        }
        if not peers:
            continue
        first = min(peers, key=lambda name: peers[name])
        what = f"{row}: time of the fastest peer ({first}) over {ours}'s"
        verdicts.append(Verdict(what, peers[first], "≥ 1", peers[first] >= 1))
    if report.asked_bytes:
        share = report.asked_bytes["diskless ramcache"] / report.parquet_bytes
        what = "read_parquet: share of the file that is fetched for 3 of 30 columns"
        verdicts.append(Verdict(what, share, "≤ 0.2", share <= 0.2))
    once = [run.peak_bytes / MIB for run in report.runs if run.contender == "diskless.open once"]
    if once:
        peak = statistics.median(once)
        verdicts.append(Verdict("one pass, once=True: MiB of memory of the control group", peak, "≤ 200", peak <= 200))
    second = report.seconds[0]
    verdicts.append(Verdict("second open: milliseconds", second.seconds * 1000, "≤ 1", second.seconds <= 0.001))
    verdicts.append(Verdict("second open: requests", second.requests, "0", second.requests == 0))
    return verdicts


def _shown_rows(report: Report) -> list[tuple[str, list[str]]]:
    """Return the rows that were run, each with its contenders, ours first."""
    run = {each.scenario for each in report.runs}
    return [(titled(row, slow), [*ROWS[row][2]]) for row, slow in PLACES if titled(row, slow) in run]


def _walls(report: Report, row: str, name: str) -> list[float]:
    return [run.wall_s for run in report.runs if (run.scenario, run.contender) == (row, name)]


def _ratio(report: Report, row: str, over: str, under: str) -> float:
    pairs = zip(_walls(report, row, over), _walls(report, row, under), strict=True)
    return statistics.median(one / other for one, other in pairs)


def table(report: Report) -> str:
    """Return the medians as text, a block for each row, the fastest first."""
    lines = [
        f"{report.size_bytes / MIB:.0f} MiB (parquet: {report.parquet_bytes / MIB:.0f} MiB), medians of {report.rounds}"
        f" rounds; memory: {report.runs[0].memory_from}; time from first request to last result"
    ]
    for row, contenders in _shown_rows(report):
        lines += ["", f"{row:24}{'time':>7}{'of ours':>11}{'CPU':>9}{'peak':>12}"]
        ours = contenders[0]
        there = [name for name in contenders if _walls(report, row, name)]
        for name in sorted(there, key=lambda name: statistics.median(_walls(report, row, name))):
            runs = [run for run in report.runs if (run.scenario, run.contender) == (row, name)]
            wall_s = statistics.median(run.wall_s for run in runs)
            line = (
                f"{name:22}{wall_s:7.2f} s{_ratio(report, row, name, ours):9.2f} x"
                f"{statistics.median(run.cpu_s for run in runs):7.2f} s"
                f"{statistics.median(run.peak_bytes for run in runs) / MIB:8.0f} MiB"
            )
            if row.startswith("read_parquet"):
                line += f"{report.asked_bytes[name] / MIB:9.1f} MiB asked for"
            lines.append(line)
    lines += ["", "second open, until its first byte"]
    lines += [f"{each.cache:22}{each.seconds * 1000:7.2f} ms{each.requests:6} requests" for each in report.seconds]
    lines += ["", *(f"left out: {what}: {reason}" for what, reason in report.left_out.items())]
    return "\n".join(lines).rstrip()
