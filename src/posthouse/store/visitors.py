# SPDX-License-Identifier: Apache-2.0
r"""What people see of mailboxes that are not theirs: \Seen is each person's own, all other flags are everybody's.

Invariant: a visitor's \Seen has a mod-sequence of the owner's account, so that the visitor's clients learn of it as of
any other change (RFC 7162); the owner's letters stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from posthouse.ports import Reader, Transaction
from posthouse.store import flagging, journal, messages, uidset
from posthouse.store.catalogue import Letters
from posthouse.store.flagging import Change, Stored
from posthouse.store.flags import ALL, SEEN
from posthouse.store.journal import Kind
from posthouse.store.spans import pieces
from posthouse.store.uidset import Ranges

_UNSEE = bytes(octet & ~SEEN for octet in range(256))


@dataclass(frozen=True, slots=True)
class SeenRow:
    uid: int
    is_seen: bool
    modseq: int


_ROWS = (
    "SELECT uid, is_seen, modseq FROM visitor_seen WHERE mailbox = :mailbox AND person = :person"
    " AND modseq > :after ORDER BY uid"
)
_SEE = (
    "INSERT INTO visitor_seen (mailbox, person, uid, is_seen, modseq)"
    " SELECT mailbox, :person, uid, 1, :modseq FROM placement"
    " WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
    " ON CONFLICT (mailbox, person, uid) DO UPDATE SET is_seen = 1, modseq = excluded.modseq"
    " WHERE visitor_seen.is_seen = 0 RETURNING uid"
)
_FORGET = (
    "UPDATE visitor_seen SET is_seen = 0, modseq = :modseq WHERE mailbox = :mailbox AND person = :person"
    " AND uid BETWEEN :first AND :last AND is_seen = 1 RETURNING uid"
)
_STALE = (
    "SELECT uid FROM visitor_seen WHERE mailbox = :mailbox AND person = :person AND uid BETWEEN :first AND :last"
    " AND modseq > :unchanged_since AND is_seen <> :wanted"
)


def seen(reader: Reader, mailbox: int, person: int, after: int = 0) -> list[SeenRow]:
    """What the person has seen, or no longer has; only what changed after a mod-sequence."""
    rows = reader.rows(_ROWS, mailbox=mailbox, person=person, after=after)
    return [SeenRow(uid, bool(is_seen), modseq) for uid, is_seen, modseq in rows]


def unseen(reader: Reader, mailbox: int, person: int) -> int:
    """How many letters the person has not seen (STATUS UNSEEN)."""
    row = reader.row(
        "SELECT total - (SELECT COUNT(*) FROM visitor_seen WHERE mailbox = :mailbox AND person = :person"
        " AND is_seen = 1) FROM mailbox WHERE id = :mailbox",
        mailbox=mailbox,
        person=person,
    )
    return 0 if row is None else int(row[0])


def as_seen_by(letters: Letters, rows: Collection[SeenRow]) -> Letters:
    r"""The same letters with this person's \Seen instead of the owner's. What is not changed is shared."""
    flags = letters.flags[:0]
    flags.frombytes(letters.flags.tobytes().translate(_UNSEE))
    modseqs = letters.modseqs[:]
    places = {uid: place for place, uid in enumerate(letters.uids)} if rows else {}
    for row in rows:
        place = places.get(row.uid)
        if place is not None:
            flags[place] |= SEEN if row.is_seen else 0
            modseqs[place] = max(modseqs[place], row.modseq)
    return Letters(letters.uids, letters.emails, modseqs, flags, letters.sizes, letters.keywords, letters.texts)


def see(tx: Transaction, mailbox: int, person: int, uids: Ranges, modseq: int) -> None:
    """These are seen by the person, as of a unit of work that has told of them."""
    for piece in pieces(uids):
        tx.rows(piece.of(_SEE), mailbox=mailbox, person=person, modseq=modseq, **piece.parameters)


def store(
    tx: Transaction,
    account: int,
    mailbox: int,
    person: int,
    uids: Ranges,
    change: Change,
    *,
    flags: int = 0,
    keywords: Collection[str] = (),
    now: float,
    unchanged_since: int | None = None,
    touchable: int = ALL,
    touches_keywords: bool = True,
) -> Stored:
    r"""`flagging.store` for a person who is not the owner (`account`): \Seen changes for that person alone."""
    unit = journal.begin(tx, account, now)
    uids = uidset.below(uids, messages.own_uid_next(tx, account, mailbox))
    wanted = _wanted(change, flags, touchable)
    stale: Ranges = ()
    if unchanged_since is not None and wanted is not None:
        here = {"mailbox": mailbox, "person": person, "unchanged_since": unchanged_since, "wanted": int(wanted)}
        stale = uidset.from_uids(
            row[0] for piece in pieces(uids) for row in tx.rows(piece.of(_STALE), **here, **piece.parameters)
        )
        uids = uidset.difference(uids, stale)
    done = flagging.change_in(
        tx,
        unit,
        mailbox,
        uids,
        change,
        flags=flags,
        keywords=keywords,
        unchanged_since=unchanged_since,
        touchable=touchable & ~SEEN,
        touches_keywords=touches_keywords,
    )
    changed = done.changed
    if wanted is not None:
        here = {"mailbox": mailbox, "person": person, "modseq": unit.modseq}
        statement = _SEE if wanted else _FORGET
        turned = uidset.from_uids(
            row[0]
            for piece in pieces(uidset.difference(uids, done.stale))
            for row in tx.rows(piece.of(statement), **here, **piece.parameters)
        )
        changed = uidset.merged((changed, turned))
    if changed:
        tx.run("UPDATE mailbox SET modseq = :modseq WHERE id = :mailbox", modseq=unit.modseq, mailbox=mailbox)
        journal.record(tx, unit, mailbox, Kind.CHANGED, uidset.to_text(changed))
    return Stored(unit.modseq, changed, uidset.merged((stale, done.stale)))


def _wanted(change: Change, flags: int, touchable: int) -> bool | None:
    r"""What becomes of \Seen; None: nothing."""
    if not touchable & SEEN:
        return None
    match change:
        case Change.REPLACE:
            return bool(flags & SEEN)
        case Change.ADD:
            return True if flags & SEEN else None
        case Change.REMOVE:
            return False if flags & SEEN else None
