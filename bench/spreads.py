# SPDX-License-Identifier: Apache-2.0
"""Medians with their spread, and ratios round by round: a noisy moment of the machine hits both sides of a ratio."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from bench.cells import US, Figure


@dataclass(frozen=True, slots=True)
class Spread:
    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """ValueError when there are none."""
        return cls(min(values), float(median(values)), max(values))

    def inverse(self) -> Spread:
        return Spread(1 / self.high, 1 / self.middle, 1 / self.low)


class Results:
    """All figures of a run, by family, cell and peer."""

    def __init__(self, figures: Iterable[Figure]) -> None:
        self._figures: dict[tuple[str, str, str], list[Figure]] = {}
        for figure in figures:
            self._figures.setdefault((figure.family, figure.cell, figure.peer), []).append(figure)

    def peers(self, family: str, cell: str) -> list[str]:
        return [key[2] for key in self._figures if key[:2] == (family, cell)]

    def values(self, family: str, cell: str, peer: str, key: str) -> dict[int, float]:
        """By round; rounds that failed are missing."""
        found = self._figures.get((family, cell, peer), [])
        return {figure.round: figure.values[key] for figure in found if key in figure.values}

    def spread(self, family: str, cell: str, peer: str, key: str) -> Spread | None:
        values = list(self.values(family, cell, peer, key).values())
        return Spread.of(values) if values else None

    def ratio(self, family: str, cell: str, peer: str, key: str) -> Spread | None:
        """posthouse's value divided by the peer's, over the rounds that have both."""
        ours = self.values(family, cell, US, key)
        theirs = self.values(family, cell, peer, key)
        both = [ours[number] / theirs[number] for number in ours if theirs.get(number, 0) > 0 and ours[number] > 0]
        return Spread.of(both) if both else None

    def problems(self, family: str, cell: str, peer: str) -> list[str]:
        found = self._figures.get((family, cell, peer), [])
        return list(dict.fromkeys(figure.problem for figure in found if figure.problem))
