# SPDX-License-Identifier: Apache-2.0
"""`posthouse sim`: worlds by seed, in parallel. Invariant: the same seed gives the same world, in any process."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from typing import Any

from posthouse.sim import cuts, faults
from posthouse.sim.results import TOWNS, Player, Result
from posthouse.sim.trials import one_order_of_sets

LISTED = 20  # up to so many worlds each gets a line of its own
FAILURES_TOLD = 10  # in full; of all others the numbers
AHEAD = 4  # worlds given to each process before the first of them is back
WORLDS_PER_PROCESS = 1000  # then a new one is begun, so that nothing can pile up in it
PROGRESS = 10.0  # seconds between lines of progress where standard error is no terminal


def run(kind: str, count: int, from_seed: int, jobs: int | None = None) -> tuple[int, dict[str, Any]]:
    """Play that many; the exit code (0 when none failed) and what came of it. `kind`: seeds, towns, cuts, faults."""
    jobs = min(jobs or os.cpu_count() or 1, count)
    if kind in ("cuts", "faults"):
        trial = cuts.run if kind == "cuts" else faults.run
        return trial(count, from_seed, jobs), {"kind": kind, "count": count, "from": from_seed}
    summary = follow(played(kind, range(from_seed, from_seed + count), jobs), kind, count)
    return (1 if summary.failed else 0), summary.document()


# --- playing ----------------------------------------------------------------------------------------

_player: list[Player] = []  # of a process that plays: made when it begins, one for all its worlds


def _begin() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _player.append(Player())


def _end_with_parent() -> None:
    """A process that waits for worlds to play does not notice that nobody is left to give it any."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    for player in _player:
        player.close()
    os._exit(1)


def _play(kind: str, seed: int) -> Result:
    return _player[0].play(kind, seed)


def played(kind: str, seeds: range, jobs: int) -> Iterator[Result]:
    """Results in the order of their seeds. The processes are new now and then, with a new pool: one that renews its
    processes itself (max_tasks_per_child) may wait for ever, see `trials`."""
    at_once = jobs * WORLDS_PER_PROCESS
    for first in range(0, len(seeds), at_once):
        with (
            one_order_of_sets(),
            ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin) as pool,
        ):
            yield from _in_turn(pool, kind, seeds[first : first + at_once], jobs * AHEAD)


def _in_turn(pool: ProcessPoolExecutor, kind: str, seeds: range, ahead: int) -> Iterator[Result]:
    """Never more than so many worlds are given out."""
    waiting: deque[Future[Result]] = deque()
    for seed in seeds:
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
        waiting.append(pool.submit(_play, kind, seed))
    while waiting:
        yield waiting.popleft().result()


# --- telling ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Summary:
    """Sums over worlds."""

    kind: str
    started: float
    worlds: int = 0
    days: float = 0.0
    seconds: float = 0.0  # of processors
    counts: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    deeds: Counter[str] = field(default_factory=Counter)
    failed: dict[int, list[str]] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        self.worlds += 1
        self.days += result.days
        self.seconds += result.seconds
        for name in ("letters", "accepted", "delivered", "reported", "waiting", "dropped", "duplicates"):
            self.counts[name] += getattr(result, name)
        self.survived += result.survived
        self.deeds += result.deeds
        if result.problems:
            self.failed[result.seed] = result.problems

    def document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "worlds": self.worlds,
            "days": round(self.days, 1),
            "processor_seconds": round(self.seconds, 1),
            "wall_seconds": round(time.monotonic() - self.started, 1),
            **self.counts,
            "faults_survived": dict(sorted(self.survived.items())),
            "deeds": dict(sorted(self.deeds.items())),
            "failed": {str(seed): problems for seed, problems in sorted(self.failed.items())},
        }


def follow(results: Iterator[Result], kind: str, count: int) -> Summary:
    """Tell how it goes, and at the end how it went."""
    summary = Summary(kind, time.monotonic())
    progress = _Progress(summary, count)
    for result in results:
        summary.add(result)
        if result.problems:
            progress.clear()
            _tell_failure(result, len(summary.failed))
        elif count <= LISTED:
            progress.clear()
            _say(line_of(result))
        progress.show()
    progress.clear()
    _tell_sums(summary)
    return summary


def line_of(result: Result) -> str:
    return (
        f"{result.kind} {result.seed}: {result.letters} letters in {result.days:.0f} days; {result.accepted} recipients"
        f" accepted: {result.delivered} delivered, {result.reported} reported, {result.waiting} waiting,"
        f" {result.dropped} dropped; {result.survived.total()} faults survived; log {result.digest}"
    )


def again(kind: str, seed: int) -> str:
    """The command that plays it once more."""
    return f"posthouse sim --{kind} 1 --from {seed}"


def _tell_failure(result: Result, number: int) -> None:
    if number > FAILURES_TOLD:
        _say(f"{result.kind} {result.seed} FAILED: {result.problems[0].splitlines()[0]}")
        return
    _say(f"{result.kind} {result.seed} FAILED; to see it again: {again(result.kind, result.seed)}")
    for problem in result.problems:
        _say(f"  {problem}")
    for line in result.told:
        _say(f"  {line}")


def _tell_sums(summary: Summary) -> None:
    counts, name = summary.counts, "towns" if summary.kind == TOWNS else "small worlds"
    _say(
        f"{summary.worlds} {name}, {summary.days:,.0f} days, {counts['letters']:,} letters:"
        f" {counts['accepted']:,} recipients accepted, {counts['delivered']:,} delivered, {counts['reported']:,}"
        f" reported, {counts['waiting']:,} waiting, {counts['dropped']:,} dropped by operators;"
        f" {counts['duplicates']:,} copies more than one, where an answer was lost"
    )
    _say(f"faults survived: {_counted(summary.survived)}")
    _say(f"deeds of operators and readers: {_counted(summary.deeds)}")
    wall = time.monotonic() - summary.started
    _say(f"{summary.seconds:,.0f} s of processors, {wall:,.0f} s; {summary.seconds / summary.worlds:.2f} s for each")
    if summary.failed:
        seeds = sorted(summary.failed)
        _say(f"{len(seeds)} of {summary.worlds} FAILED: {', '.join(map(str, seeds))}")
        _say(f"to see one again: {again(summary.kind, seeds[0])}")
    else:
        _say("no letter lost, nothing found wrong")


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())) or "none"


class _Progress:
    """One line on standard error: rewritten on a terminal, else a new one now and then."""

    def __init__(self, summary: Summary, count: int) -> None:
        self._summary = summary
        self._count = count
        self._is_terminal = sys.stderr.isatty()
        self._told_at = time.monotonic()

    def show(self) -> None:
        now = time.monotonic()
        if not self._is_terminal and now - self._told_at < PROGRESS:
            return
        self._told_at = now
        summary = self._summary
        text = (
            f"{summary.worlds} of {self._count} {summary.kind}, {summary.survived.total():,} faults survived,"
            f" {len(summary.failed)} failed, {now - summary.started:.0f} s"
        )
        sys.stderr.write(f"\r\x1b[K{text}" if self._is_terminal else f"{text}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
