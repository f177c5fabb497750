# SPDX-License-Identifier: Apache-2.0
"""The note beside each content in the packs: enough to rebuild every letter's rows where the database is lost.

Version 1 is a MessagePack array of the fields below in their order; new fields only ever go to the end.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from posthouse.store.queue_rows import QueuedLetter, pack_notify, pack_reverse_path
from posthouse.store.uidset import MAX_UID

VERSION = 1

# What a database takes: damage that a checksum happens to fit must not stop a rebuild in the middle.
Id = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Uid = Annotated[int, msgspec.Meta(ge=1, le=MAX_UID)]
# Seconds; the years 1 to 9999, which a client may give as the internal date of what it puts into a mailbox.
Moment = Annotated[float, msgspec.Meta(ge=-62_135_596_800, le=253_402_300_799)]


class PlacedNote(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One placement. Several with the same email id share one letter."""

    account: Id
    mailbox: Id
    uid: Uid
    email: Id
    thread: Id
    flags: Id
    keywords: str
    prefix: bytes


class RecipientNote(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One recipient in the queue; see store.queue.QueuedRecipient."""

    address: str
    notify: Id | None
    original_recipient: str | None
    next_hop: str
    not_before: Moment
    expires_at: Moment
    is_held: bool
    warn_at: Moment | None


class QueuedNote(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The letter in the queue; `parameters` as queue_rows.pack_reverse_path makes them."""

    queue_id: Id
    account: Id | None
    reverse_path: str
    parameters: bytes
    prefix: bytes
    language: str
    message_id: str
    needs_eight_bit: bool
    needs_smtputf8: bool
    recipients: list[RecipientNote]


class Note(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A letter as it was accepted. `blob` is its row's id; times are seconds since the epoch."""

    version: int
    blob: Id
    received_at: Moment
    trace: str
    reverse_path: str
    header_size: Id
    has_dot_lines: bool
    placed: list[PlacedNote]
    queued: QueuedNote | None = None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Note)


def encode(note: Note) -> bytes:
    return _ENCODER.encode(note)


def decode(octets: bytes) -> Note:
    """Raise `msgspec.MsgspecError` for what is no note."""
    try:
        return _DECODER.decode(octets)
    except (UnicodeDecodeError, RecursionError) as error:  # damage that msgspec lets fall through
        raise msgspec.DecodeError(str(error)) from None


def read_note(octets: bytes) -> Note | None:
    """None: it is no note, or one of another version that only a newer program understands."""
    try:
        return decode(octets)
    except msgspec.MsgspecError:
        return None


def queued_note(queue_id: int, letter: QueuedLetter) -> QueuedNote:
    return QueuedNote(
        queue_id,
        letter.account,
        str(letter.reverse_path),
        pack_reverse_path(letter.reverse_path),
        letter.prefix,
        letter.language,
        letter.message_id,
        letter.needs_eight_bit,
        letter.needs_smtputf8,
        [
            RecipientNote(
                str(recipient.path),
                pack_notify(recipient.path.notify),
                recipient.path.original_recipient,
                recipient.next_hop,
                recipient.not_before,
                recipient.expires_at,
                recipient.is_held,
                recipient.warn_at,
            )
            for recipient in letter.recipients
        ],
    )
