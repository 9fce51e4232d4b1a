"""Objects from a local S3 server into memory: diskless against its peers, idle and beside other work.

    python -m benchmarks transfer [--size-mib 2048] [--rounds 7] [--scenario tls] [--contender diskless …]

Each run is a process of its own; the contenders take turns in every round, and what is compared is the median over the
rounds of the ratio within a round, so that a noisy moment of the machine hits all of them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.contenders import CONTENDERS
from benchmarks.measure import ContenderFailed, Run, environment, measure
from benchmarks.scenarios import SCENARIOS, Scenario, put_objects
from benchmarks.servers import Nginx, S3Object
from benchmarks.verdict import Verdict

MIB = 1 << 20
# What cannot be chosen instead of diskless: it shows how fast anything could be.
_LIMITS = ("bare loop", "bare sockets")
_BRIEF = ("diskless", "bare loop")


@dataclass(frozen=True)
class Report:
    """All runs, and what they say. `left_out` are scenario, contender and the reason."""

    size_bytes: int
    rounds: int
    runs: list[Run]
    import_alone_s: float | None
    left_out: list[tuple[str, str, str]]
    verdicts: list[Verdict]


def benchmark(
    *,
    size_bytes: int,
    rounds: int,
    say: Callable[[str], None],
    scenarios: Sequence[str] = (),
    contenders: Sequence[str] = (),
    brief: bool = False,
) -> Report:
    """Run all contenders, or those named, in all scenarios, or those named, `rounds` times and judge the medians.

    A `brief` one has everybody in the first scenario, and diskless and the bare loop in the others.

    Raises `measure.ContenderFailed` when one that has to run does not, or any arrives at other bytes: that is checked
    in the first, unmeasured round, which also fills the page cache with everybody's interpreter and libraries.
    """
    with Nginx() as server:
        say(f"making objects of {size_bytes / MIB:.0f} MiB")
        objects = put_objects(server, size_bytes)
        server.start()
        left_out: list[tuple[str, str, str]] = []
        able: dict[Scenario, list[str]] = {}
        for scenario in SCENARIOS:
            if scenarios and scenario.name not in scenarios:
                continue
            if scenario.endpoint(server) is None:
                left_out.append((scenario.name, "all", "no such server can be had here (nginx-light, openssl)"))
                continue
            able[scenario] = []
            for contender in scenario.contenders:
                if contenders and contender not in contenders:
                    continue
                if brief and scenario is not SCENARIOS[0] and contender not in _BRIEF:
                    continue
                say(f"warm-up and check of bytes: {scenario.name}, {contender}")
                reason = _unable(server, scenario, contender, objects)
                if reason is None:
                    able[scenario].append(contender)
                else:
                    left_out.append((scenario.name, contender, reason))
        runs: list[Run] = []
        import_alone: list[float] = []
        for number in range(rounds):
            for scenario, names in able.items():
                if scenario.beside == "import":
                    import_alone.append(_import_alone(server.endpoint))
                shift = number % max(1, len(names))  # nobody always runs first
                for contender in names[shift:] + names[:shift]:
                    runs.append(_run(server, scenario, contender, objects))
                    say(
                        f"round {number + 1}/{rounds} {scenario.name:8} {contender:22} {runs[-1].wall_s:6.2f} s"
                        f"  CPU {runs[-1].cpu_s:6.2f} s  peak {runs[-1].peak_bytes / MIB:6.0f} MiB"
                    )
    alone = statistics.median(import_alone) if import_alone else None
    return Report(size_bytes, rounds, runs, alone, left_out, judge(runs, size_bytes, alone))


def _unable(server: Nginx, scenario: Scenario, contender: str, objects: dict[str, list[S3Object]]) -> str | None:
    """Say why a contender that need not run here cannot, or None where it arrives at the right bytes."""
    missing = CONTENDERS[contender].missing()
    if missing is not None:
        return missing
    try:
        _run(server, scenario, contender, objects, verify=True)
    except ContenderFailed as failed:
        if not CONTENDERS[contender].optional or "other bytes" in str(failed):
            raise
        return str(failed).strip().splitlines()[-1]
    return None


def _run(
    server: Nginx, scenario: Scenario, contender: str, objects: dict[str, list[S3Object]], *, verify: bool = False
) -> Run:
    run = measure(
        server,
        objects[scenario.objects],
        contender,
        endpoint=scenario.endpoint(server),
        beside=scenario.beside,
        verify=verify,
    )
    return replace(run, scenario=scenario.name)


def judge(runs: list[Run], size_bytes: int, import_alone_s: float | None) -> list[Verdict]:
    """Return the figures that were promised, of those scenarios that were run with diskless."""
    ours = {run.scenario for run in runs if run.contender == "diskless"}
    verdicts = []
    for scenario in (scenario for scenario in SCENARIOS if scenario.name in ours):
        others = {run.contender for run in runs if run.scenario == scenario.name} - {"diskless"}
        peers = {name: ratio(runs, name, "diskless", scenario.name) for name in others.difference(_LIMITS)}
        if peers:
            first = min(peers, key=lambda name: peers[name])
            what = f"{scenario.name}: time of the fastest peer ({first}) over diskless's"
            verdicts.append(Verdict(what, peers[first], "≥ 1", peers[first] >= 1))
        for limit, least in (("bare loop", 0.95), ("bare sockets", 0.8)):
            if limit in others:
                against = ratio(runs, limit, "diskless", scenario.name)
                what = f"{scenario.name}: speed relative to the {limit}"
                verdicts.append(Verdict(what, against, f"≥ {least}", against >= least))
    if "one" in ours:
        over = median(runs, "diskless", lambda run: (run.peak_bytes - size_bytes) / MIB)
        verdicts.append(Verdict("one: MiB of memory above the object's size", over, "≤ 150", over <= 150))
    if {"one", "python"} <= ours:
        # Of one contender with itself: idle time over time beside Python, round by round.
        idle = [run.wall_s for run in runs if (run.contender, run.scenario) == ("diskless", "one")]
        busy = [run.wall_s for run in runs if (run.contender, run.scenario) == ("diskless", "python")]
        beside_python = statistics.median(i / b for i, b in zip(idle, busy, strict=True))
        what = "speed beside pure Python relative to idle"
        verdicts.append(Verdict(what, beside_python, "≥ 0.8", beside_python >= 0.8))
    if import_alone_s is not None and "import" in ours:
        cores = len(os.sched_getaffinity(0))
        together = statistics.median(
            run.together_s / max(import_alone_s, (run.cpu_s + run.server_cpu_s) / cores)
            for run in runs
            if (run.contender, run.scenario) == ("diskless", "import")
        )
        what = "import and transfer together, relative to the larger of import alone and CPU seconds / cores"
        verdicts.append(Verdict(what, together, "≤ 1.25", together <= 1.25))
    return verdicts


def median(runs: list[Run], contender: str, value: Callable[[Run], float], scenario: str = "one") -> float:
    """Return the median over the rounds of a value of one contender's runs."""
    return statistics.median(value(run) for run in runs if (run.contender, run.scenario) == (contender, scenario))


