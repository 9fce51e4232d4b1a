"""Run the benchmarks: all of them, or those that are named; print text, and leave text, JSON and pictures in a folder.

python -m benchmarks                      # all, full size: some hours
python -m benchmarks faults --seed 14
python -m benchmarks transfer --rounds 9
python -m benchmarks --check              # two minutes: everything runs and arrives at the right bytes
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import cold_start, doors, faults, interposer, listing, paths, picture, startup, today, transfer
from benchmarks.measure import ContenderFailed, Run
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import ServerUnavailable
from benchmarks.verdict import Verdict

MIB = 1 << 20
NAMES = ("startup", "interposer", "paths", "faults", "listing", "transfer", "today", "doors", "cold_start")


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when all ran and all targets were met; with --check, when all ran (its sizes are too small to judge)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="name", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--check", action="store_true", help="small and short: only whether everything works")
    parser.add_argument("--rounds", type=int, help="rounds of each (default 7; startup 15)")
    parser.add_argument("--loads", type=int, help="loads from the server that fails (default 50)")
    parser.add_argument("--seed", type=int, default=13, help="what decides which requests fail, and how (default 13)")
    parser.add_argument("--size-mib", type=int, help="size of the object (default 1024; transfer 2048)")
    parser.add_argument(
        "--scenario", action="append", default=[], help="only these of transfer's scenarios, or of doors' rows"
    )
    parser.add_argument("--contender", action="append", default=[], help="only these of transfer's contenders")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for the results")
    options = parser.parse_args(arguments)
    command = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if arguments is None else arguments)])
    # An end by `kill` or `timeout` puts away what is in RAM, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        met = [_run(name, options, command) for name in options.names or NAMES]
    except (ContenderFailed, ServerUnavailable) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0 if all(met) or options.check else 1


def _run(name: str, options: argparse.Namespace, command: str) -> bool:
    rounds = options.rounds or (1 if options.check else 15 if name == "startup" else 7)
    size_bytes = (options.size_mib or (32 if options.check else 2048 if name == "transfer" else 1024)) * MIB
    runs: list[Run] = []
    verdicts: list[Verdict] = []
    report: Any
    if name == "startup":
        report = startup.benchmark(rounds=rounds, say=_say)
        text, verdicts = startup.table(report), report.verdicts
    elif name == "interposer":
        report = interposer.benchmark(say=_say)
        text, verdicts = interposer.table(report), report.verdicts
    elif name == "paths":
        report = paths.benchmark(size_bytes=size_bytes, rounds=rounds, brief=options.check, say=_say)
        text, verdicts = paths.table(report), report.verdicts
    elif name == "faults":
        loads, parts = (3, 20) if options.check else (50, 230)
        report = faults.benchmark(loads=options.loads or loads, parts=parts, seed=options.seed, say=_say)
        text, verdicts = faults.table(report), report.verdicts
    elif name == "listing":
        objects, million = (1000, 5000) if options.check else (10_000, 1_000_000)
        report = listing.benchmark(objects=objects, million=million, rounds=rounds, say=_say)
        text, verdicts = listing.table(report), report.verdicts
    elif name == "transfer":
        report = transfer.benchmark(
            size_bytes=size_bytes,
            rounds=rounds,
            say=_say,
            scenarios=options.scenario,
            contenders=options.contender,
            brief=options.check,
        )
        text, verdicts, runs = transfer.table(report), report.verdicts, report.runs
    elif name == "doors":
        report = doors.benchmark(
            size_bytes=size_bytes, rounds=rounds, say=_say, scenarios=options.scenario, brief=options.check
        )
        text, verdicts, runs = doors.table(report), report.verdicts, report.runs
    elif name == "cold_start":
        report = cold_start.benchmark(size_bytes=size_bytes, rounds=rounds, brief=options.check, say=_say)
        text, verdicts = cold_start.table(report), report.verdicts
    else:
        report = today.benchmark(size_bytes=size_bytes, rounds=rounds, say=_say)
        text, runs = today.table(report), report.runs
    if not options.check:
        text = "\n".join([text, *([""] if verdicts else []), *map(str, verdicts)])
    heading = f"{name}: `{command}`, {_machine()}"
    print(f"\n{heading}\n\n{text}\n")
    if not options.check:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{name}.txt").write_text(f"{heading}\n\n{text}\n")
        content = {"command": command, "machine": _machine(), **_by_name(asdict(report))}
        (options.out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        drawing = options.out / f"{name}.png"
        if name in ("transfer", "doors"):
            titles = {scenario.name: scenario.what for scenario in SCENARIOS} | {
                doors.titled(*place): doors.titled(*place) for place in doors.PLACES
            }
            drawn = picture.draw_scenarios(runs, titles, heading, drawing)
        else:
            drawn = not runs or picture.draw(runs, size_bytes, heading, drawing)
        if not drawn:
            _say("no picture: matplotlib is not installed")
    # What is right or wrong is so with small sizes, too.
    if options.check and name == "faults" and not all(verdict.met for verdict in verdicts):
        raise ContenderFailed("loads from a server that fails did not end as they have to")
    return all(verdict.met for verdict in verdicts)


def _by_name(content: object) -> Any:
    """Return `content` with each dictionary's keys as JSON has them: the interposer's are pairs."""
    if not isinstance(content, dict):
        return content
    return {key if isinstance(key, str) else " ".join(key).strip(): _by_name(value) for key, value in content.items()}


def _machine() -> str:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    cores = len(os.sched_getaffinity(0))
    linux, python = platform.release().split("-")[0], platform.python_version()
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{cores} cores, {memory:.0f} GiB, Linux {linux}, Python {python}, {day}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
