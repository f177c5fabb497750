# SPDX-License-Identifier: Apache-2.0
"""The house's own part in a backup: it holds every pack still and gives a snapshot of the database.

Invariant: from `begin` to `end` (or until the hold runs out) every pack that the snapshot refers to stays in its place.
The copying is the work of whoever asked, from the files, beside the server and not in it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from posthouse.outcome import Refusal, Status
from posthouse.ports import Clock, Database, Disk, Workers
from posthouse.store import holds
from posthouse.telemetry import logger

FOLDER = "backup"  # within the data directory: snapshots of backups under way
SUFFIX = ".sqlite3"
# Who copies renews its hold every few minutes (`RENEW_SECONDS`). One that was killed keeps dead octets on the disk
# for an hour, and a laptop that slept for less goes on.
HOLD_SECONDS = 3600.0
RENEW_SECONDS = 300.0
_RAN_OUT = Status(4, 3, 0)


@dataclass(frozen=True, slots=True)
class Hold:
    """`file` is the snapshot, within `FOLDER`. Everything acknowledged before `taken_at` is in it."""

    id: int
    file: str
    taken_at: float


class Backups:
    def __init__(self, database: Database, disk: Disk, workers: Workers, clock: Clock, *, folder: Path) -> None:
        """`folder` takes the snapshots."""
        self._database = database
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._folder = folder
        self._log = logger("backup")

    async def begin(self) -> Hold:
        """Hold the packs, then take the snapshot. Raises StoreFault."""
        await self._forget_dead_ones()
        now = self._clock.wall()
        hold = await self._database.write(partial(holds.begin, now=now, until=now + HOLD_SECONDS))
        name = f"{hold}{SUFFIX}"
        try:
            await self._database.snapshot(self._folder / name)
            await self.renew(hold)  # a snapshot of a large house takes its time
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong first is told
                await self.end(hold)
            raise
        self._log.info("backup begins", hold=hold)
        return Hold(hold, name, now)

    async def renew(self, hold: int) -> None:
        """Raises Refusal when the hold has run out: packs may have gone since."""
        now = self._clock.wall()
        if not await self._database.write(partial(holds.renew, hold=hold, now=now, until=now + HOLD_SECONDS)):
            raise Refusal(_RAN_OUT, "the backup stood still for too long and holds nothing any more; begin it again")

    async def end(self, hold: int) -> None:
        """Let the packs go and remove the snapshot. To end twice is harmless."""
        await self._workers.run(partial(self._remove, f"{hold}{SUFFIX}"), pool="disk")
        if await self._database.write(partial(holds.end, hold=hold)):
            self._log.info("backup ends", hold=hold)

    async def _forget_dead_ones(self) -> None:
        """Backups that were killed: their holds that ran out, and the snapshots that nobody holds."""
        await self._database.write(partial(holds.end_expired, now=self._clock.wall()))
        alive = {f"{hold}{SUFFIX}" for hold in await self._database.read(holds.running)}
        names = await self._workers.run(partial(self._disk.names, self._folder), pool="disk")
        for name in names:
            if name.removesuffix(".part") not in alive:
                await self._workers.run(partial(self._remove, name), pool="disk")

    def _remove(self, name: str) -> None:
        if name in self._disk.names(self._folder):
            with contextlib.suppress(OSError):  # it costs space, and the next backup tries again
                self._disk.unlink(self._folder / name)
