# SPDX-License-Identifier: Apache-2.0
"""Playing many trials of a disk in several processes, and what they have in common.

Invariant: a trial is a function of its number, so a failure prints the command that plays it again.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

import structlog

from posthouse.app import House
from posthouse.ports import StoreFault
from posthouse.sim.premises import Premises
from posthouse.sim.promises import Promises
from posthouse.sim.verdict import judge
from posthouse.sim.workload import HOUR

T = TypeVar("T")

DAY = 24 * HOUR
HASH_SEED = "PYTHONHASHSEED"
PROGRESS = 10.0  # seconds between lines of progress where standard error is no terminal
PIECES_PER_PROCESS = 20  # then new ones are begun, so that nothing can pile up in them
MAX_TOLD = 20  # failures that are printed in full
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, where there is one


@dataclass(slots=True)
class Outcome:
    """What some trials came to. `faults`: the number of a trial and what was wrong after it."""

    trials: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    survived: Counter[str] = field(default_factory=Counter)

    def add(self, other: Outcome) -> None:
        self.trials += other.trials
        self.faults += other.faults
        self.survived += other.survived


def scratch() -> tempfile.TemporaryDirectory[str]:
    """In memory where that is possible: nothing here needs to outlive the program."""
    return tempfile.TemporaryDirectory(prefix=_prefix(), dir=MEMORY if MEMORY.is_dir() else None)


def _prefix() -> str:
    """Of the names of this process's folders."""
    return f"posthouse-trial-{os.getpid()}-"


def _begin() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process that waits for trials does not notice that nobody is left to give it any (as sim/cli.py)."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    folder = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
    for left in folder.glob(f"{_prefix()}*"):
        shutil.rmtree(left, ignore_errors=True)
    os._exit(1)


def quietly() -> None:
    """A server in trouble logs a lot; here the trouble is wanted."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


# --- looking ----------------------------------------------------------------------------------------


def start_and_judge(seed: str, home: Path, promises: Promises, *, at: float = 0.0, is_strict: bool = True) -> list[str]:
    """Open what lies there, before anybody works in it; everything that is wrong. `at`: the time of the world."""
    premises = Premises(seed, home, lambda _entry: None, at=at)

    async def look() -> list[str]:
        await premises.open()
        wrong: list[str] = await premises.inside(judge(premises.house, promises, is_strict=is_strict))
        return wrong

    try:
        return run_to_end(premises, look()) + premises.loop.faults
    except StoreFault as fault:
        return [f"it does not start: {fault}"]


async def unsettled(house: House) -> list[str]:
    """What is still on its way after longer than the queue keeps anything, other than by an operator's wish."""
    states = "SELECT address, state FROM queue_recipient WHERE state IN ('due', 'claimed')"
    rows = await house.database.read(lambda reader: reader.rows(states))
    return [f"the queue never lets go of {address}, which is {state}" for address, state in rows]


def run_to_end(premises: Premises, work: Coroutine[Any, Any, T]) -> T:
    try:
        return premises.loop.run(work)
    finally:
        premises.leave()


# --- many -------------------------------------------------------------------------------------------


def run_trials(
    play: Callable[[int, int], Outcome], pieces: Sequence[tuple[int, int]], wanted: int, jobs: int, option: str
) -> int:
    """Play the pieces, tell how it goes and how it ended; the exit code. `option`: of `posthouse sim`."""
    started = time.monotonic()
    total = Outcome()
    progress = _Progress(wanted, option)
    at_once = jobs * PIECES_PER_PROCESS
    for first in range(0, len(pieces), at_once):
        for outcome in _played(play, pieces[first : first + at_once], jobs):
            _told(total, outcome, option)
            progress.show(total)
    sys.stderr.write("\n")
    return _summary(total, time.monotonic() - started, option)


def _played(play: Callable[[int, int], Outcome], pieces: Sequence[tuple[int, int]], jobs: int) -> Iterator[Outcome]:
    """By new processes, as they are done. A pool that renews its processes itself (max_tasks_per_child) may forget to
    and wait for ever: https://github.com/python/cpython/issues/115634, Python 3.11 to 3.14."""
    with (
        one_order_of_sets(),
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin) as pool,
    ):
        futures: list[Future[Outcome]] = [pool.submit(play, first, count) for first, count in pieces]
        for done in as_completed(futures):
            yield done.result()


@contextmanager
def one_order_of_sets() -> Iterator[None]:
    """Processes that begin in here see a set of strings in the same order each time."""
    before = os.environ.get(HASH_SEED)
    os.environ[HASH_SEED] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[HASH_SEED]
        else:
            os.environ[HASH_SEED] = before


class _Progress:
    """One line on standard error: rewritten on a terminal, else a new one now and then."""

    def __init__(self, wanted: int, option: str) -> None:
        self._wanted = wanted
        self._option = option
        self._is_terminal = sys.stderr.isatty()
        self._told_at = time.monotonic()

    def show(self, total: Outcome) -> None:
        now = time.monotonic()
        if not self._is_terminal and now - self._told_at < PROGRESS:
            return
        self._told_at = now
        failed = len({number for number, _ in total.faults})
        text = f"{total.trials} of {self._wanted} {self._option}, {failed} failed"
        sys.stderr.write(f"\r\x1b[K{text}" if self._is_terminal else f"{text}\n")
        sys.stderr.flush()


def _told(total: Outcome, more: Outcome, option: str) -> None:
    told = len({number for number, _ in total.faults})
    total.add(more)
    for number, text in more.faults[: max(MAX_TOLD - told, 0)]:
        _say(f"{number}: {text}\n  {again(number, option)}")


def _summary(total: Outcome, seconds: float, option: str) -> int:
    failed = sorted({number for number, _ in total.faults})
    _say(f"{total.trials} {option} in {seconds:.0f} s, {len(failed)} of them with something lost or wrong")
    for what, count in sorted(total.survived.items()):
        _say(f"{count:8d}  {what}")
    for number in failed[:MAX_TOLD]:
        _say(f"  {again(number, option)}")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def again(number: int, option: str) -> str:
    return f"again: posthouse sim --{option} 1 --from {number}"
