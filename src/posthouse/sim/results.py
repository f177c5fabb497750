# SPDX-License-Identifier: Apache-2.0
"""What one world came to, as plain values that pass from process to process; and playing one.

Invariant: whatever happens in a world, an error of its own script too, becomes a result.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from posthouse.sim import small, town, world
from posthouse.sim.accounting import Account
from posthouse.sim.foundations import Foundations
from posthouse.sim.ledger import Finding
from posthouse.sim.life import life_of
from posthouse.sim.world import World

SEEDS, TOWNS = "seeds", "towns"  # kinds of worlds, named as the options of the command
MAX_LIVES = 3  # letters whose lives are told of one failed world
LOG_LINES = 40  # of a failed world's end, when no letter is concerned


@dataclass(slots=True)
class Result:
    """`digest` of the whole log: two runs of a seed have the same. `problems` empty is good; `told` is what explains
    them, line by line. `seconds` of the processor."""

    kind: str
    seed: int
    days: float = 0.0
    seconds: float = 0.0
    digest: str = ""
    letters: int = 0
    accepted: int = 0
    delivered: int = 0
    reported: int = 0
    waiting: int = 0
    dropped: int = 0
    duplicates: int = 0
    survived: Counter[str] = field(default_factory=Counter)
    deeds: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


class Player:
    """Plays worlds of both kinds; the foundations of their servers are made once, at first need."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="posthouse-sim-", dir=world.work_folder())
        self._foundations = Foundations(Path(self._folder.name))

    def close(self) -> None:
        self._folder.cleanup()

    def play(self, kind: str, seed: int) -> Result:
        script, plans = (town.town, town.PLANS) if kind == TOWNS else (small.small_world, small.PLANS)
        self._foundations.prepare(plans)
        result = Result(kind, seed)
        begun = time.process_time()
        made: list[World] = []

        async def remembered(each: World) -> Account:
            made.append(each)
            return await script(each)

        try:
            _, account = world.run(seed, remembered, self._foundations)
        except Exception:
            result.problems.append(f"the world ended with an error:\n{traceback.format_exc()}")
            log, findings = made[0].log if made else [], []
        else:
            log, findings = made[0].log, account.findings
            _fill(result, account)
            result.problems += [str(each) for each in findings] + made[0].faults
        result.seconds = time.process_time() - begun
        result.digest = sha256("\n".join(log).encode()).hexdigest()[:16]
        if result.problems:
            result.told = explanation(log, findings)
        return result


def explanation(log: Sequence[str], findings: Sequence[Finding]) -> list[str]:
    """The lives of the letters that something is wrong with; else the end of the log."""
    letters = list(dict.fromkeys(each.letter for each in findings if each.letter))[:MAX_LIVES]
    told: list[str] = []
    for letter in letters:
        told += [f"the life of <{letter}>:", *(f"  {line}" for line in life_of(log, letter))]
    return told or ["the end of its log:", *(f"  {line}" for line in log[-LOG_LINES:])]


def _fill(result: Result, account: Account) -> None:
    result.days = account.days
    result.letters, result.accepted, result.delivered = account.letters, account.accepted, account.delivered
    result.reported, result.waiting, result.dropped = account.reported, account.waiting, account.dropped
    result.duplicates = account.duplicates
    result.survived, result.deeds = account.survived, account.deeds
