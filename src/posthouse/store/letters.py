# SPDX-License-Identifier: Apache-2.0
"""Making a letter durable: content, emails, placements, counters, journal and queue in one unit of work.

A letter for a hundred mailboxes and twenty remote recipients is one blob. What RCPT promised is kept: quota is
not looked at again here, and a mailbox that has gone meanwhile is replaced by the account's INBOX.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.outcome import BAD_MAILBOX, MAILBOX_FULL, MAILBOX_TOO_SMALL, Refusal, Status
from posthouse.ports import BlobLocation, Content, Reader, Transaction, Value
from posthouse.store import journal, queue, threads
from posthouse.store.faults import LOST
from posthouse.store.flags import SEEN, pack_keywords
from posthouse.store.journal import Kind
from posthouse.store.notes import VERSION, Note, PlacedNote, queued_note
from posthouse.store.notes import encode as encode_note
from posthouse.store.queue import QueuedLetter
from posthouse.store.uidset import from_uids, to_text


@dataclass(frozen=True, slots=True)
class Place:
    """Where a copy goes. `prefix`: the fields that only this recipient's letter has (Return-Path, Received, …),
    each ending in CRLF, no line of it starting with a dot. `flags`: bits of store.flags. `is_junk`: it goes into the
    mailbox with the special use \\Junk instead, where the account has one (RFC 6154 §2)."""

    account: int
    mailbox: int
    prefix: bytes
    flags: int = 0
    keywords: tuple[str, ...] = ()
    is_junk: bool = False


@dataclass(frozen=True, slots=True)
class LetterIn:
    """A letter as it came in.

    `envelope_summary`: HeaderScan.pack_envelope(). `message_id`, `in_reply_to`, `references` (ids without their
    angle brackets) and `subject` (the raw unfolded value) decide the thread. `header_size`: octets of the content's
    header with its empty line. `received_at`: the internal date, seconds since the epoch. `saved_at`: now, where
    that is another time (a client says when a letter arrived: RFC 9051 §6.3.12).
    """

    content: Content
    received_at: float
    trace: str
    reverse_path: str
    envelope_summary: bytes
    header_size: int
    has_dot_lines: bool
    message_id: bytes = b""
    in_reply_to: bytes = b""
    references: tuple[bytes, ...] = ()
    subject: bytes = b""
    saved_at: float | None = None

    @property
    def now(self) -> float:
        return self.received_at if self.saved_at is None else self.saved_at


@dataclass(frozen=True, slots=True)
class Placed:
    account: int
    mailbox: int
    uid: int
    email: int
    modseq: int
    size: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """`placed` in order of account and mailbox. `missing`: places whose account has gone since RCPT."""

    blob: int
    placed: list[Placed]
    queue_id: int | None
    missing: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """One email as it is sent to a reader: `prefix`, then the content at `location`. `size`: of both, in octets.

    `header_size` is the content's; the letter's whole header is that and `len(prefix)`.
    """

    email: int
    account: int
    blob: int
    thread: int
    prefix: bytes
    location: BlobLocation
    size: int
    header_size: int
    has_dot_lines: bool
    received_at: float


# --- accepting ------------------------------------------------------------------------------------

_CHARGE = (
    "UPDATE account SET modseq = modseq + 1, used_octets = used_octets + :octets, used_letters = used_letters + :count"
    " WHERE id = :account RETURNING modseq"
)
_RESERVE = (
    "UPDATE mailbox SET uid_next = uid_next + :count, modseq = :modseq, total = total + :count,"
    " unseen = unseen + :unseen, octets = octets + :octets WHERE id = :mailbox AND account = :account"
    " RETURNING uid_next"
)
_JUNK = "SELECT MIN(id) FROM mailbox WHERE account = :account AND special_use = '\\Junk'"
_INBOX = "SELECT id FROM mailbox WHERE account = :account AND name = 'INBOX'"
_BLOB = "INSERT INTO blob (id, pack, pack_offset, length, hash) VALUES (:blob, :pack, :pack_offset, :length, :hash)"
_EMAIL = (
    "INSERT INTO email (id, account, blob, thread, received_at, size, header_size, has_dot_lines)"
    " VALUES (:email, :account, :blob, :thread, :received_at, :size, :header_size, :has_dot_lines)"
)
_DETAIL = (
    "INSERT INTO email_detail (email, prefix, summary, reverse_path, trace, ancestors)"
    " VALUES (:email, :prefix, :summary, :reverse_path, :trace, :ancestors)"
)
_PLACEMENT = (
    "INSERT INTO placement (mailbox, uid, email, modseq, created, flags, keywords, size, saved_at)"
    " VALUES (:mailbox, :uid, :email, :modseq, :modseq, :flags, :keywords, :size, :saved_at)"
)
_ADDED = int(Kind.ADDED)

Rows = list[dict[str, Value]]


class _Rows:
    """The rows of one unit, gathered so that each table is one statement whatever the number of recipients."""

    def __init__(self) -> None:
        self.emails: Rows = []
        self.details: Rows = []
        self.placements: Rows = []
        self.journal: Rows = []
        self.placed: list[Placed] = []
        self.notes: list[PlacedNote] = []
        self.missing: list[Place] = []


def accept(tx: Transaction, letter: LetterIn, places: Sequence[Place], queued: QueuedLetter | None = None) -> Accepted:
    """Store a letter for mailboxes, for the queue, or both, and say where it lies.

    Places of one account with the same prefix are one email with several placements. Raise Refusal 5.1.1 when
    there is nobody left to take it.
    """
    blob = tx.new_id()
    rows = _Rows()
    if places:
        keys = threads.keys(letter.message_id, letter.in_reply_to, letter.references, letter.subject)
        by_account: dict[int, list[Place]] = {}
        for place in places:
            by_account.setdefault(place.account, []).append(place)
        for account in sorted(by_account):  # one order of locking everywhere: accounts, then mailboxes, by id
            _Delivery(tx, letter, rows, account).run(blob, keys, by_account[account])
    if queued is None and not rows.placed:
        raise Refusal(BAD_MAILBOX, "nobody is left who could take this letter")
    queue_id = None if queued is None else queue.insert(tx, blob, queued)
    location = tx.append(letter.content, _note(letter, blob, rows.notes, queue_id, queued))
    tx.add(_BLOB, (_blob_row(blob, location, letter.content),))
    if rows.placements:
        tx.add(_EMAIL, rows.emails)
        tx.add(_DETAIL, rows.details)
        tx.add(_PLACEMENT, rows.placements)
        tx.add(journal.RECORD, rows.journal)
    return Accepted(blob, rows.placed, queue_id, tuple(rows.missing))


def _blob_row(blob: int, location: BlobLocation, content: Content) -> dict[str, Value]:
    return {
        "blob": blob,
        "pack": location.pack,
        "pack_offset": location.offset,
        "length": location.length,
        "hash": _digest(content),
    }


class _Delivery:
    """One letter into one account: ids, thread, mod-sequence, UIDs. All rows but counters are only gathered."""

    __slots__ = ("account", "added", "emails", "letter", "modseq", "rows", "thread", "tx")

    def __init__(self, tx: Transaction, letter: LetterIn, rows: _Rows, account: int) -> None:
        self.tx = tx
        self.letter = letter
        self.rows = rows
        self.account = account
        self.modseq = 0
        self.thread = 0
        self.emails: dict[bytes, tuple[int, int]] = {}  # by prefix: id and size
        self.added: dict[int, list[int]] = {}  # by mailbox: UIDs

    def run(self, blob: int, keys: tuple[int, ...], places: list[Place]) -> None:
        content_size = self.letter.content.size
        octets = 0
        by_mailbox: dict[int, list[Place]] = {}
        for place in places:
            by_mailbox.setdefault(self._mailbox_for(place), []).append(place)
            if place.prefix not in self.emails:
                size = len(place.prefix) + content_size
                self.emails[place.prefix] = self.tx.new_id(), size
                octets += size
        charged = self.tx.row(_CHARGE, account=self.account, octets=octets, count=len(self.emails))
        if charged is None:
            self.rows.missing += places
            return
        self.modseq = charged[0]
        self.thread = threads.join(self.tx, self.account, keys, self.emails[places[0].prefix][0])
        self._gather_emails(blob)
        homeless: list[Place] = []
        for mailbox in sorted(by_mailbox):
            if not self._fill(mailbox, by_mailbox[mailbox]):
                homeless += by_mailbox[mailbox]
        if homeless:
            self._fill_inbox(homeless)
        self._gather_journal()

    def _mailbox_for(self, place: Place) -> int:
        """People may give \\Junk to another mailbox at any time, so it is looked for now."""
        row = self.tx.row(_JUNK, account=self.account) if place.is_junk else None
        return place.mailbox if row is None or row[0] is None else int(row[0])

    def _gather_emails(self, blob: int) -> None:
        letter = self.letter
        ancestors = b" ".join(letter.references)  # an id has no blank in it
        for prefix, (email, size) in self.emails.items():
            self.rows.emails.append(
                {
                    "email": email,
                    "account": self.account,
                    "blob": blob,
                    "thread": self.thread,
                    "received_at": letter.received_at,
                    "size": size,
                    "header_size": letter.header_size,
                    "has_dot_lines": int(letter.has_dot_lines),
                }
            )
            self.rows.details.append(
                {
                    "email": email,
                    "prefix": prefix,
                    "summary": letter.envelope_summary,
                    "reverse_path": letter.reverse_path,
                    "trace": letter.trace,
                    "ancestors": ancestors,
                }
            )

    def _fill(self, mailbox: int, places: list[Place]) -> bool:
        """Give the places in one mailbox their UIDs; False when the mailbox is not there (any more)."""
        chosen = {place.prefix: place for place in places}  # the same email twice in one mailbox is one placement
        octets = unseen = 0
        for prefix, place in chosen.items():
            octets += self.emails[prefix][1]
            unseen += not place.flags & SEEN
        reserved = self.tx.row(
            _RESERVE,
            account=self.account,
            mailbox=mailbox,
            modseq=self.modseq,
            count=len(chosen),
            unseen=unseen,
            octets=octets,
        )
        if reserved is None:
            return False
        first = uid = reserved[0] - len(chosen)
        for place in chosen.values():
            self._gather_placement(mailbox, uid, place)
            uid += 1
        self.added.setdefault(mailbox, []).extend(range(first, uid))
        return True

    def _gather_placement(self, mailbox: int, uid: int, place: Place) -> None:
        email, size = self.emails[place.prefix]
        keywords = pack_keywords(place.keywords)
        self.rows.placements.append(
            {
                "mailbox": mailbox,
                "uid": uid,
                "email": email,
                "modseq": self.modseq,
                "flags": place.flags,
                "keywords": keywords,
                "size": size,
                "saved_at": int(self.letter.now),
            }
        )
        self.rows.placed.append(Placed(self.account, mailbox, uid, email, self.modseq, size))
        self.rows.notes.append(
            PlacedNote(self.account, mailbox, uid, email, self.thread, place.flags, keywords, place.prefix)
        )

    def _fill_inbox(self, places: list[Place]) -> None:
        """For places whose mailbox has gone: the INBOX, unless the same letter lies there already."""
        row = self.tx.row(_INBOX, account=self.account)
        assert row is not None, "every account has an INBOX"
        there = {placed.email for placed in self.rows.placed if placed.mailbox == row[0]}
        left = [place for place in places if self.emails[place.prefix][0] not in there]
        if left:
            self._fill(row[0], left)

    def _gather_journal(self) -> None:
        for mailbox, uids in self.added.items():
            self.rows.journal.append(
                {
                    "account": self.account,
                    "modseq": self.modseq,
                    "mailbox": mailbox,
                    "kind": _ADDED,
                    "uids": str(uids[0]) if len(uids) == 1 else to_text(from_uids(uids)),
                    "now": self.letter.now,
                }
            )


def _note(
    letter: LetterIn, blob: int, placed: list[PlacedNote], queue_id: int | None, queued: QueuedLetter | None
) -> bytes:
    return encode_note(
        Note(
            VERSION,
            blob,
            letter.received_at,
            letter.trace,
            letter.reverse_path,
            letter.header_size,
            letter.has_dot_lines,
            placed,
            None if queued is None or queue_id is None else queued_note(queue_id, queued),
        )
    )


def _digest(content: Content) -> bytes:
    if content.digest or content.octets is None:
        return content.digest
    return hashlib.sha256(content.octets).digest()


# --- reading --------------------------------------------------------------------------------------

_LETTER = (
    "SELECT email.id, email.account, email.blob, email.thread, email_detail.prefix, blob.pack, blob.pack_offset,"
    " blob.length, blob.hash, email.size, email.header_size, email.has_dot_lines, email.received_at"
    " FROM email JOIN email_detail ON email_detail.email = email.id JOIN blob ON blob.id = email.blob"
    " WHERE email.id = :email"
)


def retrieve(reader: Reader, email: int) -> StoredLetter | None:
    """One letter; None when it has been expunged meanwhile. Opening one whose rows are damaged is DamagedContent."""
    row = reader.row(_LETTER, email=email)
    if row is None:
        return _lost(reader, email)
    return StoredLetter(
        email=row[0],
        account=row[1],
        blob=row[2],
        thread=row[3],
        prefix=row[4],
        location=BlobLocation(row[5], row[6], row[7], row[8]),
        size=row[9],
        header_size=row[10],
        has_dot_lines=bool(row[11]),
        received_at=row[12],
    )


def _lost(reader: Reader, email: int) -> StoredLetter | None:
    """A letter that is in a mailbox while a row that it needs is gone: it must not look removed."""
    placed = reader.row(
        "SELECT mailbox.account, placement.size FROM placement JOIN mailbox ON mailbox.id = placement.mailbox"
        " WHERE placement.email = :email LIMIT 1",
        email=email,
    )
    if placed is None:
        return None
    return StoredLetter(
        email=email,
        account=placed[0],
        blob=0,
        thread=0,
        prefix=b"",
        location=LOST,
        size=placed[1],
        header_size=0,
        has_dot_lines=False,
        received_at=0.0,
    )


def retrieve_some(reader: Reader, emails: Sequence[int]) -> list[StoredLetter | None]:
    """Several letters with one visit to the reader, in order: what a client that pipelines is about to ask for."""
    return [retrieve(reader, email) for email in emails]


def summary(reader: Reader, email: int) -> bytes | None:
    """The packed ENVELOPE values that were given at acceptance."""
    row = reader.row("SELECT summary FROM email_detail WHERE email = :email", email=email)
    return None if row is None else bytes(row[0])


# --- quota ----------------------------------------------------------------------------------------


def usage(reader: Reader, account: int) -> tuple[int, int, int | None] | None:
    """(octets, letters, quota in octets or None) of an account. Each letter counts once, wherever it lies."""
    row = reader.row("SELECT used_octets, used_letters, quota FROM account WHERE id = :account", account=account)
    return None if row is None else (row[0], row[1], row[2])


def room(reader: Reader, account: int, size: int | None) -> Status | None:
    """The decision about quota at RCPT: None when there is room for `size` octets (None or 0: not declared).

    452 4.2.2 when used space and the declared size pass the quota together, 552 5.2.2 when the size alone does.
    Raise Refusal 5.1.1 when there is no such account.
    """
    used = usage(reader, account)
    if used is None:
        raise Refusal(BAD_MAILBOX, "no such account")
    octets, _, quota = used
    size = size or 0
    if quota is None:
        return None
    if size > quota:
        return MAILBOX_TOO_SMALL
    # Without a declared size a full mailbox is one that has nothing left.
    return MAILBOX_FULL if octets + max(size, 1) > quota else None
