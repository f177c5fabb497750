# SPDX-License-Identifier: Apache-2.0
"""Which runs are made, in which order, and what is left out when the time is too short: told, never silent."""

from __future__ import annotations

from dataclasses import dataclass

from bench.cells import Cell, Family

DEFAULT_ROUNDS = 3  # fewer give no spread worth the name
DEFAULT_SECONDS = 3.0  # of load in one run
LEAST_ROUNDS = 2
SHORTER = 2 / 3  # of the load, before anything is left out
WARM_UP = 1.4  # a load of one second takes so long with the bursts before it
QUICK_RUN = 5.0  # seconds of a try-out


@dataclass(frozen=True, slots=True)
class Step:
    family: Family
    cell: Cell
    peer: str
    round: int


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]
    rounds: int
    seconds: float
    left_out: tuple[tuple[str, str], ...] = ()  # (family, cell) for which there is no time

    @property
    def cost(self) -> float:
        return sum(cost(step.cell, self.seconds) for step in self.steps)


def cost(cell: Cell, seconds: float) -> float:
    """About how long one run takes, in seconds."""
    if not seconds:
        return QUICK_RUN
    return cell.overhead + (cell.loads_for or seconds * WARM_UP)


def by_importance(families: list[Family]) -> list[tuple[Family, Cell]]:
    rows = [(family, cell) for family in families for cell in family.cells]
    return sorted(rows, key=lambda row: row[1].importance)  # stable: the order of the report within one importance


def steps_of(rows: list[tuple[Family, Cell]], rounds: int) -> tuple[Step, ...]:
    """Round by round; within a cell the peers take turns, and another begins in each round."""
    found: list[Step] = []
    for number in range(rounds):
        for family, cell in rows:
            if cell.most_rounds and number >= cell.most_rounds:
                continue
            peers = family.peers_of(cell)
            first = number % len(peers)
            found += [Step(family, cell, peer, number) for peer in (*peers[first:], *peers[:first])]
    return tuple(found)


def make(families: list[Family], rounds: int, seconds: float, budget: float | None) -> Plan:
    """`seconds` of load in each run, 0 for a try-out; `budget` in seconds for everything."""
    rows = by_importance(families)
    settings = [(rounds, seconds)]
    if budget is not None:
        fewer = min(rounds, max(LEAST_ROUNDS, rounds - 1))
        settings += [(rounds, seconds * SHORTER), (fewer, seconds * SHORTER)]
    for each_rounds, each_seconds in settings:
        plan = Plan(steps_of(rows, each_rounds), each_rounds, each_seconds)
        if budget is None or plan.cost <= budget:
            return plan
    assert budget is not None
    rounds, seconds = settings[-1]
    kept: list[tuple[Family, Cell]] = []
    left = budget
    for family, cell in rows:
        times = min(rounds, cell.most_rounds or rounds)
        price = cost(cell, seconds) * len(family.peers_of(cell)) * times
        if price <= left:
            kept.append((family, cell))
            left -= price
    left_out = tuple((family.name, cell.name) for family, cell in rows if (family, cell) not in kept)
    return Plan(steps_of(kept, rounds), rounds, seconds, left_out)
