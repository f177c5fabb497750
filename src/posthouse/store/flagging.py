# SPDX-License-Identifier: Apache-2.0
"""Changing flags and keywords of placements. Invariant: only rows that really change get a new mod-sequence, and
the mailbox's count of unseen letters follows exactly."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from posthouse.ports import Transaction, Value
from posthouse.store import journal, messages, uidset
from posthouse.store import keywords as spelling
from posthouse.store.flags import ALL, SEEN, pack_keywords, unpack_keywords
from posthouse.store.journal import Kind, Unit
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
    "SELECT uid, flags, keywords FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
    " AND modseq > :unchanged_since"
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
    touchable: int = ALL,
    touches_keywords: bool = True,
) -> Stored:
    """Replace, add or remove flags (bits) and keywords of the placements with these UIDs.

    With `unchanged_since` those that changed after that mod-sequence are left alone (RFC 7162 §3.1.3). `touchable`
    and `touches_keywords`: what this person may change, the rest stays (RFC 4314 §4).
    Raise Refusal where there is no such mailbox, and as `pack_keywords` and `keywords.remember` do.
    """
    unit = journal.begin(tx, account, now)
    uids = uidset.below(uids, messages.own_uid_next(tx, account, mailbox))
    done = change_in(
        tx,
        unit,
        mailbox,
        uids,
        change,
        flags=flags,
        keywords=keywords,
        unchanged_since=unchanged_since,
        touchable=touchable,
        touches_keywords=touches_keywords,
    )
    if done.changed:
        journal.record(tx, unit, mailbox, Kind.CHANGED, uidset.to_text(done.changed))
    return done


def change_in(
    tx: Transaction,
    unit: Unit,
    mailbox: int,
    uids: Ranges,
    change: Change,
    *,
    flags: int = 0,
    keywords: Collection[str] = (),
    unchanged_since: int | None = None,
    touchable: int = ALL,
    touches_keywords: bool = True,
) -> Stored:
    """`store` as part of a unit that has begun, for UIDs below UIDNEXT; the journal is the caller's."""
    given = unpack_keywords(pack_keywords(keywords)) if touches_keywords else ()
    if given and change is not Change.REMOVE:
        spelling.remember(tx, unit.account, keywords)
    work = _Work(tx, change, *_masks(change, flags, touchable), given, touches_keywords=touches_keywords)
    shared: dict[str, Value] = {
        "mailbox": mailbox,
        "unchanged_since": MAX_MODSEQ if unchanged_since is None else unchanged_since,
    }
    for piece in pieces(uids):
        here = {**shared, **piece.parameters}
        if unchanged_since is not None:
            work.find_stale(piece, here)
        work.count_unseen(piece, here)
        work.change_piece(piece, here, unit.modseq)
    done = uidset.from_uids(work.changed)
    if done:
        tx.run(
            "UPDATE mailbox SET modseq = :modseq, unseen = unseen + :unseen WHERE id = :mailbox",
            modseq=unit.modseq,
            unseen=work.unseen,
            mailbox=mailbox,
        )
    return Stored(unit.modseq, done, uidset.from_uids(work.stale))


def _masks(change: Change, flags: int, touchable: int) -> tuple[int, int]:
    """(keep, put)."""
    flags &= touchable & ALL
    match change:
        case Change.REPLACE:
            return ALL & ~touchable, flags
        case Change.ADD:
            return ALL, flags
        case Change.REMOVE:
            return ALL & ~flags, 0


class _Work:
    """One change of many placements: what it does to flags is (flags AND keep) OR put."""

    __slots__ = ("change", "changed", "given", "keep", "put", "replaces_keywords", "stale", "tx", "unseen")

    def __init__(
        self, tx: Transaction, change: Change, keep: int, put: int, given: tuple[str, ...], *, touches_keywords: bool
    ) -> None:
        self.tx = tx
        self.change = change
        self.keep = keep
        self.put = put
        self.given = given
        self.replaces_keywords = change is Change.REPLACE and touches_keywords
        self.changed: list[int] = []
        self.stale: list[int] = []
        self.unseen = 0  # how the count changes

    def find_stale(self, piece: Piece, here: dict[str, Value]) -> None:
        for uid, flags, keywords in self.tx.rows(piece.of(_STALE), **here):
            # RFC 7162 §3.1.12: what has already come to what was asked for is no failure, except of a replacement.
            has_words = not self.given or self._exchanged(keywords) == keywords
            if self.change is Change.REPLACE or (flags & self.keep) | self.put != flags or not has_words:
                self.stale.append(uid)

    def count_unseen(self, piece: Piece, here: dict[str, Value]) -> None:
        """How the count of unseen letters in one piece is about to change."""
        if self.put & SEEN:
            row = self.tx.row(piece.of(_COUNT), was=0, **here)
            self.unseen -= 0 if row is None else int(row[0])
        elif not self.keep & SEEN:
            row = self.tx.row(piece.of(_COUNT), was=1, **here)
            self.unseen += 0 if row is None else int(row[0])

    def change_piece(self, piece: Piece, here: dict[str, Value], modseq: int) -> None:
        changing = {**here, "keep": self.keep, "put": self.put, "modseq": modseq}
        if self.replaces_keywords:
            rows = self.tx.rows(piece.of(_REPLACE), keywords=" ".join(self.given), **changing)
            self.changed += (row[0] for row in rows)
        elif not self.given:
            self.changed += (row[0] for row in self.tx.rows(piece.of(_FLAGS), **changing))
        else:
            # Letters of a mailbox share a handful of keyword sets: one statement for each set that is there.
            for (old,) in sorted(self.tx.rows(piece.of(_KEYWORDS), **here)):
                rows = self.tx.rows(piece.of(_EXCHANGE), old=old, keywords=self._exchanged(old), **changing)
                self.changed += (row[0] for row in rows)

    def _exchanged(self, old: str) -> str:
        words = set(unpack_keywords(old))
        return pack_keywords(words - set(self.given) if self.change is Change.REMOVE else words | set(self.given))
