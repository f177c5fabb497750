# SPDX-License-Identifier: Apache-2.0
"""Gives back the space of dead letters: rows that nothing refers to, packs that hold nothing, packs half dead.

Invariant: an octet is removed only after the unit is committed by which nothing refers to it any more; readers that
hold a view of a removed pack keep it until they let go. Every living letter keeps a record with its note. A crash
between two steps leaves octets twice, never none: the next run goes on from the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from posthouse.ports import BlobLocation, Clock, Content, Database, StoreFault, Transaction, Workers
from posthouse.store import garbage, holds
from posthouse.store.blobs.packs import PackStore
from posthouse.store.blobs.record import Damage, Record, RecordKind
from posthouse.store.garbage import LiveBlob
from posthouse.telemetry import logger

MOVED_AT_ONCE = 64  # letters read from a pack by one visit to a worker, and moved by one unit of work
MAX_MOVED_OCTETS = 8 << 20  # of one such round: bounds the memory it takes

Records = Iterator[Record | Damage]
Reference = tuple[BlobLocation, bytes]  # where a letter with a pack of its own lies, and its note


@dataclass(slots=True)
class _Round:
    """What one visit to a worker read: letters to move, and up to which place of the pack."""

    moves: list[tuple[LiveBlob, Content, bytes]] = field(default_factory=list)
    octets: int = 0
    reached: int = -1


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
        if await self._is_held():
            return dead
        # First what costs no space: on a full disk this makes the room that moving needs.
        for pack in await self._database.read(garbage.empty_packs):
            await self._attempt(pack, self._remove)
        now = self._clock.wall()
        for candidate in await self._database.read(lambda reader: garbage.candidates(reader, now, days=self._days)):
            await self._attempt(candidate.pack, self._compact)
        return dead

    async def _is_held(self) -> bool:
        """Whether a backup under way wants every pack as it is. What it kept from going goes with the next sweep."""
        if not await self._database.read(holds.running):
            return False
        await self._database.write(partial(holds.end_expired, now=self._clock.wall()))
        held = await self._database.read(holds.running)
        if held:
            self._log.info("packs are held by a backup", backups=len(held))
        return bool(held)

    async def _attempt(self, pack: int, step: Callable[[int], Awaitable[None]]) -> None:
        """One pack that cannot be read or moved now keeps none of the others from being given back."""
        try:
            await step(pack)
        except StoreFault as fault:
            self._log.error("pack not given back", pack=pack, reason=str(fault))

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

    # --- letters ----------------------------------------------------------------------------------

    async def _compact(self, pack: int) -> None:
        records = await self._workers.run(partial(self._packs.records, pack))
        after, moved = -1, 0
        while live := await self._database.read(
            partial(garbage.plan_compaction, pack=pack, after=after, limit=MOVED_AT_ONCE)
        ):
            read = await self._workers.run(partial(_read, records, live))
            if read.moves:
                await self._database.write(partial(self._move, moves=read.moves))
            after = read.reached
            moved += len(read.moves)
        self._log.info("compacted", pack=pack, moved=moved)
        if await self._database.read(partial(garbage.plan_compaction, pack=pack, limit=1)):
            self._log.error("pack holds letters that cannot be read", pack=pack)  # `check --store` says which
        else:
            await self._remove(pack)

    def _move(self, tx: Transaction, moves: list[tuple[LiveBlob, Content, bytes]]) -> None:
        now = self._clock.wall()
        for blob, content, note in moves:
            garbage.relocate(tx, blob, content, note, now)

    # --- packs ------------------------------------------------------------------------------------

    async def _remove(self, pack: int) -> None:
        """Let a pack go that holds no letter any more."""
        await self._carry(pack)
        if await self._database.write(partial(garbage.forget_pack, pack=pack)):
            await self._packs.remove(pack)
            self._log.info("pack removed", pack=pack)

    async def _carry(self, pack: int) -> None:
        """Write down anew what this pack alone knows of letters that have packs of their own: their notes."""
        records = await self._workers.run(partial(self._packs.records, pack, is_checked=False))
        while references := await self._workers.run(partial(_references, records)):
            await self._database.write(partial(_carry, references=references))


def _read(records: Records, live: list[LiveBlob]) -> _Round:
    """Read on until these letters are found; `live` is in order of place, and so are the records."""
    wanted = {blob.location.offset: blob for blob in live}
    last = live[-1].location
    read = _Round(reached=last.offset)
    for record in records:
        if isinstance(record, Record) and record.kind is RecordKind.CONTENT:
            blob = wanted.get(record.location.offset)
            if blob is not None and record.location == blob.location:
                content = bytes(record.content)
                read.octets += len(content)
                digest = hashlib.sha256(content).digest()
                read.moves.append((blob, Content(len(content), digest, octets=content), record.note))
                if read.octets > MAX_MOVED_OCTETS:
                    read.reached = blob.location.offset
                    break
        if record.end >= last.offset + last.length:
            break
    return read


def _references(records: Records) -> list[Reference]:
    """The next ones of a pack; none: that was all."""
    found: list[Reference] = []
    for record in records:
        if isinstance(record, Record) and record.kind is RecordKind.REFERENCE:
            found.append((record.location, record.note))
            if len(found) == MOVED_AT_ONCE:
                break
    return found


def _carry(tx: Transaction, references: list[Reference]) -> None:
    for location, note in references:
        garbage.carry(tx, location, note)
