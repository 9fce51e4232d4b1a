"""The three charts of a load's page, as SVG: parts by connection, throughput, memory; one time axis for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from diskless.cli.ls import printable
from diskless.cli.progress_line import format_rate
from diskless.cli.recording import Bar, Recording
from diskless.ram.budget import format_size

_WIDTH, _LEFT, _RIGHT = 1080, 76, 1068
_CURVE_HEIGHT = 150
_AXIS_HEIGHT = 22
# Of one connection, and of all together.
_MOST_LANE, _LEAST_LANE, _MOST_LANES = 22.0, 2.0, 420.0
_MOST_MARKS = 500
# What comes before the first part is named where it takes this share of the time.
_NAMED_WAIT = 0.1
_MIB = 1 << 20


def parts_chart(recording: Recording, end_s: float) -> str:
    """Draw every part as a bar over time, a row for each connection, and a mark for each retry."""
    bars = recording.bars()
    connections = sorted({bar.connection for bar in bars} | {retry.connection for retry in recording.retries})
    rows = {connection: row for row, connection in enumerate(connections)}
    lane = max(_LEAST_LANE, min(_MOST_LANE, _MOST_LANES / max(1, len(rows))))
    height, top = lane * max(1, len(rows)), 6
    shade = {path: number % 2 for number, path in enumerate(dict.fromkeys(_in_order(bars)))}
    drawn = []
    for bar in bars:
        kind = "retried" if bar.retries else ("one", "two")[shade[bar.path]]
        x, y = _x(bar.began_s, end_s), top + rows[bar.connection] * lane
        width = max(1.0, _x(bar.ended_s, end_s) - x - 0.5)
        gap = min(2.0, lane * 0.15)
        drawn.append(
            f'<rect class="bar {kind}" x="{x:.1f}" y="{y + gap / 2:.1f}" width="{width:.1f}" '
            f'height="{lane - gap:.1f}" rx="{min(2.0, lane / 5):.1f}" data-tip="{escape(_told(bar))}"/>'
        )
    radius = max(2.5, min(4.5, lane / 4))
    for retry in recording.retries[:_MOST_MARKS]:
        x, y = _x(retry.at_s, end_s), top + (rows[retry.connection] + 0.5) * lane
        words = f"retry at {retry.at_s:.2f} s\n{printable(retry.path)}, from byte {retry.start:,}\n{retry.cause}"
        drawn.append(f'<circle class="retry" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" data-tip="{escape(words)}"/>')
    step = max(1, math.ceil(14 / lane))
    labels = [
        f'<text x="{_LEFT - 8}" y="{top + (row + 0.5) * lane + 4:.1f}" text-anchor="end">{connection + 1}</text>'
        for connection, row in rows.items()
        if row % step == 0
    ]
    first_s = min((bar.began_s for bar in bars), default=0.0)
    if first_s > end_s * _NAMED_WAIT:
        middle = top + height / 2 + 4
        labels.append(
            f'<text x="{_x(first_s / 2, end_s):.1f}" y="{middle:.1f}" text-anchor="middle">start, listing</text>'
        )
    title = f"{len(recording.parts)} parts over time, by connection"
    return _svg(title, top + height, end_s, [*labels, *drawn])


def throughput_chart(recording: Recording, end_s: float) -> str:
    """Draw bytes per second over time."""
    points = recording.throughput()
    most = max((rate for _, rate in points), default=0.0) / 1e6
    top_value, ticks = _scale(most)
    curve = [(_x(at_s, end_s), _y(rate / 1e6, top_value)) for at_s, rate in points]
    marks = [*_lines(ticks, top_value, lambda value: f"{value:g} MB/s"), _area(curve), _curve(curve)]
    return _svg("throughput over time", _CURVE_HEIGHT, end_s, marks)


def memory_chart(recording: Recording, end_s: float) -> str:
    """Draw the bytes in RAM files over time, and on them what the processes hold beside."""
    samples = recording.samples
    most = max((sample.done_bytes + (sample.process_bytes or 0) for sample in samples), default=0) / _MIB
    top_value, ticks = _scale(most)
    files = [(_x(sample.at_s, end_s), _y(sample.done_bytes / _MIB, top_value)) for sample in samples]
    beside = [
        (_x(sample.at_s, end_s), _y((sample.done_bytes + (sample.process_bytes or 0)) / _MIB, top_value))
        for sample in samples
    ]
    band = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*beside, *reversed(files)])
    marks = [
        *_lines(ticks, top_value, lambda value: format_size(value * _MIB).replace(".0 ", " ")),
        _area(files),
        f'<polygon class="beside" points="{band}"/>',
        _curve(files),
    ]
    return _svg("memory over time", _CURVE_HEIGHT, end_s, marks)


def _in_order(bars: Sequence[Bar]) -> list[str]:
    return [bar.path for bar in sorted(bars, key=lambda bar: bar.began_s)]


def _told(bar: Bar) -> str:
    seconds = bar.ended_s - bar.began_s
    what = f"{printable(bar.path)}, from byte {bar.start:,}" if bar.parts == 1 else f"{bar.parts} parts"
    retries = f", {bar.retries} retr{'y' if bar.retries == 1 else 'ies'}" if bar.retries else ""
    rate = format_rate(bar.size_bytes / max(seconds, 1e-9))
    size = format_size(bar.size_bytes)
    return f"{what}\n{size} in {seconds:.3f} s, {rate}{retries}\nconnection {bar.connection + 1}"


def _svg(title: str, height: float, end_s: float, marks: Sequence[str]) -> str:
    _, ticks = _scale(end_s, steps=10)
    axis = [f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>']
    for value in ticks:
        x = _x(value, end_s)
        if x <= _RIGHT:
            axis.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:.1f}"/>')
            anchor = "end" if x > _RIGHT - 16 else "middle"
            axis.append(f'<text x="{x:.1f}" y="{height + 15:.1f}" text-anchor="{anchor}">{value:g} s</text>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height + _AXIS_HEIGHT:.1f}" role="img" aria-label="{escape(title)}" '
        f'data-left="{_LEFT}" data-right="{_RIGHT}">'
        f'{"".join(axis)}{"".join(marks)}<line class="cursor" y1="0" y2="{height:.1f}"/></svg>'
    )


def _scale(most: float, *, steps: int = 4) -> tuple[float, list[float]]:
    """Return the end of an axis that holds `most`, and round numbers on it."""
    if most <= 0:
        return 1.0, [0.0]
    rough = most / steps
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    ticks = [round(number * step, 12) for number in range(math.floor(most / step) + 1)]
    return most * 1.06, ticks


def _x(at_s: float, end_s: float) -> float:
    return _LEFT + max(0.0, at_s) / end_s * (_RIGHT - _LEFT)


def _y(value: float, top_value: float) -> float:
    return _CURVE_HEIGHT - value / top_value * (_CURVE_HEIGHT - 8)


def _lines(ticks: Sequence[float], top_value: float, label: Callable[[float], str]) -> list[str]:
    marks = []
    for value in ticks:
        y = _y(value, top_value)
        marks.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label(value)}</text>')
    return marks


def _curve(points: Sequence[tuple[float, float]]) -> str:
    return f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _area(points: Sequence[tuple[float, float]]) -> str:
    if not points:
        return ""
    closed = [(points[0][0], _CURVE_HEIGHT), *points, (points[-1][0], _CURVE_HEIGHT)]
    return f'<polygon class="area" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in closed)}"/>'
