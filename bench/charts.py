# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG text: a dot for the median, a line from the least to the most, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.spreads import Spread

WIDTH = 940
LABELS = 270  # left of the plot
VALUES = 190  # right of it
ROW = 20
HEADING = 30
TOP = 64
BOTTOM = 16
TICKS = (1, 2, 5)
INK, PALE, GRID, GOOD, POOR = "#1f2933", "#66717d", "#dfe4ea", "#0b6e6e", "#b3471d"


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    spread: Spread


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    rows: tuple[Row, ...]


class Scale:
    """A logarithmic axis that has all values in it."""

    def __init__(self, spreads: Sequence[Spread], always: float | None) -> None:
        values = [value for each in spreads for value in (each.low, each.high) if value > 0]
        values += [always] if always else []
        low, high = min(values, default=1.0), max(values, default=10.0)
        self.low = math.log10(low) - 0.06
        self.high = max(math.log10(high) + 0.06, self.low + 0.2)

    def x(self, value: float) -> float:
        share = (math.log10(max(value, 1e-9)) - self.low) / (self.high - self.low)
        return LABELS + min(1.0, max(0.0, share)) * (WIDTH - LABELS - VALUES)

    def ticks(self) -> list[float]:
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        found = [step * 10.0**power for power in powers for step in TICKS]
        return [value for value in found if self.low <= math.log10(value) <= self.high]


def chart(title: str, subtitle: str, groups: Sequence[Group], *, unit: str, line: float | None = None) -> str:
    """`line`: the value at which a vertical line stands; left of it a dot is shown as poor."""
    shown = [group for group in groups if group.rows]
    scale = Scale([row.spread for group in shown for row in group.rows], line)
    height = TOP + sum(HEADING + ROW * len(group.rows) for group in shown) + BOTTOM
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="Helvetica, Arial, sans-serif" font-size="12" role="img" aria-label="{escape(title)}">'
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(16, 24, title, size=16, weight="bold"),
        text(16, 42, subtitle, fill=PALE),
    ]
    for value in scale.ticks():
        x = scale.x(value)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="{GRID}"/>')
        parts.append(text(x, TOP - 6, number(value) + unit, fill=PALE, anchor="middle", size=11))
    if line is not None:
        x = scale.x(line)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="{INK}"/>')
    y = TOP
    for group in shown:
        parts.append(text(16, y + 20, group.title, weight="bold"))
        y += HEADING
        for row in group.rows:
            parts += drawn(row, y + ROW / 2, scale, unit, line)
            y += ROW
    return "\n".join([*parts, "</svg>"]) + "\n"


def drawn(row: Row, y: float, scale: Scale, unit: str, line: float | None) -> list[str]:
    spread = row.spread
    color = POOR if line is not None and spread.middle < line else GOOD
    low, middle, high = (scale.x(value) for value in (spread.low, spread.middle, spread.high))
    told = f"{number(spread.middle)}{unit} ({number(spread.low)} to {number(spread.high)})"
    return [
        text(LABELS - 12, y + 4, row.label, anchor="end"),
        f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{color}" stroke-width="2"/>',
        f'<circle cx="{middle:.1f}" cy="{y}" r="4.5" fill="{color}"/>',
        text(WIDTH - VALUES + 12, y + 4, told, fill=color),
    ]


def text(
    x: float, y: float, words: str, *, fill: str = INK, size: int = 12, weight: str = "normal", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def number(value: float) -> str:
    """Three figures that count, thousands with a comma."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    shown = f"{value:.{min(digits, 4)}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown
