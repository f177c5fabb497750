# SPDX-License-Identifier: Apache-2.0
"""Full and broken disks: a workload in which one operation fails, and then every other one in its turn.

Invariant checked: nothing that was accepted is lost, nothing that was refused is there, a refusal says 452 or 451 (try
again later), and once the disk is well again the server works without a restart. And should the power go after the
fault, what was accepted is there all the same, although a failed sync may have dropped what it was to write.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from random import Random

from posthouse.outcome import SYSTEM_FAULT, SYSTEM_FULL, Status
from posthouse.ports import StoreFault
from posthouse.sim.disklog import Entry, Noted
from posthouse.sim.image import DiskState, Luck, Rule
from posthouse.sim.premises import Premises
from posthouse.sim.promises import Promises
from posthouse.sim.trials import DAY, Outcome, quietly, run_trials, scratch, start_and_judge, unsettled
from posthouse.sim.verdict import judge
from posthouse.sim.workload import Workload

BURSTS = 5
LASTING = 60  # operations for which a disk stays full or broken: some units of work
TRIALS_PER_WORKLOAD = 100_000  # more than operations times manners: numbers of one workload begin with its seed
QUEUE_DAYS = 8  # longer than the queue keeps a letter
# A full disk refuses what needs space; a broken one may refuse anything.
NEEDS_SPACE = frozenset({"open", "write", "sync", "make_folder", "rename"})
PIECE = 25


@dataclass(frozen=True, slots=True)
class Manner:
    """How an operation fails. `is_torn`: half of what was to be written is written first."""

    error: int
    times: int
    is_torn: bool

    @property
    def name(self) -> str:
        lasts = "once" if self.times == 1 else f"{self.times} times"
        return f"{errno.errorcode[self.error]} {lasts}{', writes cut short' if self.is_torn else ''}"


MANNERS = (
    Manner(errno.EIO, 1, is_torn=False),
    Manner(errno.ENOSPC, 1, is_torn=False),
    Manner(errno.EIO, 1, is_torn=True),
    Manner(errno.ENOSPC, LASTING, is_torn=True),
    Manner(errno.EIO, LASTING, is_torn=False),
)


class FailingGate:
    """Counts operations from `armed` on; the `at`th and some after it fail. `where`: what the first one was."""

    def __init__(self, at: int, manner: Manner) -> None:
        self.seen = 0
        self.failed = 0
        self.where = ""
        self.is_shut = False  # nothing fails any more
        self._at = at
        self._manner = manner

    @property
    def is_over(self) -> bool:
        return self.failed >= self._manner.times

    def pass_through(self, operation: str, path: Path) -> None:
        number = self.seen
        self.seen += 1
        if not self._fails(number, operation):
            return
        self.failed += 1
        self.where = self.where or f"{operation} of {path.name}"
        raise OSError(self._manner.error, os.strerror(self._manner.error))

    def shortened(self, path: Path, octets: int) -> int | None:
        return octets // 2 if self._manner.is_torn and self._fails(self.seen, "write") else None

    def _fails(self, number: int, operation: str) -> bool:
        if self.is_shut or self.is_over or number < self._at:
            return False
        return self._manner.error != errno.ENOSPC or operation in NEEDS_SPACE


class Trial:
    """One workload with one fault."""

    def __init__(self, number: int, home: Path) -> None:
        seed, rest = divmod(number, TRIALS_PER_WORKLOAD)
        at, manner = divmod(rest, len(MANNERS))
        self.manner = MANNERS[manner]
        self.gate = FailingGate(at, self.manner)
        self.chance = Random(f"{number}/fault")  # noqa: S311 - reproducible on purpose
        self.log: list[Entry] = []
        self._times: list[float] = []
        self.operations = 0  # up to the point where the disk is well again
        self.first = 0  # entry of the log at which it failed
        self.wrong: list[str] = []
        self.premises = Premises(f"{seed}", home, self._listen, gate=self.gate)
        self.workload = Workload(self.premises)
        self.promises = Promises()

    def _listen(self, entry: Entry) -> None:
        self.log.append(entry)
        self._times.append(self.premises.loop.time())
        if not self.gate.failed:
            self.first = len(self.log)
        if isinstance(entry, Noted):
            self.promises.apply(entry.what)

    def run(self) -> list[str]:
        premises = self.premises
        try:
            premises.loop.run(self._live())
        except StoreFault as fault:
            self.wrong.append(f"it gave up: {fault}")
        except Exception:
            self.wrong.append(f"it broke:\n{traceback.format_exc()}")
        finally:
            premises.leave()
        place = f"{self.gate.where}: {self.manner.name}"
        return [f"{place}: {text}" for text in [*self.wrong, *premises.loop.faults]]

    async def _live(self) -> None:
        workload, premises = self.workload, self.premises
        await workload.begin()
        for number in range(BURSTS):
            await workload.day(number, BURSTS)
        self.operations = self.gate.seen
        self.gate.is_shut = True  # a fault whose turn has not come yet comes no more
        self.wrong += [f"refused with {each}" for each in workload.refusals if each.status not in self._answers()]
        workload.trouble.clear()
        premises.outside.mood = 1.0
        await workload.burst()
        await asyncio.sleep(QUEUE_DAYS * DAY)
        self.wrong += await premises.inside(unsettled(premises.house))
        await workload.burst()
        self.wrong += [f"well again, and still: {text}" for text in workload.trouble]
        self.wrong += await premises.inside(judge(premises.house, self.promises))
        await premises.stop()
        await premises.start()
        again = await premises.inside(judge(premises.house, self.promises))
        self.wrong += [f"after a restart: {text}" for text in again]

    def _answers(self) -> tuple[Status, ...]:
        """What may be said while it fails: 451, and that there is no space only where there is none (452)."""
        return (SYSTEM_FAULT, SYSTEM_FULL) if self.manner.error == errno.ENOSPC else (SYSTEM_FAULT,)

    def cut(self, home: Path) -> list[str]:
        """The same, with a power cut some time after the fault."""
        position = self.chance.randint(self.first, len(self.log))
        disk, promises = DiskState(self.chance.choice(list(Rule))), Promises()
        for entry in self.log[:position]:
            if isinstance(entry, Noted):
                promises.apply(entry.what)
            disk.apply(entry)
        home.mkdir()
        disk.image(Luck.drawn(self.chance)).write(home / "1")
        at = self._times[position - 1] if position else 0.0
        found = start_and_judge("cut", home, promises, at=at, is_strict=False)
        return [f"{self.gate.where}: {self.manner.name}: and a power cut: {text}" for text in found]


def play(first: int, count: int) -> Outcome:
    quietly()
    outcome = Outcome()
    for number in range(first, first + count):
        with scratch() as name:
            home = Path(name) / "home"
            home.mkdir()
            trial = Trial(number, home)
            outcome.trials += 1
            outcome.faults += [(number, text) for text in trial.run()]
            outcome.faults += [(number, text) for text in trial.cut(Path(name) / "cut")]
            outcome.survived[trial.manner.name if trial.gate.failed else "no fault, the workload ended before"] += 1
        del trial
        gc.collect()  # a killed server is a knot of objects; some megabytes each would pile up
    return outcome


def operations(seed: int) -> int:
    """How many there are in a workload without faults."""
    quietly()
    with scratch() as name:
        trial = Trial(seed * TRIALS_PER_WORKLOAD, Path(name))
        trial.gate.is_shut = True
        trial.run()
        return trial.operations


def run(trials: int, from_seed: int, jobs: int) -> int:
    """Play that many faults; 0 when nothing was lost."""
    return run_trials(play, pieces(trials, from_seed), trials, jobs, "faults")


def pieces(trials: int, from_seed: int) -> list[tuple[int, int]]:
    """(first, count), one workload after another, each with all its operations."""
    found: list[tuple[int, int]] = []
    number, left = from_seed, trials
    while left > 0:
        seed = number // TRIALS_PER_WORKLOAD
        end = seed * TRIALS_PER_WORKLOAD + operations(seed) * len(MANNERS)
        while number < end and left > 0:
            count = min(PIECE, left, end - number)
            found.append((number, count))
            number += count
            left -= count
        number = (seed + 1) * TRIALS_PER_WORKLOAD
    return found
