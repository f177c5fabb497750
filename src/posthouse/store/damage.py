# SPDX-License-Identifier: Apache-2.0
"""Whose letter is it? What the rows, or the note in a pack, still tell of a letter whose octets are hurt.

Invariant: nothing here needs the content, so a letter is named however little of it is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from posthouse.mail.encoded_word import decode_header_text
from posthouse.mail.header import unpack_envelope
from posthouse.ports import BlobLocation, Reader, Row
from posthouse.store.messages import unique_id
from posthouse.store.notes import Note

SHOWN = 200  # characters of a subject or an address list; what is longer names the letter no better
RECIPIENTS_SHOWN = 100  # of one queued letter


@dataclass(frozen=True, slots=True)
class Hurt:
    """One letter as an administrator knows it. Texts are "" where nobody knows.

    In a mailbox: `owner`, `mailbox`, `uid`, and `letter`, the id that export and POP3 show. In the queue: `queue_id`
    and `recipients`, those it has not reached yet. `received_at` in epoch seconds, `date` as the letter says it.
    """

    owner: str = ""
    mailbox: str = ""
    uid: int = 0
    letter: str = ""
    queue_id: str = ""
    recipients: tuple[str, ...] = ()
    message_id: str = ""
    subject: str = ""
    sender: str = ""
    date: str = ""
    received_at: float = 0.0
    size: int = 0

    @property
    def place(self) -> str:
        """Where it is, in words."""
        if self.queue_id:
            more = f" for {', '.join(self.recipients)}" if self.recipients else ""
            return f"queue entry {self.queue_id}{more}"
        if self.owner:
            return f"{self.owner}, {self.mailbox or 'no mailbox'}, UID {self.uid}"
        return "nobody's mailbox"

    @property
    def title(self) -> str:
        """What it is, in words."""
        said = f'"{self.subject}"' if self.subject else "a letter without a known subject"
        said += f" from {self.sender}" if self.sender else ""
        said += f", {self.date}" if self.date else ""
        return said + (f" (Message-ID {self.message_id})" if self.message_id else "")


@dataclass(frozen=True, slots=True)
class PlacedBlob:
    """A blob row: `id` and where it says that the content lies, with its digest."""

    id: int
    location: BlobLocation


_IN_MAILBOXES = (
    "SELECT email.id, account.name, mailbox.name, placement.uid, email_detail.summary, email_detail.reverse_path,"
    " email.received_at, email.size FROM email LEFT JOIN account ON account.id = email.account"
    " LEFT JOIN placement ON placement.email = email.id LEFT JOIN mailbox ON mailbox.id = placement.mailbox"
    " LEFT JOIN email_detail ON email_detail.email = email.id WHERE email.blob = :blob"
    " ORDER BY email.id, placement.mailbox, placement.uid"
)
_IN_QUEUE = "SELECT id, reverse_path, message_id, received_at, size FROM queue_letter WHERE blob = :blob ORDER BY id"
_WAITING = (
    "SELECT address FROM queue_recipient WHERE letter = :letter AND state IN ('due', 'claimed', 'held')"
    " ORDER BY id LIMIT :n"
)


def of_blob(reader: Reader, blob: int) -> list[Hurt]:
    """Everywhere a content is shown or waits; empty when nothing refers to it any more."""
    found = [_in_mailbox(row) for row in reader.rows(_IN_MAILBOXES, blob=blob)]
    for queue_id, reverse_path, message_id, received_at, size in reader.rows(_IN_QUEUE, blob=blob):
        waiting = reader.rows(_WAITING, letter=queue_id, n=RECIPIENTS_SHOWN)
        found.append(
            Hurt(
                queue_id=str(queue_id),
                recipients=tuple(row[0] for row in waiting),
                message_id=_bracketed(message_id),
                sender=reverse_path,
                received_at=received_at,
                size=size,
            )
        )
    return found


def _in_mailbox(row: Row) -> Hurt:
    email, owner, mailbox, uid, summary, reverse_path, received_at, size = row
    return described(
        b"" if summary is None else bytes(summary),
        Hurt(
            owner=owner or "an account that is gone",
            mailbox=mailbox or "",
            uid=uid or 0,
            letter=unique_id(email),
            sender=reverse_path or "",
            received_at=received_at,
            size=size,
        ),
    )


def described(summary: bytes, hurt: Hurt) -> Hurt:
    """With what the packed ENVELOPE values say; as it was where they say nothing."""
    values: dict[bytes, bytes | None] = {}
    with contextlib.suppress(ValueError):
        values = unpack_envelope(summary)
    return Hurt(
        owner=hurt.owner,
        mailbox=hurt.mailbox,
        uid=hurt.uid,
        letter=hurt.letter,
        queue_id=hurt.queue_id,
        recipients=hurt.recipients,
        message_id=_text(values.get(b"message-id")) or hurt.message_id,
        subject=_text(values.get(b"subject")),
        sender=_text(values.get(b"from")) or hurt.sender,
        date=_text(values.get(b"date")),
        received_at=hurt.received_at,
        size=hurt.size,
    )


def of_note(reader: Reader, note: Note, summary: bytes, size: int) -> list[Hurt]:
    """As `of_blob`, for a letter that the note alone knows."""
    found = []
    for placed in note.placed:
        row = reader.row(
            "SELECT account.name, mailbox.name FROM account LEFT JOIN mailbox ON mailbox.id = :mailbox"
            " WHERE account.id = :account",
            account=placed.account,
            mailbox=placed.mailbox,
        )
        owner, mailbox = row or ("", "")
        found.append(
            Hurt(
                owner=owner or "an account that is gone",
                mailbox=mailbox or "a mailbox that is gone",
                uid=placed.uid,
                letter=unique_id(placed.email),
                sender=note.reverse_path,
                received_at=note.received_at,
                size=size,
            )
        )
    if note.queued is not None:
        found.append(
            Hurt(
                queue_id=str(note.queued.queue_id),
                recipients=tuple(each.address for each in note.queued.recipients[:RECIPIENTS_SHOWN]),
                message_id=_bracketed(note.queued.message_id),
                sender=note.queued.reverse_path,
                received_at=note.received_at,
                size=size,
            )
        )
    return [described(summary, each) for each in found]


def _text(value: bytes | None) -> str:
    """A field's value for people: one line, no control characters, not too long."""
    if not value:
        return ""
    text = "".join(each if each.isprintable() else " " for each in decode_header_text(value)).strip()
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _bracketed(message_id: str) -> str:
    bare = _text(message_id.strip().strip("<>").encode("utf-8", "replace"))
    return f"<{bare}>" if bare else ""


