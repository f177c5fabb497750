# SPDX-License-Identifier: Apache-2.0
"""What must be done from time to time: the daily snapshot, forgetting old history, tombstones and dead letters.

Invariant: each job sleeps until its next time; a job that fails is logged and tried at its next time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from posthouse.config import Store
from posthouse.ports import Clock, Database, Disk, Workers
from posthouse.services.compaction import Compaction
from posthouse.services.queue_desk import QueueDesk
from posthouse.store import integrity, journal, threads
from posthouse.telemetry import logger

DAY = 86400.0
SUFFIX = ".sqlite3"
SWEEP = 3600.0  # seconds between sweeps; what they remove has waited for days already


class Housekeeping:
    def __init__(
        self,
        database: Database,
        desk: QueueDesk,
        clock: Clock,
        compaction: Compaction,
        *,
        folder: Path,
        disk: Disk,
        workers: Workers,
        store: Store,
        keep_history: float,
        chores: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """`folder` takes the snapshots, named by their day. `chores`: what others want done at every sweep."""
        self._database = database
        self._desk = desk
        self._clock = clock
        self._compaction = compaction
        self._folder = folder
        self._disk = disk
        self._workers = workers
        self._store = store
        self._keep_history = keep_history
        self._chores = tuple(chores)
        self._tasks: list[asyncio.Task[None]] = []
        self._threads_due = -math.inf  # monotonic: the first sweep does it too
        self._log = logger("housekeeping")

    def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._repeat(lambda: SWEEP, self.sweep)))
        if self._store.snapshot:
            self._tasks.append(asyncio.create_task(self._repeat(self.until_snapshot, self.snapshot)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def until_snapshot(self) -> float:
        """Seconds until the next time of day that the settings name (UTC).

        Sooner where yesterday's is missing too: a machine that sleeps at that hour would never have one.
        """
        now = self._clock.wall()
        hours, minutes = self._store.snapshot.split(":")
        wanted = int(hours) * 3600 + int(minutes) * 60
        pause = (wanted - now % DAY) % DAY or DAY
        names = self._names()
        is_late = not names or names[-1] < _name(now - DAY)
        return min(pause, SWEEP) if is_late else pause

    def _names(self) -> list[str]:
        """Of the snapshots there are, oldest first."""
        return [each for each in self._disk.names(self._folder) if each.endswith(SUFFIX)]

    async def snapshot(self) -> None:
        """Write today's snapshot and remove those that are too many. Raises StoreFault."""
        name = _name(self._clock.wall())
        await self._database.snapshot(self._folder / name)
        old = self._names()
        for each in old[: -self._store.snapshots_kept]:
            await self._workers.run(partial(self._disk.unlink, self._folder / each))
        self._log.info("snapshot written", name=name, kept=min(len(old), self._store.snapshots_kept))

    async def sweep(self) -> None:
        """Forget what its time has passed for. A part that fails is logged, and keeps none of the others from theirs:
        most of all the one that makes room on a full disk."""
        own = (self._forget_history, self._forget_changes, self._forget_threads, self._give_back)
        # What others want comes last: it may wait for other hosts, and a full disk does not.
        for part in (*own, *self._chores):
            try:
                await part()
            except Exception as fault:
                self._log.exception("sweep failed", part=getattr(part, "__name__", "").lstrip("_"), reason=repr(fault))

    async def _forget_history(self) -> None:
        rows = await self._desk.purge(self._keep_history)
        if rows:
            self._log.info("swept", rows=rows)

    async def _forget_changes(self) -> None:
        before = self._clock.wall() - self._store.keep_tombstones
        after = 0
        while accounts := await self._database.read(partial(journal.accounts_to_purge, before=before, after=after)):
            for account in accounts:
                while await self._database.write(partial(journal.purge, account=account, before=before)):
                    pass
            after = accounts[-1]

    async def _forget_threads(self) -> None:
        """Once a day: it walks through all keys of all accounts."""
        now = self._clock.monotonic()
        if now < self._threads_due:
            return
        self._threads_due = now + DAY
        async for account in self._accounts():
            after: int | None = -1
            while after is not None:
                after = await self._database.write(partial(threads.purge, account=account, after=after))

    async def _give_back(self) -> None:
        octets = await self._compaction.run()
        if octets:
            self._log.info("swept", dead_octets=octets)

    async def _accounts(self) -> AsyncIterator[int]:
        after = 0
        while accounts := await self._database.read(partial(integrity.accounts, after=after)):
            for account in accounts:
                yield account
            after = accounts[-1]

    async def _repeat(self, pause: Callable[[], float], job: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause())
            try:
                await job()
            except Exception as fault:
                self._log.exception("job failed", job=getattr(job, "__name__", ""), reason=repr(fault))


def _name(now: float) -> str:
    return f"{int(now // DAY):06d}{SUFFIX}"  # days since the epoch: sorts by age
