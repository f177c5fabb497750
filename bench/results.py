# SPDX-License-Identifier: Apache-2.0
"""The results file: JSON that holds every figure of a run, and from which the report is made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.cells import Figure

FORMAT = 1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A cell that was not measured, or not on this peer."""

    family: str
    cell: str
    reason: str


@dataclass(slots=True)
class Run:
    """Grows while it is measured, and is saved after each step."""

    date: str
    command: str
    machine: str
    families: list[str]
    rounds: int
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    minutes: float = 0.0
    figures: list[Figure] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def save(run: Run, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"format": FORMAT, **asdict(run)}, indent=1) + "\n")
    beside.replace(path)


def load(path: Path) -> Run:
    """OSError when there is none, ValueError when it is of another format."""
    table = json.loads(path.read_text())
    if table.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: not a results file of this version")
    figures = [Figure(**row) for row in table.pop("figures")]
    left_out = [LeftOut(**row) for row in table.pop("left_out")]
    return Run(**table, figures=figures, left_out=left_out)
