# SPDX-License-Identifier: Apache-2.0
"""The queue grown large: draining after an outage, and what each step costs from 10,000 to 1,000,000 letters."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench import filling, queue_steps
from bench.cells import US, Cell, Family, Measure, Target, Task
from bench.draining import drain
from bench.house import Server

OCTETS = 1024
DESTINATIONS = 1000
QUICK = 20  # a try-out has so many times fewer letters
DRAINED = 100_000
SIZES = (10_000, 100_000, 1_000_000)
MOST_MS = 1.0  # a letter's own steps in the queue, however many wait
LEAST_RATE = 300.0  # letters/s: a hundred thousand are gone within six minutes, on two old cores


def milliseconds(key: str, title: str) -> Measure:
    return Measure(key, title, "ms CPU", is_more_better=False)


DRAIN = Cell(
    f"{DRAINED:,} letters for {DESTINATIONS:,} destinations, 30 % of them down",
    (
        Measure("rate", "letters sent to the healthy part", "/s"),
        Measure("seconds", "until the healthy part has gone", "s", is_more_better=False),
        milliseconds("cpu_ms", "CPU a letter"),
        Measure("own_mib", "memory of its own, at most", "MiB", is_more_better=False),
        Measure("rss_mib", "resident at the end, mapped mail included", "MiB", is_more_better=False),
        Measure("fill_rate", "letters put into the store before", "/s"),
    ),
    importance=3,
    targets=(Target("", "rate", LEAST_RATE),),
    loads_for=70,
    most_rounds=1,
)
LETTER_MS = "letter_ms"
STEPS = (
    milliseconds(LETTER_MS, "a letter into the queue and out of it (insert, a tenth of a claim, record)"),
    milliseconds("claim 10 letters", "claim 10 letters"),
    milliseconds("insert a letter", "insert a letter"),
    milliseconds("record one sent", "record one that was sent"),
    milliseconds("record one deferred", "record one that was deferred"),
    milliseconds("set a destination down", "set a destination down"),
    milliseconds("claim what is overdue there", "claim what is overdue there"),
    milliseconds("look for ready destinations", "look for ready destinations"),
    milliseconds("totals (metrics)", "count all, for metrics"),
    milliseconds("list an address, a visit", "look for an address, one visit to the reader"),
)


def steps_cell(size: int) -> Cell:
    targets = (Target("", LETTER_MS, MOST_MS),)
    loads_for = 5 + size / 6000
    return Cell(f"steps with {size:,} letters queued", STEPS, 6, targets=targets, loads_for=loads_for, most_rounds=1)


SIZE_OF = {steps_cell(size).name: size for size in SIZES}


async def _fill(folder: Path, letters: int) -> None:
    async with filling.opened(folder) as house:
        await filling.fill_queue(house, letters, DESTINATIONS, OCTETS)


def steps(folder: Path, letters: int) -> dict[str, float]:
    """Median CPU milliseconds of each step with so many letters queued."""
    Server(folder).found()
    asyncio.run(_fill(folder, letters))
    found = asyncio.run(queue_steps.measure(folder, letters, DESTINATIONS, OCTETS))
    claim = found["claim 10 letters"] / queue_steps.LETTERS_PER_CLAIM
    return {**found, LETTER_MS: found["insert a letter"] + claim + found["record one sent"]}


def run(task: Task) -> dict[str, float]:
    share = QUICK if task.is_quick else 1
    if task.cell is DRAIN or task.cell.name == DRAIN.name:
        return drain(task.folder / "d", DRAINED // share, DESTINATIONS // share, OCTETS)
    return steps(task.folder / "d", SIZE_OF[task.cell.name] // share)


NOTE = """\
The queue is filled through the store, in large units. Steps are medians of the CPU time inside the unit of work: no
sync, no waiting. The destinations are fixed routes to loopback addresses, one each; smtp-sink takes the letters.
"""

FAMILY = Family("queue", "A large queue", (DRAIN, *(steps_cell(size) for size in SIZES)), (US,), run, NOTE)
