# SPDX-License-Identifier: Apache-2.0
"""Changing flags and keywords of placements. Invariant: only rows that really change get a new mod-sequence, and
the mailbox's count of unseen letters follows exactly."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from posthouse.ports import Transaction, Value
from posthouse.store import journal, messages, uidset
from posthouse.store.flags import ALL, SEEN, pack_keywords, unpack_keywords
from posthouse.store.journal import Kind
from posthouse.store.spans import Piece, pieces
from posthouse.store.uidset import Ranges

MAX_MODSEQ = 0x7FFF_FFFF_FFFF_FFFF  # RFC 7162 §7: 63 bits


class Change(Enum):
    REPLACE = auto()
    ADD = auto()
    REMOVE = auto()


@dataclass(frozen=True, slots=True)
class Stored:
    """`modseq` of the unit; `changed` UIDs; `stale` ones left alone because they changed after `unchanged_since`."""

    modseq: int
    changed: Ranges
    stale: Ranges


_COUNT = (
    "SELECT COUNT(*) FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
    " AND modseq <= :unchanged_since AND (flags & 1) = :was"
)
_STALE = (
    "SELECT uid FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND modseq > :unchanged_since"
)
_KEYWORDS = (
    "SELECT DISTINCT keywords FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
    " AND modseq <= :unchanged_since"
)
# flags' = (flags AND keep) OR put: replace, add and remove are one statement.
_FLAGS = (
    "UPDATE placement SET flags = (flags & :keep) | :put, modseq = :modseq"
    " WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND modseq <= :unchanged_since"
    " AND ((flags & :keep) | :put) <> flags RETURNING uid"
)
_REPLACE = (
    "UPDATE placement SET flags = (flags & :keep) | :put, keywords = :keywords, modseq = :modseq"
    " WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND modseq <= :unchanged_since"
    " AND (((flags & :keep) | :put) <> flags OR keywords <> :keywords) RETURNING uid"
)
_EXCHANGE = (
    "UPDATE placement SET flags = (flags & :keep) | :put, keywords = :keywords, modseq = :modseq"
    " WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND modseq <= :unchanged_since AND keywords = :old"
    " AND (((flags & :keep) | :put) <> flags OR keywords <> :keywords) RETURNING uid"
)


def store(
    tx: Transaction,
    account: int,
    mailbox: int,
    uids: Ranges,
    change: Change,
    *,
    flags: int = 0,
    keywords: Collection[str] = (),
    now: float,
    unchanged_since: int | None = None,
) -> Stored:
    """Replace, add or remove flags (bits) and keywords of the placements with these UIDs.

    With `unchanged_since` those that changed after that mod-sequence are left alone (RFC 7162 §3.1.3).
    Raise Refusal where there is no such mailbox, and as `pack_keywords` does.
    """
    given = unpack_keywords(pack_keywords(keywords))
    unit = journal.begin(tx, account, now)
    uids = uidset.below(uids, messages.own_uid_next(tx, account, mailbox))
    keep, put = _masks(change, flags & ALL)
    shared: dict[str, Value] = {
        "mailbox": mailbox,
        "unchanged_since": MAX_MODSEQ if unchanged_since is None else unchanged_since,
    }
    stale: list[int] = []
    changed: list[int] = []
    unseen = 0
    for piece in pieces(uids):
        here = {**shared, **piece.parameters}
        if unchanged_since is not None:
            stale += (row[0] for row in tx.rows(piece.of(_STALE), **here))
        unseen += _unseen_delta(tx, piece, keep, put, here)
        changing = {**here, "keep": keep, "put": put, "modseq": unit.modseq}
        if change is Change.REPLACE:
            changed += (row[0] for row in tx.rows(piece.of(_REPLACE), keywords=" ".join(given), **changing))
        elif not given:
            changed += (row[0] for row in tx.rows(piece.of(_FLAGS), **changing))
        else:
            changed += _exchange(tx, piece, change, here, changing, given)
    done = uidset.from_uids(changed)
    if done:
        tx.run(
            "UPDATE mailbox SET modseq = :modseq, unseen = unseen + :unseen WHERE id = :mailbox",
            modseq=unit.modseq,
            unseen=unseen,
            mailbox=mailbox,
        )
        journal.record(tx, unit, mailbox, Kind.CHANGED, uidset.to_text(done))
    return Stored(unit.modseq, done, uidset.from_uids(stale))


def _masks(change: Change, flags: int) -> tuple[int, int]:
    match change:
        case Change.REPLACE:
            return 0, flags
        case Change.ADD:
            return ALL, flags
        case Change.REMOVE:
            return ALL & ~flags, 0


def _unseen_delta(tx: Transaction, piece: Piece, keep: int, put: int, here: dict[str, Value]) -> int:
    """How the count of unseen letters in one piece is about to change."""
    if put & SEEN:
        row = tx.row(piece.of(_COUNT), was=0, **here)
    elif not keep & SEEN:
        row = tx.row(piece.of(_COUNT), was=1, **here)
    else:
        return 0
    count = 0 if row is None else int(row[0])
    return -count if put & SEEN else count


def _exchange(
    tx: Transaction,
    piece: Piece,
    change: Change,
    here: dict[str, Value],
    changing: dict[str, Value],
    given: tuple[str, ...],
) -> list[int]:
    """Letters of a mailbox share a handful of keyword sets: one statement for each set that is there."""
    changed: list[int] = []
    for (old,) in sorted(tx.rows(piece.of(_KEYWORDS), **here)):
        words = set(unpack_keywords(old))
        new = pack_keywords(words | set(given) if change is Change.ADD else words - set(given))
        changed += (row[0] for row in tx.rows(piece.of(_EXCHANGE), old=old, keywords=new, **changing))
    return changed
