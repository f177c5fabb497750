# SPDX-License-Identifier: Apache-2.0
"""Power cuts: record a workload, cut the power at every sync point and between, start again, and look.

Invariant: a cut is a function of its number alone: `posthouse sim --cuts 1 --from NUMBER` plays it again. Each group of
CUTS_PER_WORKLOAD numbers shares one recorded workload; what the disk holds afterwards, the cut draws itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random

from posthouse.ports import StoreFault
from posthouse.sim.disklog import Entry, FolderSynced, Noted, Synced
from posthouse.sim.image import DiskState, Luck, Rule
from posthouse.sim.premises import Premises
from posthouse.sim.promises import Promises
from posthouse.sim.trials import DAY, Outcome, quietly, run_to_end, run_trials, scratch, start_and_judge, unsettled
from posthouse.sim.verdict import check_database, judge
from posthouse.sim.wal import Commits
from posthouse.sim.workload import HOUR, Workload, record
from posthouse.store.databases.sqlite import DATABASE_FILE

# Recording a workload takes as long as some ten cuts, so it is shared; numbers stay short.
CUTS_PER_WORKLOAD = 500
BURSTS = 12  # about 300 sync points
# Then no other burst begins: one and the last stop come to less than a hundred, so that each sync point has its cut.
ENOUGH_SYNCS = 320
SECOND_CUTS = 0.2  # share of the cuts after which the power goes again during recovery
AFTERLIVES = 0.15  # share of the cuts after which the server works on, stops, and is looked at once more
AFTER_BURSTS = 2
CUTS_PER_CLEANING = 10
PIECE = 125  # cuts that a worker process plays at a time: progress is seen, and the recording is paid for
QUEUE_DAYS = 7  # longer than the queue keeps a letter


# --- one workload -----------------------------------------------------------------------------------


class Recording:
    """A workload's log, walked through once, with the disk, the promises and the commits at each point."""

    def __init__(self, seed: str, folder: Path, *, bursts: int = BURSTS) -> None:
        played = record(seed, folder, bursts=bursts, enough_syncs=ENOUGH_SYNCS)
        self.log, self.times, self.trouble = played.log, played.times, played.trouble
        self.syncs = [n for n, entry in enumerate(self.log) if isinstance(entry, Synced | FolderSynced)]
        self.position = 0
        self.disks = {rule: DiskState(rule) for rule in Rule}
        self.promises = Promises()
        self.commits = Commits(DATABASE_FILE)
        self.promised = 0  # commits

    def go_to(self, position: int) -> None:
        """Forward only."""
        for entry in self.log[self.position : position]:
            if isinstance(entry, Noted):
                self.promises.apply(entry.what)
                self.promised = len(self.commits.states) - 1
                continue
            for disk in self.disks.values():
                disk.apply(entry)
            self.commits.apply(entry)
        self.position = position

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.times[self.position - 1] if self.position else 0.0


class Moment(StrEnum):
    BEFORE_SYNC = "a sync had not come back"
    AFTER_SYNC = "a sync had just come back"
    ANY = "anywhere"


@dataclass(frozen=True, slots=True)
class Cut:
    number: int
    position: int  # entries of the log that were done
    moment: Moment
    rule: Rule
    chance: Random


def plan(number: int, log: list[Entry], syncs: list[int]) -> Cut:
    """Where a cut comes: each sync point has one, right before it or right after it; the others come anywhere."""
    chance = Random(f"{number}/cut")  # noqa: S311 - reproducible on purpose
    index = number % CUTS_PER_WORKLOAD
    if index < len(syncs):
        is_done = chance.randrange(2)
        position = syncs[index] + is_done
        moment = Moment.AFTER_SYNC if is_done else Moment.BEFORE_SYNC
    else:
        position, moment = chance.randint(0, len(log)), Moment.ANY
    return Cut(number, position, moment, chance.choice(list(Rule)), chance)


