"""One large object from a local S3 server into memory: diskless against its peers, idle and beside other work.

    python -m benchmarks transfer [--size-mib 2048] [--rounds 7]

Each run is a process of its own; the contenders take turns in every round, and what is compared is the median over the
rounds of the ratio within a round, so that a noisy moment of the machine hits all of them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.contenders import CONTENDERS
from benchmarks.measure import Run, environment, measure
from benchmarks.servers import Nginx
from benchmarks.verdict import Verdict

MIB = 1 << 20
# Beside other work only those are measured that users would choose between.
BUSY_CONTENDERS = ("diskless", "download_fileobj", "awscrt", "bare loop")


@dataclass(frozen=True)
class Report:
    """All runs, and what they say."""

    size_bytes: int
    rounds: int
    runs: list[Run]
    import_alone_s: float
    verdicts: list[Verdict]


def benchmark(*, size_bytes: int, rounds: int, say: Callable[[str], None]) -> Report:
    """Run all contenders `rounds` times and judge the medians.

    Raises `measure.ContenderFailed` when one does not run or arrives at other bytes: that is checked in the first,
    unmeasured round, which also fills the page cache with everybody's interpreter and libraries.
    """
    with Nginx() as server:
        say(f"making an object of {size_bytes / MIB:.0f} MiB")
        entry = server.put_random("weights.bin", size_bytes)
        server.start()
        for contender in CONTENDERS:
            say(f"warm-up and check of bytes: {contender}")
            measure(server, entry, contender, verify=True)
        runs: list[Run] = []
        import_alone: list[float] = []
        for number in range(rounds):
            for beside in ("nothing", "python", "import"):
                if beside == "import":
                    import_alone.append(_import_alone(server.endpoint))
                names = list(CONTENDERS if beside == "nothing" else BUSY_CONTENDERS)
                shift = number % len(names)  # nobody always runs first
                for contender in names[shift:] + names[:shift]:
                    run = measure(server, entry, contender, beside=beside)
                    runs.append(run)
                    say(
                        f"round {number + 1}/{rounds} beside {beside:8} {contender:17} {run.wall_s:6.2f} s"
                        f"  CPU {run.cpu_s:6.2f} s  peak {run.peak_bytes / MIB:6.0f} MiB"
                    )
    alone = statistics.median(import_alone)
    return Report(size_bytes, rounds, runs, alone, judge(runs, size_bytes, alone))


def judge(runs: list[Run], size_bytes: int, import_alone_s: float) -> list[Verdict]:
    """Return the figures that were promised."""
    faster = ratio(runs, "download_fileobj", "diskless")
    against_bare = ratio(runs, "bare loop", "diskless")
    over = median(runs, "diskless", lambda run: (run.peak_bytes - size_bytes) / MIB)
    # Of one contender with itself: idle time over time beside Python, round by round.
    idle = [run.wall_s for run in runs if (run.contender, run.beside) == ("diskless", "nothing")]
    busy = [run.wall_s for run in runs if (run.contender, run.beside) == ("diskless", "python")]
    beside_python = statistics.median(i / b for i, b in zip(idle, busy, strict=True))
    cores = len(os.sched_getaffinity(0))
    together = statistics.median(
        run.together_s / max(import_alone_s, (run.cpu_s + run.server_cpu_s) / cores)
        for run in runs
        if (run.contender, run.beside) == ("diskless", "import")
    )
    return [
        Verdict("times faster than download_fileobj", faster, "≥ 2.5", faster >= 2.5),
        Verdict("speed relative to the bare loop", against_bare, "≥ 0.95", against_bare >= 0.95),
        Verdict("MiB of memory above the object's size", over, "≤ 150", over <= 150),
        Verdict("speed beside pure Python relative to idle", beside_python, "≥ 0.8", beside_python >= 0.8),
        Verdict(
            "import and transfer together, relative to the larger of import alone and CPU seconds / cores",
            together,
            "≤ 1.25",
            together <= 1.25,
        ),
    ]


def median(runs: list[Run], contender: str, value: Callable[[Run], float], beside: str = "nothing") -> float:
    """Return the median over the rounds of a value of one contender's runs."""
    return statistics.median(value(run) for run in runs if (run.contender, run.beside) == (contender, beside))


def ratio(runs: list[Run], over: str, under: str, beside: str = "nothing") -> float:
    """Return the median over the rounds of the ratio of two contenders' times."""
    numerators = [run.wall_s for run in runs if (run.contender, run.beside) == (over, beside)]
    denominators = [run.wall_s for run in runs if (run.contender, run.beside) == (under, beside)]
    return statistics.median(n / d for n, d in zip(numerators, denominators, strict=True))


def table(report: Report) -> str:
    """Return the medians as text."""
    lines = [
        f"{report.size_bytes / MIB:.0f} MiB, medians of {report.rounds} rounds; memory: {report.runs[0].memory_from};"
        " time from first request to last byte",
    ]
    for beside in ("nothing", "python", "import"):
        doing = {"nothing": "idle", "python": "computes in pure Python", "import": "imports torch and transformers"}
        lines += [
            "",
            f"the main thread {doing[beside]}"
            + (f" ({report.import_alone_s:.2f} s alone)" if beside == "import" else ""),
            f"{'':18}{'time':>9}{'of diskless':>13}{'CPU':>9}{'peak/size':>11}{'peak-size':>11}{'start-up':>10}"
            + (f"{'both done':>11}" if beside == "import" else ""),
        ]
        for contender in CONTENDERS if beside == "nothing" else BUSY_CONTENDERS:
            runs = report.runs
            line = (
                f"{contender:18}{median(runs, contender, lambda r: r.wall_s, beside):7.2f} s"
                f"{ratio(runs, contender, 'diskless', beside):11.2f} x"
                f"{median(runs, contender, lambda r: r.cpu_s, beside):7.2f} s"
                f"{median(runs, contender, lambda r: r.peak_bytes / report.size_bytes, beside):11.2f}"
                f"{median(runs, contender, lambda r: (r.peak_bytes - report.size_bytes) / MIB, beside):7.0f} MiB"
                f"{median(runs, contender, lambda r: r.start_up_s, beside):8.2f} s"
            )
            if beside == "import":
                line += f"{median(runs, contender, lambda r: r.together_s, beside):9.2f} s"
            lines.append(line)
    return "\n".join(lines)


def _import_alone(endpoint: str) -> float:
    code = "import time; t = time.time(); import torch, transformers; print(time.time() - t)"
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment(endpoint), check=True, capture_output=True, text=True
    )
    return float(output.stdout)
