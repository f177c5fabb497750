# SPDX-License-Identifier: Apache-2.0
"""What `posthouse check --store --repair` does to the store, each step a small unit of work of its own.

Invariant: a step writes only what rows, notes or whole copies tell for certain; whoever comes in between finds a store
that is no worse than before. Hurt octets are never touched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from posthouse.outcome import INVALID_ARGUMENTS, Refusal
from posthouse.ports import Change, ChangeBus, Clock, Content, Database, StoreFault, Transaction, Workers
from posthouse.services.pack_walk import HurtBlob, LostRows, WrongRow
from posthouse.store import damage, integrity, noted, orphans, rebuild, recovered, rules, salvage
from posthouse.store.blobs import ledger
from posthouse.store.blobs.ledger import PackRow, PackState
from posthouse.store.blobs.packs import PackStore
from posthouse.store.blobs.record import Record, RecordKind
from posthouse.store.blobs.spool import SPOOL_CHUNK, SPOOL_THRESHOLD
from posthouse.store.damage import PlacedBlob
from posthouse.store.directory import said
from posthouse.store.orphans import Orphan
from posthouse.store.recovered import Names
from posthouse.store.rules import Rule
from posthouse.store.salvage import Copy, Wanted

T = TypeVar("T")
PAGE = 500  # rows of a pack looked at at once


class StoreRepair:
    def __init__(
        self,
        database: Database,
        packs: PackStore,
        workers: Workers,
        clock: Clock,
        bus: ChangeBus,
        *,
        hostname: str,
        source: Path | None,
    ) -> None:
        """`source`: a folder of backups, or another data directory, to take whole letters from.

        Raises Refusal when it holds no packs.
        """
        self._database = database
        self._packs = packs
        self._workers = workers
        self._clock = clock
        self._bus = bus
        self._hostname = hostname
        self._source = source
        if source is not None and not salvage.holds_packs(packs.shelf.disk, source):
            raise Refusal(INVALID_ARGUMENTS, f"{said(source)} holds no packs: name a backup or a data directory")

    async def reindex(self) -> None:
        await self._database.write(lambda tx: tx.run("REINDEX"))

    # --- rows -------------------------------------------------------------------------------------

    async def right(self, wrong: WrongRow) -> bool:
        """Let a row say what its whole octets are; False: it is another row by now."""

        def unit(tx: Transaction) -> bool:
            if damage.blob(tx, wrong.blob.id) != wrong.blob:
                return False
            tx.run(
                "UPDATE blob SET length = :length, hash = :hash WHERE id = :id",
                id=wrong.blob.id,
                length=wrong.location.length,
                hash=wrong.location.digest,
            )
            return True

        return await self._database.write(unit)

    async def bring_back(self, lost: LostRows, names: Names) -> None:
        """The rows that a letter lacks."""
        location = lost.location
        read = noted.referred if not location.digest and lost.is_whole else noted.hurt
        if lost.is_whole and location.digest:
            content = await self._workers.run(partial(self._packs.read, location))
            found = rebuild.found_letter(lost.note, location, content)
        else:
            found = await self._workers.run(partial(read, self._packs.shelf, lost.note, location))
        now = self._clock.wall()

        def unit(tx: Transaction) -> None:
            home = recovered.home(tx, self._hostname)
            recovered.furnish(tx, lost.lacks.places, names, home, set(), now)
            rebuild.bring_back(tx, found, lost.lacks, now)

        await self._database.write(unit)
        for placed in lost.note.placed:
            self._bus.publish(Change("account", placed.account))

    async def orphans(self, kind: str, names: Names) -> list[Orphan]:
        now = self._clock.wall()
        return await self._database.write(
            lambda tx: orphans.mend(tx, kind, names=names, home=recovered.home(tx, self._hostname), now=now)
        )

    async def rule(self, rule: Rule, rows: tuple[int, ...]) -> None:
        await self._database.write(partial(rules.mend, rule=rule, rows=rows, now=self._clock.wall()))

    async def packs_without_row(self, numbers: Iterable[int]) -> None:
        """A start would take their files for leftovers, had it not looked for letters in them."""
        for number in numbers:
            size = len(await self._workers.run(partial(self._packs.shelf.map, number)))
            kind = (await self._workers.run(partial(self._packs.inspect, number))).header.kind
            row = PackRow(number, kind, PackState.SEALED, size)
            await self._database.write(partial(_save_pack, row=row))

    async def counters(self, account: int) -> None:
        await self._database.write(partial(integrity.mend_counters, account=account))
        self._bus.publish(Change("account", account))

    async def announce(self) -> None:
        """Sessions and the relay look again."""
        self._bus.publish(Change("directory"))
        self._bus.publish(Change("queue"))
        after = 0
        while page := await self._database.read(partial(integrity.accounts, after=after)):
            for account in page:
                self._bus.publish(Change("account", account))
            after = page[-1]

    # --- octets -----------------------------------------------------------------------------------

    async def salvage(self, hurt: Sequence[HurtBlob]) -> set[int]:
        """Take whole copies of hurt letters from our own packs, then from the source; ids of those that are whole
        again."""
        wanted = Wanted({each.blob.id: each.blob for each in hurt})
        done: set[int] = set()
        shelf = self._packs.shelf
        await self._take(salvage.in_our_packs(shelf, wanted), done)
        if self._source is not None and wanted.blobs:
            await self._take(salvage.in_folder(shelf.disk, self._source, wanted), done)
        return done

    async def _take(self, copies: Iterator[Copy], done: set[int]) -> None:
        try:
            while (copy := await self._workers.run(partial(next, copies, None))) is not None:
                if await self._put(copy):
                    done.add(copy.blob.id)
        except OSError as error:
            raise StoreFault(f"{error.filename}: cannot be read: {error.strerror}") from error

    async def _put(self, copy: Copy) -> bool:
        octets = copy.octets
        digest = hashlib.sha256(octets).digest()
        now = self._clock.wall()
        if len(octets) <= SPOOL_THRESHOLD:
            content = Content(len(octets), digest, octets=octets)
            return await self._database.write(lambda tx: salvage.put_back(tx, copy, content, now))
        spool = self._packs.spool()
        try:
            for start in range(0, len(octets), SPOOL_CHUNK):
                await spool.write(octets[start : start + SPOOL_CHUNK])
            sealed = Content(len(octets), digest, sealed=await spool.seal())
            return await self._database.write(lambda tx: salvage.put_back(tx, copy, sealed, now))
        finally:
            await spool.discard()

    async def note(self, blob: PlacedBlob) -> bool:
        """A fresh note for a whole letter whose own is hurt: it moves to another pack with it, or, if it has one of its
        own, gets a record that refers to it."""
        if await self._has_trailer(blob.location.pack):
            return await self._database.write(lambda tx: salvage.note_again(tx, blob))
        octets = await self._workers.run(partial(self._packs.read, blob.location))
        return await self._put(Copy(blob, octets, b""))

    async def _has_trailer(self, pack: int) -> bool:
        """Whether this is a whole pack of one letter."""

        def look() -> bool:
            first = next(iter(self._packs.records(pack)), None)
            return isinstance(first, Record) and first.kind is RecordKind.TRAILER

        return await self._workers.run(look)

    async def move_out(self, pack: int) -> int:
        """Move every whole letter out of a pack whose header is hurt; how many. The pack that grows stays."""
        state = await self._database.read(ledger.load_state)
        if state.pack == pack:
            return 0
        moved, after = 0, 0
        while page := await self._database.read(partial(damage.blobs_of_pack, pack=pack, after=after, limit=PAGE)):
            after = page[-1].id
            for blob in page:
                if await self._workers.run(partial(self._packs.is_whole, blob.location)):
                    octets = await self._workers.run(partial(self._packs.read, blob.location))
                    note = await self._database.read(partial(salvage.fresh_note, blob=blob.id))
                    moved += await self._put(Copy(blob, octets, note))
        return moved


def _save_pack(tx: Transaction, row: PackRow) -> None:
    ledger.save_pack(tx, row)