def play(first: int, count: int) -> Outcome:
    """Cuts of one workload, from `first` on."""
    quietly()
    outcome = Outcome()
    with scratch() as name:
        folder = Path(name)
        (folder / "recorded").mkdir()
        recording = Recording(f"{first // CUTS_PER_WORKLOAD}", folder / "recorded")
        shutil.rmtree(folder / "recorded")
        outcome.faults += [(first, f"the workload itself: {text}") for text in recording.trouble]
        cuts = [plan(number, recording.log, recording.syncs) for number in range(first, first + count)]
        for cut in sorted(cuts, key=lambda cut: (cut.position, cut.number)):
            recording.go_to(cut.position)
            target = folder / str(cut.number)
            outcome.trials += 1
            try:
                wrong = one_cut(cut, recording, target, outcome.survived)
            except Exception:
                wrong = [f"it broke:\n{traceback.format_exc()}"]
            outcome.faults += [(cut.number, text) for text in wrong]
            shutil.rmtree(target, ignore_errors=True)
            if outcome.trials % CUTS_PER_CLEANING == 0:
                gc.collect()  # a server that was left is a knot of objects, with open files in it
    return outcome


def one_cut(cut: Cut, recording: Recording, target: Path, survived: Counter[str]) -> list[str]:
    """Everything that is wrong after it."""
    image = recording.disks[cut.rule].image(Luck.drawn(cut.chance))
    target.mkdir()
    home = target / "cut"
    home.mkdir()
    image.write(home / "1")
    survived[f"by the rule of {cut.rule}"] += 1
    survived[f"where {cut.moment}" if cut.moment is not Moment.ANY else cut.moment.value] += 1
    wrong = check_database(home / "1", recording.commits.states, recording.promised)
    if cut.chance.random() < SECOND_CUTS:
        survived["a second cut during recovery"] += 1
        home = _cut_again(cut, recording.now, home, target / "again")
    if cut.chance.random() < AFTERLIVES:
        survived["days of work after it"] += 1
        return wrong + after_life(f"{cut.number}/after", home, recording.promises, at=recording.now)
    return wrong + start_and_judge(f"{cut.number}/start", home, recording.promises, at=recording.now)


def _cut_again(cut: Cut, now: float, home: Path, target: Path) -> Path:
    """Start on the image, cut the power while that goes on or right after, and give the home of what is left."""
    log: list[Entry] = []
    disk = DiskState(cut.rule)
    premises = Premises(f"{cut.number}/recovery", home, log.append, disks=[disk], at=now)
    with contextlib.suppress(StoreFault):  # the next start says it again, and then it counts
        run_to_end(premises, premises.start())
    for entry in log[: cut.chance.randint(0, len(log))]:
        disk.apply(entry)
    target.mkdir()
    disk.image(Luck.drawn(cut.chance)).write(target / "1")
    return target


def after_life(seed: str, home: Path, before: Promises, *, at: float) -> list[str]:
    """The server works on where it stands: letters come in beside the old ones, the queue empties, it stops."""
    promises = before.copy()

    def listen(entry: Entry) -> None:
        if isinstance(entry, Noted):
            promises.apply(entry.what)

    premises = Premises(seed, home, listen, mood=1.0, at=at)
    workload = Workload(premises)
    workload.count = max(promises.letters, default=0)
    workload.accounts = sorted(promises.accounts)

    async def live() -> list[str]:
        await premises.open()
        wrong: list[str] = await premises.inside(judge(premises.house, promises))
        if not promises.accepted or wrong:  # the founding was not done, or the worst is known
            return wrong
        await premises.serve()
        for _ in range(AFTER_BURSTS):
            await workload.burst()
            await asyncio.sleep(HOUR)
        await asyncio.sleep(QUEUE_DAYS * DAY)
        wrong = await premises.inside(unsettled(premises.house))
        await premises.stop()
        await premises.start()
        return wrong + list(await premises.inside(judge(premises.house, promises)))

    try:
        wrong = run_to_end(premises, live())
    except StoreFault as fault:
        wrong = [f"it does not start: {fault}"]
    return [f"afterwards: {text}" for text in [*wrong, *workload.trouble, *premises.loop.faults]]


# --- many -------------------------------------------------------------------------------------------


def pieces(cuts: int, from_seed: int) -> Iterator[tuple[int, int]]:
    """(first, count): none reaches over the end of a workload."""
    number, end = from_seed, from_seed + cuts
    while number < end:
        count = min(PIECE, end - number, CUTS_PER_WORKLOAD - number % CUTS_PER_WORKLOAD)
        yield number, count
        number += count


def run(cuts: int, from_seed: int, jobs: int) -> int:
    """Play that many cuts, tell how it goes, and how it ended: 0 when nothing was lost."""
    return run_trials(play, list(pieces(cuts, from_seed)), cuts, jobs, "cuts")
