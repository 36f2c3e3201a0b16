# SPDX-License-Identifier: Apache-2.0
"""Plots of a flow as SVG text: what was delivered and lost, and how long it took; faults as vertical lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from veilnet.lab.scenario.model import Step
from veilnet.lab.scenario.traces import Bin

WIDTH: Final = 960
HEIGHT: Final = 180
LEFT: Final = 64
RIGHT: Final = 12
TOP: Final = 28
BOTTOM: Final = 24


@dataclass(frozen=True, slots=True)
class Frame:
    """Where seconds and values lie in the picture."""

    end: float
    top: float
    """Largest value of the vertical axis, above 0."""

    def x(self, seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.end

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value, self.top) / self.top


def delivery(bins: Sequence[Bin], width: float, end: float, steps: Sequence[Step]) -> str:
    """Packets a second: delivered, and lost on top of it."""
    frame = Frame(end, nice(max((item.sent / width for item in bins), default=1)))
    bars = []
    for item in bins:
        got, all_of_it = (item.sent - item.lost) / width, item.sent / width
        bars.append(_bar(frame, item.start, width, (0, got), "delivered"))
        bars.append(_bar(frame, item.start, width, (got, all_of_it), "lost"))
    return _picture(frame, "packets/s", "".join(bars), steps)


def delays(bins: Sequence[Bin], width: float, end: float, steps: Sequence[Step]) -> str:
    """One-way delay in milliseconds: median as a line, worst as points."""
    worst = [(item.start + width / 2, item.worst * 1000) for item in bins if item.worst is not None]
    median = [(item.start + width / 2, item.median * 1000) for item in bins if item.median is not None]
    frame = Frame(end, nice(max((value for _, value in worst), default=1)))
    dots = "".join(f'<circle class="worst" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2"/>' for x, y in worst)
    lines = "".join(
        f'<polyline class="median" points="{" ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in run)}"/>'
        for run in _runs(median, width)
    )
    return _picture(frame, "one-way delay, ms", dots + lines, steps)


def nice(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if value <= 0 or math.isnan(value):
        return 1.0
    power: float = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999999)


def _bar(frame: Frame, start: float, width: float, values: tuple[float, float], name: str) -> str:
    low, high = values
    if high <= low:
        return ""
    x, y = frame.x(start), frame.y(high)
    wide, tall = frame.x(start + width) - x, frame.y(low) - y
    return f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{wide:.2f}" height="{tall:.1f}"/>'


def _runs(points: Sequence[tuple[float, float]], width: float) -> list[list[tuple[float, float]]]:
    """Points that follow each other without a gap: a line over an outage would show what was not there."""
    runs: list[list[tuple[float, float]]] = []
    for point in points:
        if runs and point[0] - runs[-1][-1][0] < 1.5 * width:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _picture(frame: Frame, title: str, body: str, steps: Sequence[Step]) -> str:
    axis = "".join(_tick_y(frame, frame.top * share) for share in (0, 0.5, 1)) + _ticks_x(frame)
    faults = "".join(_fault(frame, step) for step in steps)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<text class="title" x="{LEFT}" y="14">{escape(title)}</text>{axis}{body}{faults}</svg>'
    )


def _tick_y(frame: Frame, value: float) -> str:
    y = frame.y(value)
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'


def _ticks_x(frame: Frame) -> str:
    step = nice(frame.end / 10)
    marks = [index * step for index in range(int(frame.end / step + 1e-9) + 1)]
    return "".join(
        f'<text class="tick" x="{frame.x(mark):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{mark:g} s</text>'
        for mark in marks
    )


def _fault(frame: Frame, step: Step) -> str:
    x = frame.x(step.at)
    anchor, shift = ("end", -4) if step.at > 0.7 * frame.end else ("start", 4)
    line = f'<line class="fault" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{HEIGHT - BOTTOM}"/>'
    label = f'<text class="fault" x="{x + shift:.1f}" y="{TOP - 2}" text-anchor="{anchor}">{escape(step.fault)}</text>'
    return line + label
