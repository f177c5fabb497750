# SPDX-License-Identifier: Apache-2.0
"""`posthouse check --store`: does the store still hold what was acknowledged, and whose letters are hurt?

Invariant: without `repair` nothing is changed. With it, only what other rows, notes or whole copies tell is made
right; octets that are hurt stay where they are, listed, and are never served as mail.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from posthouse.ports import ChangeBus, Clock, Database, StoreFault, Workers
from posthouse.services.findings import Finding
from posthouse.services.pack_walk import HurtBlob, LostRows, PackWalk, Report
from posthouse.services.store_repair import StoreRepair
from posthouse.store import damage, integrity, noted, orphans, rules
from posthouse.store.blobs import ledger
from posthouse.store.blobs.packs import PackStore
from posthouse.store.damage import Hurt, PlacedBlob
from posthouse.store.recovered import Names

AREA = "store"
MAX_TOLD = 10_000  # letters told one by one; a disk that lost more is replaced, not mended letter by letter

REPAIR = "`posthouse check --store --repair` mends it"
REBUILD = "stop the server and run `posthouse rebuild`: it makes the database anew from the last snapshot and the packs"
SALVAGE = (
    "`posthouse check --store --repair --from BACKUP` takes it from a backup; without one it stays, marked as damaged:"
    " POP3 refuses it, the queue holds it"
)
NO_LETTER = "no letter lies there"
DISK = "look at the machine's disk and memory; the octets go when their pack is compacted"
# What SQLite says of an index that disagrees with its table; a REINDEX mends that.
_INDEX_WORDS = ("missing from index", "entries in index", "non-unique entry in index", "out of order in index")


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """`keep_history`: seconds that finished letters are remembered. `verify`: what the database itself finds wrong with
    its files, in its own words."""

    database: Database
    packs: PackStore
    workers: Workers
    clock: Clock
    bus: ChangeBus
    hostname: str
    keep_history: float
    verify: Callable[[], Awaitable[list[str]]]

    async def run(self, *, repair: bool = False, source: Path | None = None) -> list[Finding]:
        """Raises Refusal when `source` holds no packs."""
        mender = None
        if repair:
            mender = StoreRepair(
                self.database, self.packs, self.workers, self.clock, self.bus, hostname=self.hostname, source=source
            )
        return await _Run(self, mender).all()


class _Run:
    """One check. `mender` None: nothing is changed."""

    def __init__(self, house: StoreCheck, mender: StoreRepair | None) -> None:
        self._house = house
        self._database = house.database
        self._mender = mender
        self._found: list[Finding] = []

    async def all(self) -> list[Finding]:
        for part in (self._files, self._content, self._accounts):
            try:
                await part()
            except StoreFault as fault:
                self._tell("error", f"the database cannot be read or written: {fault}", REBUILD)
        if self._mender is not None:
            with contextlib.suppress(StoreFault):  # it was told above
                await self._mender.announce()
        if not any(each.level != "ok" for each in self._found):
            self._tell("ok", "every counter, every reference and every octet is as it should be")
        return self._found

    def _tell(self, level: str, text: str, remedy: str = "", letter: Hurt | None = None) -> None:
        if len(self._found) < MAX_TOLD:
            self._found.append(Finding(AREA, level, text, remedy, letter))

    def _mended(self, text: str, letter: Hurt | None = None) -> None:
        self._tell("mended", text, "", letter)

    # --- the database's own files -----------------------------------------------------------------

    async def _files(self) -> None:
        wrong = await self._house.verify()
        if self._mender is not None and wrong and all(_is_of_an_index(each) for each in wrong):
            await self._mender.reindex()
            again = await self._house.verify()
            for each in wrong:
                if each not in again:
                    self._mended(f"the database: {each}")
            wrong = again
        for each in wrong:
            self._tell("error", f"the database: {each}", REPAIR if _is_of_an_index(each) else REBUILD)

    # --- content ----------------------------------------------------------------------------------

    async def _content(self) -> None:
        house = self._house
        since = house.clock.wall() - house.keep_history
        report = await PackWalk(house.database, house.packs, house.workers, house.clock, history_since=since).run()
        await self._pack_rows()
        await self._rows_of_letters(report)
        await self._between_rows(report.names)
        await self._hurt(report)
        await self._unnoted(report)
        for text in report.missing:
            self._tell("error", text, SALVAGE)
        for text in report.stretches:
            self._tell("warning", f"{text}; {NO_LETTER}", DISK)

    async def _pack_rows(self) -> None:
        """A pack with letters and without a row of its own."""
        known = {row.number for row in await self._database.read(ledger.load_packs)}
        present = await self._house.workers.run(self._house.packs.numbers)
        referred = await self._database.read(damage.packs_with_blobs)
        lost = [number for number in referred if number in present and number not in known]
        if self._mender is not None:
            await self._mender.packs_without_row(lost)
        for number in lost:
            text = f"pack {number} has letters, and the list of packs does not know it"
            if self._mender is None:
                self._tell("error", text, REPAIR)
            else:
                self._mended(text)

    async def _rows_of_letters(self, report: Report) -> None:
        for wrong in report.wrong:
            is_right = self._mender is not None and await self._mender.right(wrong)
            for letter in await self._letters(wrong.blob):
                text = f"{letter.place}: {letter.title}: its octets are whole, and their row says otherwise"
                if is_right:
                    self._mended(text, letter)
                else:
                    self._tell("error", f"{text}; it cannot be read", REPAIR, letter)
        for lost in report.lost:
            letters = await self._letters_of_note(lost)
            if self._mender is not None:
                await self._mender.bring_back(lost, report.names)
            for letter in letters:
                text = f"{letter.place}: {letter.title}: {_missing(lost)}"
                if self._mender is None:
                    self._tell("error", text, REPAIR, letter)
                else:
                    held = "; it is in the queue on hold" if lost.lacks.recipients and letter.queue_id else ""
                    self._mended(text + held, letter)

    async def _letters_of_note(self, lost: LostRows) -> list[Hurt]:
        read = noted.referred if lost.is_whole and not lost.location.digest else noted.hurt
        found = await self._house.workers.run(partial(read, self._house.packs.shelf, lost.note, lost.location))
        return await self._database.read(
            partial(damage.of_note, note=lost.note, summary=found.summary, size=found.location.length)
        )

    async def _hurt(self, report: Report) -> None:
        """Letters whose octets are hurt or gone. Rows that were just given a placeholder are among them now."""
        known = {each.blob.id for each in report.hurt}
        hurt = [*report.hurt, *(each for each in await self._without_place() if each.blob.id not in known)]
        whole: set[int] = set()
        if self._mender is not None and hurt:
            try:
                whole = await self._mender.salvage(hurt)
            except StoreFault as fault:
                self._tell("error", f"nothing more was taken from copies: {fault}", "mend that and ask again")
        for each in hurt:
            letters = await self._letters(each.blob)
            if not letters:
                self._dead(each.blob, each.reason)
            for letter in letters:
                text = f"{letter.place}: {letter.title}"
                if each.blob.id in whole:
                    self._mended(f"{text}: a whole copy is in its place", letter)
                else:
                    self._tell("error", f"{text} is damaged: {each.reason}", SALVAGE, letter)
        if whole:
            await self._rules()

    async def _without_place(self) -> list[HurtBlob]:
        if self._mender is None:
            return []
        found = await self._database.read(partial(damage.blobs_of_pack, pack=0, after=0, limit=MAX_TOLD))
        return [HurtBlob(each, "no row says where it lies") for each in found]

    async def _unnoted(self, report: Report) -> None:
        for number, reason in report.headers.items():
            text = f"pack {number}: {reason}; its letters are whole, and were found all the same"
            moved = 0 if self._mender is None else await self._mender.move_out(number)
            if moved:
                self._mended(f"{text}; they are in another pack now ({moved})")
            else:
                self._tell("warning", text, f"{REPAIR}; if it still grows, restart the server first")
        for blob in report.unnoted:
            letters = await self._letters(blob)
            if not letters:
                self._dead(blob, "the record of a removed letter is damaged")
                continue
            is_mended = self._mender is not None and await self._mender.note(blob)
            for letter in letters:
                text = f"{letter.place}: {letter.title} is whole, and the note is hurt by which a rebuild would know it"
                if is_mended:
                    self._mended(text, letter)
                else:
                    self._tell("warning", text, REPAIR, letter)

    def _dead(self, blob: PlacedBlob, reason: str) -> None:
        place = blob.location
        end = place.offset + place.length
        self._tell("warning", f"pack {place.pack}, octets {place.offset} to {end}: {reason}; {NO_LETTER}", DISK)

    async def _letters(self, blob: PlacedBlob) -> list[Hurt]:
        """Everywhere it is shown; none for content that nothing shows any more."""
        return await self._database.read(partial(damage.of_blob, blob=blob.id))

    # --- rows -------------------------------------------------------------------------------------

    async def _between_rows(self, names: Names) -> None:
        for kind in orphans.KINDS:
            if self._mender is not None:
                for orphan in await self._mender.orphans(kind, names):
                    self._mended(orphan.says)
                continue
            for orphan in await self._database.read(partial(orphans.find, kind=kind)):
                self._tell("error", f"{orphan.says}: {orphan.means}", REPAIR)
        await self._rules()

    async def _rules(self) -> None:
        for rule in rules.RULES:
            after: int | None = -1
            while after is not None:
                page = await self._database.read(
                    partial(rules.look, rule=rule, after=after, now=self._house.clock.wall())
                )
                told = [await self._row_said(rule, row) for row in page.wrong]
                if self._mender is not None and page.wrong:
                    await self._mender.rule(rule, page.wrong)
                for text, letter in told:
                    if self._mender is None:
                        self._tell("error", f"{text}: {rule.means}", REPAIR, letter)
                    else:
                        self._mended(text, letter)
                after = page.after

    async def _row_said(self, rule: rules.Rule, row: int) -> tuple[str, Hurt | None]:
        letter = await self._database.read(partial(damage.of_row, table=rule.table, row=row))
        whose = f"{letter.place}: {letter.title}: " if letter is not None else ""
        return f"{whose}{rule.table} {row} {rule.says}", letter

    async def _accounts(self) -> None:
        async for account in self._each_account():
            wrong = await self._database.read(partial(integrity.check_counters, account=account))
            said = [await self._database.read(partial(integrity.named, difference=each)) for each in wrong]
            if self._mender is not None and wrong:
                await self._mender.counters(account)
            for text in said:
                if self._mender is None:
                    self._tell("error", text, REPAIR)
                else:
                    self._mended(text)

    async def _each_account(self) -> AsyncIterator[int]:
        after = 0
        while page := await self._database.read(partial(integrity.accounts, after=after)):
            for account in page:
                yield account
            after = page[-1]


def _is_of_an_index(text: str) -> bool:
    return any(words in text for words in _INDEX_WORDS)


def _missing(lost: LostRows) -> str:
    """Which rows, in words."""
    lacks = lost.lacks
    parts: Sequence[tuple[bool, str]] = (
        (bool(lacks.places), "its place in the mailbox"),
        (bool(lacks.emails or lacks.details), "what is known of it"),
        (lacks.blob, "where its octets lie"),
        (lacks.is_queued or bool(lacks.recipients), "its place in the queue"),
    )
    return f"it is in the packs, and the database has lost {', '.join(words for is_so, words in parts if is_so)}"
