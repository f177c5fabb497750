# SPDX-License-Identifier: Apache-2.0
"""Rows made again from the notes in the packs; and living on with a database that is older than what clients saw.

Invariant: nothing that a client remembers from the lost days is taken for true, nothing is sent that may have been
sent already (it is held), and UIDLs and email ids stay.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.mail.header import scan_header
from posthouse.ports import BlobLocation, Buffer, Reader, Transaction
from posthouse.store import destinations, journal, mailboxes, threads
from posthouse.store.evidence import Lacks
from posthouse.store.journal import Kind
from posthouse.store.notes import Note, PlacedNote, QueuedNote, RecipientNote
from posthouse.store.queue_rows import State

# UIDVALIDITY follows the clock in seconds and runs ahead of it only where mailboxes were made faster than one per
# second. A million seconds are more mailboxes than a house makes in the days that are lost, and 32 bits bear two
# thousand such jumps.
EPOCH_JUMP = 1_000_000
# In place of the SHA-256 of content that was hurt before anybody wrote it down: nothing has it, so it is never served.
UNKNOWN_DIGEST = b"lost"

_MAX_HEADER = 256 * 1024  # octets looked at for the summary; what scan_header reads at most


@dataclass(frozen=True, slots=True)
class Found:
    """A letter in the packs: its note, where its content lies (with its digest), and what its header says.

    `summary` and `keys` are as LetterIn has them.
    """

    note: Note
    location: BlobLocation
    summary: bytes
    keys: tuple[int, ...]


def found_letter(note: Note, location: BlobLocation, content: Buffer) -> Found:
    """`content`: its octets, or as many of them as are left."""
    scan = scan_header(bytes(content[:_MAX_HEADER]))
    keys = threads.keys(scan.message_id, scan.in_reply_to, tuple(scan.references), scan.get(b"subject") or b"")
    return Found(note, location, scan.pack_envelope(), keys)


# --- an older database ----------------------------------------------------------------------------


def adopt_older_state(tx: Transaction, *, now: float) -> None:
    """Every mailbox gets a new UIDVALIDITY, every account's mod-sequence jumps, and the journal starts there.

    Call it once, before anything is served from a database that is older than what clients have seen.
    """
    tx.run(
        "INSERT INTO uid_epoch (id, last) VALUES (1, :now) ON CONFLICT (id) DO UPDATE SET last ="
        " CASE WHEN excluded.last > uid_epoch.last THEN excluded.last ELSE uid_epoch.last END",
        now=max(1, int(now)),
    )
    tx.run("UPDATE uid_epoch SET last = last + :jump WHERE id = 1", jump=EPOCH_JUMP)
    for (account,) in tx.rows("SELECT id FROM account ORDER BY id"):
        mailboxes.renew_uid_validity(tx, account, now)
    # Nobody can say any more which names were given up since; what comes under one of them is new in any case.
    tx.run("DELETE FROM retired_name")


# --- one letter -----------------------------------------------------------------------------------


def bring_back(tx: Transaction, found: Found, lacks: Lacks, now: float) -> None:
    """Make the rows that a letter lacks. Its accounts and mailboxes are there (see `recovered_account`).

    The caller mends the counters afterwards (integrity.mend_counters). Places get back their UIDs where these are
    free, and their flags as they were at acceptance.
    """
    note, location = found.note, found.location
    if lacks.blob:
        tx.run(
            "INSERT INTO blob (id, pack, pack_offset, length, hash) VALUES (:id, :pack, :pack_offset, :length, :hash)",
            id=note.blob,
            pack=location.pack,
            pack_offset=location.offset,
            length=location.length,
            hash=location.digest,
        )
    by_email: dict[int, PlacedNote] = {}
    for placed in note.placed:
        by_email.setdefault(placed.email, placed)
    for email, placed in by_email.items():
        if email in lacks.emails:
            _insert_email(tx, found, placed)
        if email in lacks.details:
            _insert_detail(tx, found, placed)
    _place(tx, found, lacks.places, now)
    if note.queued is not None and (lacks.is_queued or lacks.recipients):
        _enqueue(tx, note, note.queued, lacks, location.length)


def _insert_email(tx: Transaction, found: Found, placed: PlacedNote) -> None:
    note = found.note
    tx.run(
        "INSERT INTO email (id, account, blob, thread, received_at, size, header_size, has_dot_lines)"
        " VALUES (:email, :account, :blob, :thread, :received_at, :size, :header_size, :has_dot_lines)",
        email=placed.email,
        account=placed.account,
        blob=note.blob,
        thread=placed.thread,
        received_at=note.received_at,
        size=len(placed.prefix) + found.location.length,
        header_size=note.header_size,
        has_dot_lines=int(note.has_dot_lines),
    )
    threads.enter(tx, placed.account, found.keys, placed.thread)


def _insert_detail(tx: Transaction, found: Found, placed: PlacedNote) -> None:
    tx.run(
        "INSERT INTO email_detail (email, prefix, summary, reverse_path, trace)"
        " VALUES (:email, :prefix, :summary, :reverse_path, :trace)",
        email=placed.email,
        prefix=placed.prefix,
        summary=found.summary,
        reverse_path=found.note.reverse_path,
        trace=found.note.trace,
    )


def _place(tx: Transaction, found: Found, places: tuple[PlacedNote, ...], now: float) -> None:
    units: dict[int, journal.Unit] = {}
    for placed in places:
        unit = units.get(placed.account)
        if unit is None:
            unit = units[placed.account] = journal.begin(tx, placed.account, now)
        uid = placed.uid
        if tx.row("SELECT 1 FROM placement WHERE mailbox = :mailbox AND uid = :uid", mailbox=placed.mailbox, uid=uid):
            row = tx.row("SELECT uid_next FROM mailbox WHERE id = :mailbox", mailbox=placed.mailbox)
            assert row is not None, "the caller made it"
            uid = row[0]
        tx.run(
            "UPDATE mailbox SET uid_next = CASE WHEN uid_next > :uid THEN uid_next ELSE :uid + 1 END, modseq = :modseq"
            " WHERE id = :mailbox",
            mailbox=placed.mailbox,
            uid=uid,
            modseq=unit.modseq,
        )
        tx.run(
            "INSERT INTO placement (mailbox, uid, email, modseq, created, flags, keywords, size)"
            " VALUES (:mailbox, :uid, :email, :modseq, :modseq, :flags, :keywords, :size)",
            mailbox=placed.mailbox,
            uid=uid,
            email=placed.email,
            modseq=unit.modseq,
            flags=placed.flags,
            keywords=placed.keywords,
            size=len(placed.prefix) + found.location.length,
        )
        tx.run(
            journal.RECORD + " ON CONFLICT (account, modseq, mailbox, kind) DO UPDATE"
            " SET uids = journal.uids || ',' || excluded.uids",
            account=placed.account,
            modseq=unit.modseq,
            mailbox=placed.mailbox,
            kind=int(Kind.ADDED),
            uids=str(uid),
            now=now,
        )


def _enqueue(tx: Transaction, note: Note, queued: QueuedNote, lacks: Lacks, size: int) -> None:
    """On hold: what became of it is not known."""
    if lacks.is_queued:
        tx.run(
            "INSERT INTO queue_letter (id, blob, account, reverse_path, parameters, prefix, language, message_id, size,"
            " needs_eight_bit, needs_smtputf8, received_at, trace, open_recipients) VALUES (:id, :blob, :account,"
            " :reverse_path, :parameters, :prefix, :language, :message_id, :size, :eight_bit, :smtputf8, :received_at,"
            " :trace, 0)",
            id=queued.queue_id,
            blob=note.blob,
            account=queued.account,
            reverse_path=queued.reverse_path,
            parameters=queued.parameters,
            prefix=queued.prefix,
            language=queued.language,
            message_id=queued.message_id,
            size=size,
            eight_bit=int(queued.needs_eight_bit),
            smtputf8=int(queued.needs_smtputf8),
            received_at=note.received_at,
            trace=note.trace,
        )
    tx.many(
        "INSERT INTO queue_recipient (id, letter, address, notify, original_recipient, next_hop, state, due_at,"
        " warn_at, expires_at, deadline_at, attempts, hold_asked) VALUES (:id, :letter, :address, :notify,"
        " :original_recipient, :next_hop, :state, :due_at, :warn_at, :expires_at, :deadline_at, 0, 0)",
        [_recipient(tx.new_id(), queued.queue_id, each) for each in lacks.recipients],
    )
    destinations.make_ready(tx, dict.fromkeys(each.next_hop for each in lacks.recipients))
    count_open(tx, queued.queue_id)


def _recipient(number: int, letter: int, recipient: RecipientNote) -> dict[str, str | int | float | None]:
    warn_at = recipient.warn_at
    if warn_at is not None and warn_at >= recipient.expires_at:
        warn_at = None
    return {
        "id": number,
        "letter": letter,
        "address": recipient.address,
        "notify": recipient.notify,
        "original_recipient": recipient.original_recipient,
        "next_hop": recipient.next_hop,
        "state": State.HELD.value,
        "due_at": recipient.not_before,
        "warn_at": warn_at,
        "expires_at": recipient.expires_at,
        "deadline_at": recipient.expires_at if warn_at is None else warn_at,
    }


def count_open(tx: Transaction, letter: int) -> None:
    """Set a queued letter's counter to what its recipients say."""
    tx.run(
        "UPDATE queue_letter SET open_recipients = (SELECT COUNT(*) FROM queue_recipient WHERE letter = :letter"
        " AND state IN ('due', 'claimed', 'held')) WHERE id = :letter",
        letter=letter,
    )


def newer_than(reader: Reader, note: Note, last_id: int) -> Lacks | None:
    """What to bring back of a letter when the database is of the moment when `last_id` was the last id given out.

    None: the database knows it, or had known it and forgot it before that moment.
    """
    if note.blob <= last_id or reader.row("SELECT 1 FROM blob WHERE id = :id", id=note.blob) is not None:
        return None
    emails = frozenset(placed.email for placed in note.placed)
    return Lacks(
        blob=True,
        emails=emails,
        details=emails,
        places=tuple(note.placed),
        is_queued=note.queued is not None,
        recipients=() if note.queued is None else tuple(note.queued.recipients),
    )
