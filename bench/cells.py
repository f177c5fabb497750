# SPDX-License-Identifier: Apache-2.0
"""What a benchmark is made of: families of cells, measured on peers in rounds. Values only: this module runs nothing.

A module that measures something gives one constant, `FAMILY = Family(...)`, and is named in `bench/registry.py`.
Its `run(task)` starts the server named `task.peer` in `task.folder`, puts `task.cell`'s load on it for about
`task.seconds` seconds, checks that what it counted is true, stops everything and returns the measured values by key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

US = "posthouse"  # the peer that all others are compared with
CEILING = "(no server: the load client's own limit)"  # as a peer: what the client reaches against a canned answer


class NotPossibleError(Exception):
    """The peer cannot do what the cell asks, or is not installed: the report tells the reason, nothing else is lost."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One kind of number: `Measure("rate", "letters", "/s")`."""

    key: str
    title: str
    unit: str
    is_more_better: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """What posthouse aims at beside a peer: our value divided by the peer's is at least `ratio` (at most, where less
    is better), in the cell that carries the target. With `peer=""` the aim is for our value itself."""

    peer: str
    key: str
    ratio: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One load. The first measure decides the chart and the order in the report."""

    name: str
    measures: tuple[Measure, ...]
    importance: int = 5  # 1 is measured first; when a time budget runs out, the highest numbers are left out
    peers: tuple[str, ...] = ()  # empty: all peers of the family
    targets: tuple[Target, ...] = ()
    overhead: float = 4.0  # seconds of one run beside the load itself: start, preparation, check, stop
    loads_for: float = 0.0  # seconds of load that cannot be made shorter; 0: `Task.seconds` decides
    most_rounds: int = 0  # for what takes minutes; 0: as many as all others


@dataclass(frozen=True, slots=True)
class Task:
    """One run: a cell on a peer in a round."""

    cell: Cell
    peer: str
    round: int
    seconds: float  # how long the load should last, about
    folder: Path  # empty, of this run alone, removed afterwards; short enough for Unix sockets in it
    is_quick: bool = False  # a try-out: the smallest counts that still exercise everything


@dataclass(frozen=True, slots=True)
class Figure:
    """What one task measured, or why it could not (`problem`; then `values` is empty)."""

    family: str
    cell: str
    peer: str
    round: int
    values: dict[str, float] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Cells that belong together in the report. The order of `peers` is the order of the report."""

    name: str  # what --families takes
    title: str
    cells: tuple[Cell, ...]
    peers: tuple[str, ...]
    run: Callable[[Task], dict[str, float]]
    note: str = ""  # Markdown: what the reader must know to judge the figures

    def peers_of(self, cell: Cell) -> tuple[str, ...]:
        return cell.peers or self.peers

    def cell(self, name: str) -> Cell:
        """KeyError when the family has no such cell."""
        found = [cell for cell in self.cells if cell.name == name]
        if not found:
            raise KeyError(name)
        return found[0]
