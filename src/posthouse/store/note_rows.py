# SPDX-License-Identifier: Apache-2.0
"""A note made anew from the rows, for a letter whose own was hurt: what changed since acceptance is in it as it is."""

from __future__ import annotations

from posthouse.ports import Reader
from posthouse.store.notes import VERSION, Note, PlacedNote, QueuedNote, RecipientNote

_PLACED = (
    "SELECT email.account, placement.mailbox, placement.uid, email.id, email.thread, placement.flags,"
    " placement.keywords, email_detail.prefix FROM email JOIN placement ON placement.email = email.id"
    " JOIN email_detail ON email_detail.email = email.id WHERE email.blob = :blob"
    " ORDER BY email.account, placement.mailbox, placement.uid"
)
_EMAIL = (
    "SELECT email.received_at, email_detail.trace, email_detail.reverse_path, email.header_size, email.has_dot_lines"
    " FROM email JOIN email_detail ON email_detail.email = email.id WHERE email.blob = :blob ORDER BY email.id LIMIT 1"
)
_QUEUED = (
    "SELECT id, account, reverse_path, parameters, prefix, language, message_id, needs_eight_bit, needs_smtputf8,"
    " received_at, trace FROM queue_letter WHERE blob = :blob ORDER BY id LIMIT 1"
)
_RECIPIENTS = (
    "SELECT address, notify, original_recipient, next_hop, due_at, expires_at, state, warn_at FROM queue_recipient"
    " WHERE letter = :letter AND state IN ('due', 'claimed', 'held') ORDER BY id"
)


def note_of(reader: Reader, blob: int) -> Note | None:
    """None when nothing refers to the blob."""
    head = reader.row(_EMAIL, blob=blob)
    queued = _queued(reader, blob)
    if head is None and queued is None:
        return None
    placed = [PlacedNote(*(*row[:7], bytes(row[7]))) for row in reader.rows(_PLACED, blob=blob)]
    if head is None:
        assert queued is not None
        note, received_at, trace = queued
        return Note(VERSION, blob, received_at, trace, note.reverse_path, 0, False, placed, note)
    return Note(
        VERSION, blob, head[0], head[1], head[2], head[3], bool(head[4]), placed, None if queued is None else queued[0]
    )


def _queued(reader: Reader, blob: int) -> tuple[QueuedNote, float, str] | None:
    row = reader.row(_QUEUED, blob=blob)
    if row is None:
        return None
    recipients = [
        RecipientNote(address, notify, original, next_hop, due_at, expires_at, state == "held", warn_at)
        for address, notify, original, next_hop, due_at, expires_at, state, warn_at in reader.rows(
            _RECIPIENTS, letter=row[0]
        )
    ]
    note = QueuedNote(
        row[0], row[1], row[2], bytes(row[3]), bytes(row[4]), row[5], row[6], bool(row[7]), bool(row[8]), recipients
    )
    return note, row[9], row[10]
