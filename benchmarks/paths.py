"""What calls on a scratch cost beside the same calls on a tmpfs: files opened, looked up, listed, made and written.

python -m benchmarks paths

The same C code (paths.c) makes the calls in a process of its own that has a scratch open, and in one without diskless
on /dev/shm; by turns, from one thread and from four.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ContenderFailed
from benchmarks.verdict import Verdict

TMPFS = Path("/dev/shm")
THREADS = (1, 4)
# How often each is done in a round, and at most how long it may take, of a tmpfs's time.
CALLS: dict[str, tuple[int, float]] = {
    "open+close": (20_000, 2.0),
    "stat hit": (50_000, 1.0),
    "stat miss": (50_000, 1.0),
    "listdir of 1,000": (100, 1.0),
    "create+unlink": (10_000, float("inf")),
    "walk of 10,000 files": (3, 1.0),
    "4 KiB writes": (10_000, 1.3),
    "sequential write": (1, 1.05),
}

_PROGRAM = """
import ctypes, json, sys, tempfile
library, where, size_bytes = json.loads(sys.argv[1])
if where == "scratch":
    import diskless
    place = diskless.scratch()
else:
    place = tempfile.TemporaryDirectory(dir=where)
code = ctypes.CDLL(library)
code.measure.restype = ctypes.c_double
with place as path:
    assert code.prepare(path.encode()) == 0, "the files could not be made"
    for line in sys.stdin:
        what, count, number = json.loads(line)
        sizes = ctypes.c_long(count), number, ctypes.c_long(size_bytes)
        print(code.measure(path.encode(), what.encode(), *sizes), flush=True)
"""


@dataclass(frozen=True)
class Report:
    """Seconds of a call by (name, threads), medians of `rounds`, and the medians of the rounds' ratios."""

    rounds: int
    size_bytes: int
    tmpfs: dict[tuple[str, str], float]
    scratch: dict[tuple[str, str], float]
    ratios: dict[tuple[str, str], float]
    verdicts: list[Verdict]


def missing() -> str | None:
    """Say what the benchmark lacks here, or None."""
    if shutil.which("cc") is None:
        return "cc is not installed"
    return None if os.access(TMPFS, os.W_OK) else f"{TMPFS} is not writable"


def benchmark(*, size_bytes: int, rounds: int, brief: bool, say: Callable[[str], None]) -> Report:
    """Measure by turns in two processes; `brief` makes a hundredth of the calls."""
    if (reason := missing()) is not None:
        raise ContenderFailed(reason)
    times: dict[str, dict[tuple[str, str], list[float]]] = {"tmpfs": {}, "scratch": {}}
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/paths.so"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-pthread", str(source), "-o", library], check=True)
        processes = {
            "tmpfs": _start(library, str(TMPFS), size_bytes),
            "scratch": _start(library, "scratch", size_bytes),
        }
        try:
            for turn in range(rounds + 1):  # the first one only warms up
                say(f"round {turn}/{rounds}")
                for name, (count, _) in CALLS.items():
                    for threads in THREADS:
                        for where, process in processes.items():
                            took = _ask(process, name, max(1, count // 100) if brief else count, threads)
                            if turn > 0:
                                times[where].setdefault((name, str(threads)), []).append(took)
        finally:
            for process in processes.values():
                process.communicate()
    ratios = {
        call: statistics.median(ours / theirs for ours, theirs in zip(times["scratch"][call], theirs_all, strict=True))
        for call, theirs_all in times["tmpfs"].items()
    }
    verdicts = [
        Verdict(f"{name} on a scratch, of a tmpfs's time", ratios[name, "1"], f"≤ {most}", ratios[name, "1"] <= most)
        for name, (_, most) in CALLS.items()
        if most < float("inf")
    ]
    medians = {where: {call: statistics.median(all_) for call, all_ in of.items()} for where, of in times.items()}
    return Report(rounds, size_bytes, medians["tmpfs"], medians["scratch"], ratios, verdicts)


def table(report: Report) -> str:
    """Return the medians as text."""
    lines = [
        f"medians of {report.rounds} rounds; microseconds a call; the sequential write is of "
        f"{report.size_bytes >> 20} MiB",
        "",
        f"{'':22}" + "".join(f"{threads} thread{'s' if threads > 1 else '':1}{'':28}" for threads in THREADS),
        f"{'':22}" + f"{'tmpfs':>12}{'scratch':>12}{'ratio':>8}   " * len(THREADS),
    ]
    for name in CALLS:
        cells = ""
        for threads in map(str, THREADS):
            call = (name, threads)
            cells += f"{report.tmpfs[call] * 1e6:12.2f}{report.scratch[call] * 1e6:12.2f}{report.ratios[call]:7.2f}x   "
        lines.append(f"{name:22}{cells}".rstrip())
    return "\n".join(lines)


def _start(library: str, where: str, size_bytes: int) -> subprocess.Popen[str]:
    arguments = json.dumps([library, where, size_bytes])
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _ask(process: subprocess.Popen[str], name: str, count: int, threads: int) -> float:
    assert process.stdin is not None and process.stdout is not None
    try:
        print(json.dumps([name, count, threads]), file=process.stdin, flush=True)
        seconds = float(process.stdout.readline() or "nan")
    except BrokenPipeError:
        seconds = float("nan")
    if not seconds > 0:
        raise ContenderFailed(f"{name} from {threads} threads failed")
    return seconds