def ratio(runs: list[Run], over: str, under: str, scenario: str = "one") -> float:
    """Return the median over the rounds of the ratio of two contenders' times."""
    numerators = [run.wall_s for run in runs if (run.contender, run.scenario) == (over, scenario)]
    denominators = [run.wall_s for run in runs if (run.contender, run.scenario) == (under, scenario)]
    return statistics.median(n / d for n, d in zip(numerators, denominators, strict=True))


def table(report: Report) -> str:
    """Return the medians as text, a block for each scenario, the fastest first."""
    memory = f"; memory: {report.runs[0].memory_from}" if report.runs else ""
    lines = [
        f"{report.size_bytes / MIB:.0f} MiB, medians of {report.rounds} rounds{memory};"
        " time from first request to last byte",
    ]
    for scenario in SCENARIOS:
        runs = [run for run in report.runs if run.scenario == scenario.name]
        if runs:
            lines += ["", scenario.what + _import_time(report, scenario), *_block(report, scenario, runs)]
    lines += ["", *(f"left out: {scenario}, {contender}: {reason}" for scenario, contender, reason in report.left_out)]
    return "\n".join(lines).rstrip()


def _import_time(report: Report, scenario: Scenario) -> str:
    beside_import = scenario.beside == "import" and report.import_alone_s is not None
    return f" ({report.import_alone_s:.2f} s alone)" if beside_import else ""


def _block(report: Report, scenario: Scenario, runs: list[Run]) -> list[str]:
    name, contenders = scenario.name, list(dict.fromkeys(run.contender for run in runs))
    lines = [
        f"{'':22}{'time':>9}{'of diskless':>13}{'CPU':>9}{'peak-size':>13}{'start-up':>10}"
        + (f"{'both done':>11}" if scenario.beside == "import" else ""),
    ]
    # Of the row's own bytes: a scenario of small objects has fewer.
    size_bytes = runs[0].size_bytes
    for contender in sorted(contenders, key=lambda contender: median(runs, contender, lambda r: r.wall_s, name)):
        relative = f"{ratio(runs, contender, 'diskless', name):11.2f} x" if "diskless" in contenders else f"{'':13}"
        line = (
            f"{contender:22}{median(runs, contender, lambda r: r.wall_s, name):7.2f} s"
            f"{relative}"
            f"{median(runs, contender, lambda r: r.cpu_s, name):7.2f} s"
            f"{median(runs, contender, lambda r: (r.peak_bytes - size_bytes) / MIB, name):9.0f} MiB"
            f"{median(runs, contender, lambda r: r.start_up_s, name):8.2f} s"
        )
        if scenario.beside == "import":
            line += f"{median(runs, contender, lambda r: r.together_s, name):9.2f} s"
        lines.append(line)
    return lines


def _import_alone(endpoint: str) -> float:
    code = "import time; t = time.time(); import torch, transformers; print(time.time() - t)"
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment(endpoint), check=True, capture_output=True, text=True
    )
    return float(output.stdout)
