# SPDX-License-Identifier: Apache-2.0
"""Letters put into a mailbox or taken out of it by the administrator: import, export.

Invariant: an imported letter keeps its octets and its date; nothing is sent to anybody because of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from posthouse.mail.envelope import ReversePath
from posthouse.mail.lines import with_crlf
from posthouse.outcome import BAD_CONTENT, BAD_MAILBOX, INVALID_ARGUMENTS, SYSTEM_DAMAGE, Refusal
from posthouse.ports import BlobStore, Change, ChangeBus, Clock, DamagedContent, Database, Entropy, Reader, Transaction
from posthouse.services.delivery import Origin, letter_in
from posthouse.services.directory import Account, Directory
from posthouse.services.incoming import FinishedLetter, IncomingLetter
from posthouse.store import letters, listing, mailboxes, messages
from posthouse.store.directory import said
from posthouse.store.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, pack_keywords, unpack_keywords
from posthouse.store.letters import LetterIn, Place

FLAGS = {"seen": SEEN, "answered": ANSWERED, "flagged": FLAGGED, "draft": DRAFT, "deleted": DELETED}
LETTER_ID = re.compile(r"e[0-7]?[0-9a-f]{1,15}")  # messages.unique_id of a 63-bit number
CHUNK = 256 * 1024  # octets handed on at a time


@dataclass(frozen=True, slots=True)
class Item:
    """One letter of a page. `letter` is its id for `read`, `flags` are words of FLAGS, `digest` is the SHA-256 of
    the content as it was put in, in hexadecimal."""

    uid: int
    letter: str
    size: int
    received_at: float
    flags: tuple[str, ...]
    keywords: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Box:
    """One mailbox of an account. `special_use` as in IMAP (`\\Sent`), None for a common one."""

    name: str
    special_use: str | None
    total: int
    octets: int


@dataclass(frozen=True, slots=True)
class NewLetter:
    """A letter to be put in. `flags` are words of FLAGS; `received_at` None: now."""

    octets: bytes
    mailbox: str = "INBOX"
    flags: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    received_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    letter: LetterIn
    mailbox: str
    flags: int
    keywords: tuple[str, ...]


def _put(tx: Transaction, account: int, rows: Sequence[_Row], now: float) -> list[int]:
    """The unit of work. Their UIDs."""
    boxes: dict[str, int] = {}
    uids = []
    for row in rows:
        if row.mailbox not in boxes:
            known = mailboxes.by_name(tx, account, row.mailbox)
            boxes[row.mailbox] = known.id if known else mailboxes.create(tx, account, row.mailbox, now).id
        place = Place(account, boxes[row.mailbox], b"", row.flags, row.keywords)
        uids.append(letters.accept(tx, row.letter, [place], None).placed[0].uid)
    return uids


class Letterbox:
    def __init__(
        self,
        directory: Directory,
        database: Database,
        blobs: BlobStore,
        bus: ChangeBus,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._directory = directory
        self._database = database
        self._blobs = blobs
        self._bus = bus
        self._clock = clock
        self._entropy = entropy

    async def add(self, address: str, letter: NewLetter) -> int:
        """Put a letter into a mailbox, which is made if it is not there. Returns its UID. Raises Refusal."""
        account = await self._account(address)
        incoming = IncomingLetter(self._blobs)
        try:
            row = await self._prepared(incoming, letter)
            uid = await self._database.write(partial(_put, account=account.id, rows=[row], now=self._clock.wall()))
        finally:  # after the unit: before it, a large letter's pack would be taken from under it
            await incoming.discard()
        self._bus.publish(Change("account", account.id))
        return uid[0]

    async def add_all(self, address: str, batch: Sequence[NewLetter]) -> list[int | Refusal]:
        """Put letters into mailboxes in one unit of work, in their order: the UID of each, or why it was refused.

        A sync for each letter would make an import of some ten thousand letters a matter of minutes.
        """
        account = await self._account(address)
        incoming = [IncomingLetter(self._blobs) for _ in batch]
        found: list[int | Refusal] = []
        rows: list[_Row] = []
        try:
            for each, letter in zip(incoming, batch, strict=True):
                try:
                    rows.append(await self._prepared(each, letter))
                    found.append(0)
                except Refusal as refusal:
                    found.append(refusal)
            uids = await self._put_all(account.id, rows)
        finally:
            for each in incoming:
                await each.discard()
        self._bus.publish(Change("account", account.id))
        return [next(uids) if each == 0 else each for each in found]

    async def _put_all(self, account: int, rows: list[_Row]) -> Iterator[int | Refusal]:
        now = self._clock.wall()
        try:
            return iter(await self._database.write(partial(_put, account=account, rows=rows, now=now)))
        except Refusal:  # of one of them, a mailbox too many for example: then each for itself
            found: list[int | Refusal] = []
            for row in rows:
                try:
                    found += await self._database.write(partial(_put, account=account, rows=[row], now=now))
                except Refusal as refusal:
                    found.append(refusal)
            return iter(found)

    async def _prepared(self, incoming: IncomingLetter, letter: NewLetter) -> _Row:
        """What the unit of work needs. Raises Refusal."""
        unknown = [flag for flag in letter.flags if flag not in FLAGS]
        if unknown:
            raise Refusal(INVALID_ARGUMENTS, f"unknown flag {said(unknown[0])}; known are {', '.join(FLAGS)}")
        if not letter.octets.strip():
            raise Refusal(BAD_CONTENT, "the letter is empty")
        pack_keywords(letter.keywords)
        name = mailboxes.canonical_name(letter.mailbox)
        octets = with_crlf(letter.octets)
        for start in range(0, len(octets), CHUNK):
            await incoming.add(octets[start : start + CHUNK])
        row = self._row(await incoming.finish(), letter.received_at)
        return _Row(row, name, sum(FLAGS[flag] for flag in dict.fromkeys(letter.flags)), letter.keywords)

    def _row(self, letter: FinishedLetter, received_at: float | None) -> LetterIn:
        at = self._clock.wall() if received_at is None else received_at
        origin = Origin(self._entropy.octets(8).hex(), at, b"", source="import")
        return letter_in(letter, ReversePath(None), origin)

    async def boxes(self, address: str) -> list[Box]:
        """The mailboxes of an account, by name. Raises Refusal."""
        account = await self._account(address)
        found = await self._database.read(lambda reader: mailboxes.list_all(reader, account.id))
        return [Box(each.name, each.special_use, each.total, each.octets) for each in found]

    async def page(self, address: str, mailbox: str, *, after: int = 0) -> list[Item]:
        """The next letters of a mailbox behind UID `after`, in order; none: that was all. Raises Refusal."""
        account = await self._account(address)
        name = mailboxes.canonical_name(mailbox)

        def query(reader: Reader) -> list[listing.Listed] | None:
            known = mailboxes.by_name(reader, account.id, name)
            return None if known is None else listing.page(reader, known.id, after)

        found = await self._database.read(query)
        if found is None:
            raise Refusal(BAD_MAILBOX, f"{said(address)} has no mailbox {said(mailbox)}")
        return [_item(each) for each in found]

    async def read(self, address: str, letter: str) -> bytes:
        """A whole letter by the id that `page` gives. Raises Refusal."""
        account = await self._account(address)
        if not LETTER_ID.fullmatch(letter):
            raise Refusal(BAD_MAILBOX, "no such letter")
        number = int(letter[1:], 16)
        stored = await self._database.read(lambda reader: letters.retrieve(reader, number))
        if stored is None or stored.account != account.id:
            raise Refusal(BAD_MAILBOX, "no such letter")
        try:
            return stored.prefix + bytes(await self._blobs.open(stored.location))
        except DamagedContent as damage:
            raise Refusal(SYSTEM_DAMAGE, f"letter {letter} is damaged: {damage}") from None

    async def _account(self, address: str) -> Account:
        account = await self._directory.account(address)
        if account is None:
            raise Refusal(BAD_MAILBOX, f"there is no account {said(address)}")
        return account


def _item(found: listing.Listed) -> Item:
    return Item(
        uid=found.uid,
        letter=messages.unique_id(found.email),
        size=found.size,
        received_at=found.received_at,
        flags=tuple(word for word, bit in FLAGS.items() if found.flags & bit),
        keywords=unpack_keywords(found.keywords),
        digest=found.digest.hex(),
    )
