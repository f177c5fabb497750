# SPDX-License-Identifier: Apache-2.0
"""All letters of the packs brought into a database that lacks some of them: the walk of a rebuild.

Invariant: what the database knew, or had known and forgotten, when its last id was given out stays as it is; every
later letter whose note is whole comes back, also where its octets are hurt (then it is damaged, and is shown so).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from posthouse.ports import BlobLocation, StoreFault, Transaction
from posthouse.store import noted, rebuild, recovered
from posthouse.store.blobs.inspection import open_pack
from posthouse.store.blobs.record import Damage, Record, scan
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.databases.migrate import Transact
from posthouse.store.notes import Note, read_note
from posthouse.store.numbers import Numbers
from posthouse.store.rebuild import UNKNOWN_DIGEST, Found

LETTERS_AT_ONCE = 500  # brought back by one transaction
MAX_SAID = 1_000  # places of the packs that were not understood; more of them say no more

Tell = Callable[[str], None]


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild did. `snapshot`: the file's name, "" without one; `taken_at`: its moment, epoch seconds.

    `letters`, `queued`: brought back from the notes; `held`: recipients in the queue, all on hold; `damaged`: letters
    whose note is whole and whose octets are not; `made`: accounts and mailboxes made anew, in words; `refused`:
    snapshots that are not sound, and why; `unreadable`: what of the packs is hurt, in words; `put_aside`: where the
    old database's files are now, "" when there were none.
    """

    snapshot: str = ""
    taken_at: float = 0.0
    letters: int = 0
    queued: int = 0
    held: int = 0
    damaged: int = 0
    accounts: int = 0
    made: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    put_aside: str = ""


class Bringing:
    def __init__(
        self,
        shelf: Shelf,
        numbers: Numbers,
        transact: Transact,
        found: Rebuilt,
        *,
        last_id: int,
        hostname: str,
        now: float,
    ) -> None:
        """`last_id`: the last id that the database had given out."""
        self._shelf = shelf
        self._numbers = numbers
        self._transact = transact
        self._found = found
        self._last_id = last_id
        self._hostname = hostname
        self._now = now
        self._names = recovered.Names()
        self._fresh: set[int] = set()  # accounts made here; membership only
        self._dead: dict[int, int] = {}

    def run(self, tell: Tell) -> None:
        packs = self._shelf.numbers()
        for number in packs:  # first the names: which letters an account got tells what it is called
            for record in self._records(number, is_checked=False):
                note = None if record.note is None else read_note(record.note)
                if note is not None and note.blob > self._last_id:
                    self._names.learn(note)
        for place, number in enumerate(packs, 1):
            tell(f"reading pack {number} ({place} of {len(packs)})")
            batch: list[Found] = []
            for letter in self._letters(number):
                batch.append(letter)
                if len(batch) >= LETTERS_AT_ONCE:
                    self._keep(batch)
                    batch = []
            self._keep(batch)
        self._transact(self._bury)

    # --- reading ----------------------------------------------------------------------------------

    def _records(self, number: int, *, is_checked: bool = True) -> Iterator[Record | Damage]:
        try:
            pack = open_pack(self._shelf, number)
        except StoreFault:  # told when the packs were adopted
            return iter(())
        return scan(pack.view, pack.header, is_checked=is_checked)

    def _letters(self, number: int) -> Iterator[Found]:
        for record in self._records(number):
            if isinstance(record, Damage) and len(self._found.unreadable) < MAX_SAID:
                place = f"pack {number}, octets {record.start} to {record.end}"
                self._found.unreadable.append(f"{place}: {record.reason}")
            letter = noted.letter_of(self._shelf, record)
            if letter is not None:
                yield letter

    # --- writing ----------------------------------------------------------------------------------

    def _keep(self, batch: list[Found]) -> None:
        if batch:
            self._transact(lambda tx: self._bring(tx, batch))

    def _bring(self, tx: Transaction, batch: list[Found]) -> None:
        for each in batch:
            lacks = rebuild.newer_than(tx, each.note, self._last_id)
            if lacks is None:
                self._relocate(tx, each)
            else:
                self._furnish(tx, each.note)
                rebuild.bring_back(tx, each, lacks, self._now)
                self._found.letters += bool(each.note.placed)
                self._found.queued += each.note.queued is not None
                self._found.damaged += each.location.digest == UNKNOWN_DIGEST
            self._count(tx, each)

    def _furnish(self, tx: Transaction, note: Note) -> None:
        """Accounts and mailboxes that the letter needs. Ids that were given out are not given out again."""
        home = recovered.home(tx, self._hostname)
        made = self._found.made
        made += recovered.furnish(tx, note.placed, self._names, home, self._fresh, self._now)
        ids = [note.blob, *(placed.email for placed in note.placed), *(placed.mailbox for placed in note.placed)]
        if note.queued is not None:
            ids.append(note.queued.queue_id + len(note.queued.recipients))  # its recipients got the next ones
            if note.queued.account is not None:
                made += recovered.furnish_account(tx, note.queued.account, self._names, home, self._fresh, self._now)
        self._numbers.last_id = max(self._numbers.last_id, *ids)

    def _relocate(self, tx: Transaction, each: Found) -> None:
        """Since the snapshot the letter may have been moved (compaction); or its first copy is the hurt one."""
        location = each.location
        row = tx.row("SELECT pack, pack_offset, length, hash FROM blob WHERE id = :id", id=each.note.blob)
        if row is None or location.digest == UNKNOWN_DIGEST or location == BlobLocation(*row[:3]):
            return
        digest = bytes(row[3])
        if digest == UNKNOWN_DIGEST:
            self._found.damaged -= 1
        elif digest != location.digest or self._is_whole(BlobLocation(row[0], row[1], row[2], digest)):
            return
        tx.run(
            "UPDATE blob SET pack = :pack, pack_offset = :pack_offset, length = :length, hash = :hash WHERE id = :id",
            id=each.note.blob,
            pack=location.pack,
            pack_offset=location.offset,
            length=location.length,
            hash=location.digest,
        )

    def _is_whole(self, location: BlobLocation) -> bool:
        return hashlib.sha256(noted.rest(self._shelf, location)).digest() == location.digest

    def _count(self, tx: Transaction, each: Found) -> None:
        """Octets of this record that no row means are dead: compaction gives them back."""
        row = tx.row("SELECT pack, pack_offset, length FROM blob WHERE id = :id", id=each.note.blob)
        if row is None or BlobLocation(*row) != each.location:
            pack = each.location.pack
            self._dead[pack] = self._dead.get(pack, 0) + each.location.length

    def _bury(self, tx: Transaction) -> None:
        tx.run("DELETE FROM dead_octets")
        tx.many(
            "INSERT INTO dead_octets (pack, octets, since) VALUES (:pack, :octets, :now)",
            [{"pack": pack, "octets": octets, "now": self._now} for pack, octets in sorted(self._dead.items())],
        )
