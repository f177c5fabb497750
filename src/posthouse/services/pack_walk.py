# SPDX-License-Identifier: Apache-2.0
"""Every octet of every pack read and compared with the rows, a little at a time, so that deliveries go on beside it.

Invariant: what it reports was so at one moment, rows and octets both: a suspicion is looked at once more, because
letters move (compaction) and go (readers) while packs are read. It changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from posthouse.ports import BlobLocation, Clock, Database, Reader, StoreFault, Workers
from posthouse.store import damage
from posthouse.store.blobs import ledger
from posthouse.store.blobs.inspection import OpenedPack
from posthouse.store.blobs.ledger import PackState
from posthouse.store.blobs.packs import PackStore
from posthouse.store.blobs.record import Damage, PackKind, Record, RecordKind, scan
from posthouse.store.damage import PlacedBlob
from posthouse.store.evidence import Evidence, Lacks
from posthouse.store.notes import Note, read_note
from posthouse.store.recovered import Names

T = TypeVar("T")

VISIT_RECORDS = 128  # looked at by one visit to a worker, and compared by one read: some milliseconds of each
VISIT_OCTETS = 4 << 20
PAGE = 500  # rows of a pack that is gone, read at once
# After each piece of work as long a rest: a check takes half of one thread's time at most, whatever the disk does.
REST = 1.0
ANOTHERS = "its row points at another letter's octets"
MAX_REST = 1.0  # seconds; a piece that took longer waited for something else than this thread


@dataclass(frozen=True, slots=True)
class Seen:
    """One record, or a stretch of damage. `digest`: of its content, b"" where it is not whole."""

    start: int
    end: int
    is_whole: bool
    reason: str
    kind: RecordKind | None
    note: Note | None
    location: BlobLocation | None
    digest: bytes


@dataclass(frozen=True, slots=True)
class HurtBlob:
    blob: PlacedBlob
    reason: str


@dataclass(frozen=True, slots=True)
class WrongRow:
    """A blob row whose octets are whole and are its letter's, and which says something else of them."""

    blob: PlacedBlob
    location: BlobLocation


@dataclass(frozen=True, slots=True)
class LostRows:
    """A letter in the packs that lacks rows. `location` has a digest; `is_whole` its octets."""

    note: Note
    location: BlobLocation
    is_whole: bool
    lacks: Lacks


