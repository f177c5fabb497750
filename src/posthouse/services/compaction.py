# SPDX-License-Identifier: Apache-2.0
"""Gives back the space of dead letters: rows that nothing refers to, packs that hold nothing, packs half dead.

Invariant: an octet is removed only after the unit is committed by which nothing refers to it any more; readers that
hold a view of a removed pack keep it until they let go.
"""

from __future__ import annotations

import hashlib
from functools import partial

from posthouse.ports import Clock, Content, Database, Transaction, Workers
from posthouse.store import garbage
from posthouse.store.blobs.packs import PackStore
from posthouse.store.blobs.record import Record
from posthouse.store.garbage import LiveBlob
from posthouse.telemetry import logger

MOVED_AT_ONCE = 64  # letters read from a pack by one visit to a worker, and moved by one unit of work
MAX_MOVED_OCTETS = 8 << 20  # of one such round: bounds the memory it takes


class Compaction:
    def __init__(self, database: Database, packs: PackStore, workers: Workers, clock: Clock, *, days: float) -> None:
        """`days`: how long octets may be dead at most."""
        self._database = database
        self._packs = packs
        self._workers = workers
        self._clock = clock
        self._days = days
        self._log = logger("compaction")

    async def run(self) -> int:
        """Collect, compact, remove; returns the octets found dead this time. Raises StoreFault."""
        dead = await self._collect()
        now = self._clock.wall()
        for candidate in await self._database.read(lambda reader: garbage.candidates(reader, now, days=self._days)):
            await self._compact(candidate.pack)
        await self._remove_empty()
        return dead

    async def _collect(self) -> int:
        after: int | None = 0
        octets = 0
        while after is not None:
            now = self._clock.wall()
            found = await self._database.read(partial(garbage.find, now=now, after=after))
            if found.blobs:
                collected = await self._database.write(partial(garbage.collect, blobs=found.blobs, now=now))
                octets += collected.octets
            after = found.after
        return octets

    async def _compact(self, pack: int) -> None:
        after, moved = -1, 0
        while True:
            live = await self._database.read(
                partial(garbage.plan_compaction, pack=pack, after=after, limit=MOVED_AT_ONCE)
            )
            if not live:
                break
            records = await self._workers.run(partial(self._read, pack, live))
            if not records:
                self._log.error("pack cannot be compacted", pack=pack)  # `check --store` says which letters are hurt
                return
            await self._database.write(partial(self._move, moves=records))
            after = records[-1][0].location.offset
            moved += len(records)
        self._log.info("compacted", pack=pack, moved=moved)

    def _read(self, pack: int, live: list[LiveBlob]) -> list[tuple[LiveBlob, Content, bytes]]:
        wanted = {blob.location.offset: blob for blob in live}
        found: list[tuple[LiveBlob, Content, bytes]] = []
        octets = 0
        for record in self._packs.records(pack):
            if not isinstance(record, Record):
                continue
            blob = wanted.get(record.location.offset)
            if blob is None or record.location != blob.location:
                continue
            content = bytes(record.content)
            octets += len(content)
            if found and octets > MAX_MOVED_OCTETS:
                break
            digest = hashlib.sha256(content).digest()
            found.append((blob, Content(len(content), digest, octets=content), record.note))
        return found

    def _move(self, tx: Transaction, moves: list[tuple[LiveBlob, Content, bytes]]) -> None:
        now = self._clock.wall()
        for blob, content, note in moves:
            garbage.relocate(tx, blob, content, note, now)

    async def _remove_empty(self) -> None:
        for pack in await self._database.read(garbage.empty_packs):
            if await self._database.write(partial(garbage.forget_pack, pack=pack)):
                await self._packs.remove(pack)
                self._log.info("pack removed", pack=pack)
