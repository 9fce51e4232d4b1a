"""The results as a picture; needs matplotlib."""

from __future__ import annotations

import statistics
import textwrap
from pathlib import Path

from benchmarks.measure import Run

_OURS, _THEIRS = "#c2410c", "#94a3b8"
_MIB = 1 << 20


def draw_scenarios(runs: list[Run], titles: dict[str, str], title: str, path: Path) -> bool:
    """Draw the time of each contender in each scenario, the fastest first; False where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("agg")
    from matplotlib import pyplot

    names = [name for name in titles if any(run.scenario == name for run in runs)]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(5.2 * columns, 0.6 + 3.8 * rows), squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.axis("off")
    for axes, name in zip(grid.flat, names, strict=False):
        times: dict[str, list[float]] = {}
        for run in runs:
            if run.scenario == name:
                times.setdefault(run.contender, []).append(run.wall_s)
        medians = {contender: statistics.median(times[contender]) for contender in times}
        order = sorted(medians, key=lambda contender: medians[contender])
        colours = [_OURS if contender.startswith("diskless") else _THEIRS for contender in order]
        bars = axes.barh(order, [medians[contender] for contender in order], color=colours)
        axes.bar_label(bars, [f"{medians[contender]:.2f} s" for contender in order], padding=3, fontsize=7)
        axes.set_title(textwrap.fill(titles[name], 44), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.margins(x=0.18)
        axes.spines[["top", "right"]].set_visible(False)
        axes.invert_yaxis()
    figure.suptitle(textwrap.fill(title, 60 * columns), fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return True


def draw(runs: list[Run], size_bytes: int, title: str, path: Path) -> bool:
    """Draw time, CPU seconds and peak memory of each contender, idle; return False where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("agg")
    from matplotlib import pyplot

    idle = [run for run in runs if run.beside == "nothing"]
    names = list(dict.fromkeys(run.contender for run in idle))

    def medians(attribute: str) -> list[float]:
        return [statistics.median(getattr(r, attribute) for r in idle if r.contender == name) for name in names]

    figure, (time, cpu, memory) = pyplot.subplots(1, 3, figsize=(11, 0.8 + 0.45 * len(names)), sharey=True)
    panels = (
        (time, medians("wall_s"), "seconds, first request to last byte", "{:.2f} s"),
        (cpu, medians("cpu_s"), "CPU seconds, all processes", "{:.2f} s"),
        (memory, [value / _MIB for value in medians("peak_bytes")], "peak memory, MiB", "{:.0f}"),
    )
    for axes, values, label, form in panels:
        colours = [_OURS if "diskless" in name or "mount" in name else _THEIRS for name in names]
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(bars, [form.format(value) for value in values], padding=3, fontsize=8)
        axes.set_xlabel(label, fontsize=9)
        axes.margins(x=0.18)
        axes.spines[["top", "right"]].set_visible(False)
    memory.axvline(size_bytes / _MIB, color="black", linewidth=0.8, linestyle=":")
    time.invert_yaxis()
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return True
