"""What an open Mount costs the calls that are not ours: instructions of user code, counted by callgrind.

python -m benchmarks interposer

The same C program (interposer.c) makes each call a hundred times, with the Interposer and without; the figure is the
difference a call. The kernel's work is not counted. Held to the target is what programs do all day: absolute paths and
plain relative ones, and descriptors. Paths that begin with `..` or lead into /proc are looked at more closely, since
the Tree and its descriptors can be reached through them; with a shadow open (`at=`), what may lead into it is walked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import diskless
from benchmarks.measure import ContenderFailed
from benchmarks.verdict import Verdict

LIBRARY = Path(diskless.__file__).parent / "libdiskless.so"
MOST_INSTRUCTIONS = 100
SPELLINGS = ("absolute", "relative", "climbing", "under /proc")
CALLS = 100  # as in interposer.c
# What is held to the target: by spelling, but not dlsym, which also looks whether anything was loaded since.
HELD = frozenset({"absolute", "relative", ""})
OTHERS = frozenset({"dlsym"})

Costs = dict[tuple[str, str], float]  # by call and spelling ("" where there is no path): instructions a call


@dataclass(frozen=True)
class Report:
    """Instructions a call without the Interposer, and how many more with it."""

    plain: Costs
    extra: Costs  # a Mount below /diskless is open
    beside_shadow: Costs  # so is one `at=` a path that shares no first component with those called
    near_shadow: Costs  # so is one `at=` a path beside the directory of those called
    verdicts: list[Verdict]


def missing() -> str | None:
    """Say what the benchmark lacks here, or None."""
    for tool in ("valgrind", "cc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    return None if LIBRARY.exists() else f"{LIBRARY} was not built"


def benchmark(*, say: Callable[[str], None]) -> Report:
    """Count in five runs of the program under valgrind."""
    if (reason := missing()) is not None:
        raise ContenderFailed(reason)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir="/var/tmp") as elsewhere:
        program = Path(folder) / "interposer"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-O1", "-w", "-Wl,-z,now", "-o", program, source, "-ldl"], check=True)
        called = Path(folder) / "called"
        called.mkdir()
        (called / "file").write_bytes(b"x" * 4096)
        (called / "link").symlink_to("file")
        counts = []
        for name, library, shadow in (
            ("without", "-", "-"),
            ("with a Mount open", str(LIBRARY), "-"),
            ("with one at= elsewhere", str(LIBRARY), f"{elsewhere}/shadow"),
            ("with one at= beside", str(LIBRARY), f"{folder}/shadow"),
        ):
            say(name)
            counts.append(_count(program, library, called, shadow))
    plain, *others = counts
    extra, beside, near = ({key: other[key] - plain[key] for key in plain} for other in others)
    worst = max((key for key in extra if key[0] not in OTHERS and key[1] in HELD), key=lambda key: extra[key])
    what = f"instructions more a call, the most: {worst[0]} {worst[1]}"
    verdict = Verdict(what, extra[worst], f"<= {MOST_INSTRUCTIONS}", extra[worst] <= MOST_INSTRUCTIONS)
    return Report(plain, extra, beside, near, [verdict])


def table(report: Report) -> str:
    """Return the figures as text: a row a call, a column a spelling of its path."""
    lines = [f"{'':31}instructions more a call, by how the path is spelled (of descriptors: one figure)"]
    sections = (
        ("a Mount is open", report.extra),
        ("and one at= elsewhere", report.beside_shadow),
        ("and one at= beside the files", report.near_shadow),
    )
    for title, costs in sections:
        lines += ["", f"{title:31}" + "".join(f"{name:>13}" for name in SPELLINGS)]
        for call in sorted({call for call, _ in costs}):
            shown = [costs.get((call, spelling)) for spelling in SPELLINGS if (call, spelling) in costs]
            figures = shown or [costs[call, ""]]
            lines.append(f"  {call:29}" + "".join(f"{figure:13.0f}" for figure in figures))
    return "\n".join(lines)


def _count(program: Path, library: str, called: Path, shadow: str) -> Costs:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        options = [f"--callgrind-out-file={out}", "--compress-strings=no", "--compress-pos=no", "--collect-atstart=no"]
        # Each function has costs of its own in each of the spellings that it is called for.
        options += ["--toggle-collect=counted_*", "--separate-callers=2"]
        command = ["valgrind", "--tool=callgrind", *options, str(program), library, str(called), shadow]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        if done.returncode != 0:
            raise ContenderFailed(f"{' '.join(command)}\n{done.stderr[-2000:]}")
        return _read(out.read_text())


def _read(profile: str) -> Costs:
    """Sum what `measure_X` called from `counted_Y` cost, with all that it called (callgrind's format, "fn=" blocks)."""
    totals: dict[tuple[str, str], dict[str, int]] = {}  # several of them may measure one call
    functions: dict[str, int] = {}
    name = ""
    for line in profile.splitlines():
        if line.startswith("fn="):
            found = re.fullmatch(r"fn=(measure_(\w+?)_*)'counted_(?:paths_)?(\w+)(?:'.*)?", line)
            if found is not None:
                spelling = SPELLINGS[int(found[3])] if found[3].isdigit() else ""
                functions = totals.setdefault((found[2].replace("_", " "), spelling), {})
            name = found[1] if found is not None else ""
        elif name and re.match(r"[\d+*-]", line):
            functions[name] = functions.get(name, 0) + int(line.split()[1])
    if not totals:
        raise ContenderFailed("callgrind counted nothing")
    return {key: sum(each.values()) / len(each) / CALLS for key, each in totals.items()}