@dataclass(slots=True)
class Report:
    """`hurt`: letters whose octets are damaged or gone; `unnoted`: whole ones whose note is hurt; `stretches`: damage
    in which no letter lies, in words; `headers`: packs whose header is hurt, with why; `missing`: packs that are gone,
    and cut ones, in words."""

    packs: int = 0
    letters: int = 0
    hurt: list[HurtBlob] = field(default_factory=list)
    wrong: list[WrongRow] = field(default_factory=list)
    lost: list[LostRows] = field(default_factory=list)
    unnoted: list[PlacedBlob] = field(default_factory=list)
    stretches: list[str] = field(default_factory=list)
    headers: dict[int, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    names: Names = field(default_factory=Names)


class PackWalk:
    def __init__(
        self, database: Database, packs: PackStore, workers: Workers, clock: Clock, *, history_since: float
    ) -> None:
        self._database = database
        self._packs = packs
        self._workers = workers
        self._clock = clock
        self._history_since = history_since
        self._report = Report()
        self._own: dict[int, PlacedBlob] = {}  # letters with packs of their own, by blob id
        self._named: set[tuple[int, int]] = set()  # (blob, pack) as whole references say it; membership only
        self._claims: list[WrongRow] = []  # of letters with packs of their own, for want of a reference
        self._last_id = 0

    async def run(self) -> Report:
        """Raises StoreFault when the database cannot be read."""
        self._packs.forget_checked()
        report = self._report
        state = await self._database.read(ledger.load_state)
        self._last_id = state.last_id
        numbers = await self._workers.run(self._packs.numbers)
        for number in numbers:
            await self._pack(number)
        await self._gone()
        self._decide_claims()
        for blob in self._own.values():
            if (blob.id, blob.location.pack) not in self._named and blob.id <= self._last_id:
                report.unnoted += await self._database.read(partial(damage.still_there, suspects=[blob]))
        report.packs = len(numbers)
        return report

    def _decide_claims(self) -> None:
        """A pack of one letter does not say whose it is: a row that disagrees with it is set right only when a
        reference sends that letter there. Otherwise one reader would be shown another's letter."""
        for each in self._claims:
            if (each.blob.id, each.location.pack) in self._named:
                self._report.wrong.append(each)
            else:
                self._report.hurt.append(HurtBlob(each.blob, ANOTHERS))
                self._own.pop(each.blob.id, None)  # whatever is told of its note would be of the other letter's

    async def _gently(self, work: Callable[[], T], *, pool: str = "disk") -> T:
        """Work in a thread, then rest as long as it took."""
        began = self._clock.monotonic()
        result = await self._workers.run(work, pool=pool)
        await asyncio.sleep(min(MAX_REST, REST * (self._clock.monotonic() - began)))
        return result

    # --- one pack ---------------------------------------------------------------------------------

    async def _pack(self, number: int) -> None:
        acknowledged = await self._database.read(partial(_acknowledged, number=number))
        try:
            pack = await self._gently(partial(self._packs.inspect, number))
        except StoreFault as fault:
            await self._lost_pack(number, str(fault))
            return
        if pack.header_fault:
            self._report.headers[number] = pack.header_fault
        self._report.stretches += [
            f"pack {number}: the disk cannot read octets {start} to {end}" for start, end in pack.unreadable
        ]
        limit = len(pack.view) if acknowledged is None else acknowledged
        records = scan(pack.view, pack.header)
        is_own = pack.header.kind is PackKind.OWN
        reached, is_over = 0, False
        while not is_over:
            seen, is_over = await self._gently(partial(_visit, records, limit))
            upto = 1 << 62 if is_over or is_own else seen[-1].end
            await self._compare(pack, seen, reached, upto, limit)
            reached = upto

    async def _compare(self, pack: OpenedPack, seen: Sequence[Seen], start: int, end: int, limit: int) -> None:
        compared = await self._database.read(
            partial(self._look, number=pack.number, seen=seen, start=start, end=end, is_sure=not pack.header_fault)
        )
        self._report.letters += compared.count
        self._report.wrong += compared.wrong
        self._claims += compared.claims
        self._report.lost += compared.lost
        hurt: list[HurtBlob] = []
        whole: list[PlacedBlob] = []
        for suspect in compared.suspects:
            reason = await self._gently(partial(self._judge, suspect, seen))
            if reason:
                hurt.append(HurtBlob(suspect, reason))
            else:
                whole.append(suspect)
        there = frozenset(
            each.id
            for each in await self._database.read(
                partial(damage.still_there, suspects=[*(each.blob for each in hurt), *whole])
            )
        )
        self._report.hurt += [each for each in hurt if each.blob.id in there]
        # Behind the limit are letters that came, or were moved here, since: their records were not read.
        self._report.unnoted += [each for each in whole if each.id in there and each.location.offset < limit]
        self._stretches(pack.number, seen, compared.suspects)

    def _stretches(self, number: int, seen: Sequence[Seen], suspects: Sequence[PlacedBlob]) -> None:
        """Damage that no letter of a mailbox or the queue lies in."""
        for each in seen:
            if each.is_whole:
                continue
            places = [blob for blob in suspects if each.start <= blob.location.offset < each.end]
            if not places:
                self._report.stretches.append(f"pack {number}, octets {each.start} to {each.end}: {each.reason}")

    def _judge(self, blob: PlacedBlob, seen: Sequence[Seen]) -> str:
        """Why a letter is hurt; "" when its octets are whole after all."""
        location = blob.location
        try:
            if self._packs.is_whole(location):
                return ""
            if len(self._packs.read(location)) < location.length:
                return f"pack {location.pack} is cut off before or within it"
        except StoreFault as fault:
            return str(fault)
        for each in seen:
            if each.start <= location.offset < each.end:
                return each.reason if not each.is_whole else ANOTHERS
        return "nothing of it is where its row says"

    # --- in the reader's thread -------------------------------------------------------------------

    def _look(
        self, reader: Reader, *, number: int, seen: Sequence[Seen], start: int, end: int, is_sure: bool
    ) -> _Compared:
        """`is_sure`: the pack's header says that it is this one, and no other that got its name."""
        compared = _Compared()
        at = {each.location.offset: each for each in seen if each.location is not None and each.location.pack == number}
        for blob in damage.blobs_between(reader, number, start, end):
            compared.count += 1
            _sort(compared, blob, at.get(blob.location.offset), is_sure=is_sure)
        evidence = Evidence(reader, self._history_since)
        for each in seen:
            note = each.note
            if note is None or each.location is None:
                continue
            if each.kind is RecordKind.REFERENCE:
                if each.is_whole:
                    self._named.add((note.blob, each.location.pack))
                else:  # it does not say any more which pack it means; the row does
                    continue
            lacks = evidence.lacks(note)
            if lacks.anything:
                self._report.names.learn(note)
                location = each.location
                compared.lost.append(LostRows(note, location, each.is_whole, lacks))
        for blob in compared.own:
            self._own[blob.id] = blob
        return compared

    # --- packs that are gone ----------------------------------------------------------------------

    async def _gone(self) -> None:
        """Rows first, then files: a pack is there before any row knows it, and goes after."""
        rows = await self._database.read(ledger.load_packs)
        referred = await self._database.read(damage.packs_with_blobs)
        present = frozenset(await self._workers.run(self._packs.numbers))
        for number in sorted(frozenset(row.number for row in rows) | frozenset(referred)):
            if number not in present:
                await self._lost_pack(number, f"pack {number} is missing" if number else "no row says where it lies")

    async def _lost_pack(self, number: int, reason: str) -> None:
        after = 0
        count = 0
        while page := await self._database.read(partial(damage.blobs_of_pack, pack=number, after=after, limit=PAGE)):
            for blob in page:
                problem = await self._workers.run(partial(self._judge_alone, blob, reason))
                if problem:
                    self._report.hurt.append(HurtBlob(blob, problem))
                    count += 1
            after = page[-1].id
        if number and (count or await self._database.read(partial(ledger.has_pack, number=number))):
            self._report.missing.append(reason)

    def _judge_alone(self, blob: PlacedBlob, reason: str) -> str:
        """A pack in which nothing can be recognised may still hold a letter where its row says."""
        try:
            return "" if self._packs.is_whole(blob.location) else reason
        except StoreFault:
            return reason


def _acknowledged(reader: Reader, number: int) -> int | None:
    """Where the octets of a pack end that count; None: all of them do.

    What lies behind the tail of the growing pack is on its way, or was never acknowledged; so is all of a pack that
    no row knows. A pack that was left because its disk failed has a tail too, until it is cut at the next start.
    """
    state = ledger.load_state(reader)
    if state.pack == number:
        return state.tail
    row = ledger.find_pack(reader, number)
    if row is not None and row.state is PackState.TO_BE_CUT:
        return row.size
    return None if row is not None or ledger.is_referred(reader, number) else 0


@dataclass(slots=True)
class _Compared:
    count: int = 0
    suspects: list[PlacedBlob] = field(default_factory=list)
    wrong: list[WrongRow] = field(default_factory=list)
    claims: list[WrongRow] = field(default_factory=list)
    lost: list[LostRows] = field(default_factory=list)
    own: list[PlacedBlob] = field(default_factory=list)


def _sort(compared: _Compared, blob: PlacedBlob, seen: Seen | None, *, is_sure: bool) -> None:
    if seen is not None and seen.kind is RecordKind.TRAILER:
        compared.own.append(blob)
    if seen is None or not seen.is_whole or seen.location is None:
        compared.suspects.append(blob)
        return
    is_same_place = seen.location == blob.location
    if is_same_place and seen.digest == blob.location.digest:
        return
    # The octets are whole by their own checksum: they are this letter's when their note says so.
    if seen.note is not None and seen.note.blob == blob.id:
        compared.wrong.append(WrongRow(blob, seen.location))
    elif seen.note is None and seen.kind is RecordKind.TRAILER and is_sure:
        compared.claims.append(WrongRow(blob, seen.location))
    else:
        compared.suspects.append(blob)


def _visit(records: Iterator[Record | Damage], limit: int) -> tuple[list[Seen], bool]:
    """The next records of a pack, and whether that was all."""
    found: list[Seen] = []
    octets = 0
    for record in records:
        if record.end > limit and not (isinstance(record, Damage) and record.start < limit):
            return found, True
        found.append(_seen(record))
        octets += record.end - record.start
        if len(found) >= VISIT_RECORDS or octets >= VISIT_OCTETS:
            return found, False
    return found, True


def _seen(record: Record | Damage) -> Seen:
    note = None if not record.note else read_note(record.note)
    location = record.location
    digest = b""
    if isinstance(record, Record) and record.kind is not RecordKind.REFERENCE:
        digest = hashlib.sha256(record.content).digest()
        location = BlobLocation(record.location.pack, record.location.offset, record.location.length, digest)
    return Seen(
        start=record.start if record.kind is not RecordKind.TRAILER else 0,
        end=record.end,
        is_whole=isinstance(record, Record),
        reason="" if isinstance(record, Record) else record.reason,
        kind=record.kind,
        note=note,
        location=location,
        digest=digest,
    )