def of_row(reader: Reader, table: str, row: int) -> Hurt | None:
    """The letter that a row of some table belongs to; None where it belongs to none, or none is left."""
    statement = _BLOB_OF.get(table)
    found = None if statement is None else reader.row(statement, id=row)
    if found is None:
        return None
    return next(iter(of_blob(reader, found[0])), None)


_BLOB_OF = {
    "email": "SELECT blob FROM email WHERE id = :id",
    "email_detail": "SELECT blob FROM email WHERE id = :id",
    "queue_letter": "SELECT blob FROM queue_letter WHERE id = :id",
    "queue_recipient": (
        "SELECT queue_letter.blob FROM queue_recipient JOIN queue_letter ON queue_letter.id = queue_recipient.letter"
        " WHERE queue_recipient.id = :id"
    ),
}


# --- blob rows by place ---------------------------------------------------------------------------

_BLOB = "SELECT id, pack, pack_offset, length, hash FROM blob "


def blob(reader: Reader, number: int) -> PlacedBlob | None:
    row = reader.row(_BLOB + "WHERE id = :id", id=number)
    return None if row is None else _placed(row)


def blobs_between(reader: Reader, pack: int, start: int, end: int) -> list[PlacedBlob]:
    """Those whose content begins in [start, end) of a pack, in order of their place."""
    rows = reader.rows(
        _BLOB + "WHERE pack = :pack AND pack_offset >= :start AND pack_offset < :end ORDER BY pack_offset, id",
        pack=pack,
        start=start,
        end=end,
    )
    return [_placed(row) for row in rows]


def blobs_of_pack(reader: Reader, pack: int, after: int, limit: int) -> list[PlacedBlob]:
    """A page of them by id."""
    rows = reader.rows(
        _BLOB + "WHERE pack = :pack AND id > :after ORDER BY id LIMIT :limit", pack=pack, after=after, limit=limit
    )
    return [_placed(row) for row in rows]


def packs_with_blobs(reader: Reader) -> list[int]:
    """Every pack that some row refers to: one step into the index for each."""
    found: list[int] = []
    row = reader.row("SELECT MIN(pack) FROM blob")
    while row is not None and row[0] is not None:
        found.append(row[0])
        row = reader.row("SELECT MIN(pack) FROM blob WHERE pack > :pack", pack=row[0])
    return found


def _placed(row: Row) -> PlacedBlob:
    return PlacedBlob(row[0], BlobLocation(row[1], row[2], row[3], bytes(row[4])))


def still_there(reader: Reader, suspects: Iterable[PlacedBlob]) -> list[PlacedBlob]:
    """Those whose rows still say the same: others were moved or removed while their pack was read."""
    return [each for each in suspects if blob(reader, each.id) == each]
