# SPDX-License-Identifier: Apache-2.0
"""The journal: what every unit of work changed in an account, in order. The ChangeBus only hints; this is true.

One mod-sequence per unit of work, from one counter per account that IMAP and JMAP share; one row per unit,
mailbox and kind. Whoever applies all rows in order to an empty account gets its mailboxes with their UIDs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from posthouse.outcome import BAD_MAILBOX, Refusal
from posthouse.ports import Reader, Transaction
from posthouse.store import uidset
from posthouse.store.uidset import Ranges

TOMBSTONE_DAYS = 90  # DESIGN: the default of the setting; a client away for longer resynchronises in full
TOMBSTONES_AT_ONCE = 10_000  # one unit of work may have removed a million letters; forgetting them takes many
PURGE_PAGE = 2_000  # mod-sequences forgotten in one unit of work: some tens of milliseconds of the committer


class Kind(IntEnum):
    """What happened to a mailbox. Stored: the numbers never change their meaning. Rows of one unit are in their
    order, and applied in it they are true."""

    CREATED = 1  # the mailbox appeared
    RENAMED = 2  # its name, special use or subscription changed
    ADDED = 3  # placements with these UIDs appeared
    CHANGED = 4  # flags or keywords of these UIDs changed
    EXPUNGED = 5  # these UIDs disappeared
    DELETED = 6  # it disappeared with everything in it


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work in one account: its mod-sequence, on every row it changes, and its time."""

    account: int
    modseq: int
    now: float


@dataclass(frozen=True, slots=True)
class Entry:
    modseq: int
    mailbox: int
    kind: Kind
    uids: Ranges
    at: float


@dataclass(frozen=True, slots=True)
class Page:
    """Part of the journal after some mod-sequence.

    `is_complete` False: the journal no longer reaches back so far, the reader must start from scratch.
    `has_more`: ask again from the last entry's mod-sequence (entries of one unit are never torn apart).
    """

    entries: tuple[Entry, ...]
    modseq: int
    is_complete: bool
    has_more: bool


_NEXT = "UPDATE account SET modseq = modseq + 1 WHERE id = :account RETURNING modseq"
RECORD = (
    "INSERT INTO journal (account, modseq, mailbox, kind, uids, at)"
    " VALUES (:account, :modseq, :mailbox, :kind, :uids, :now)"
)


def begin(tx: Transaction, account: int, now: float) -> Unit:
    """Take the unit's mod-sequence. It also locks the account's row, before any of its mailboxes' rows.

    Raise Refusal 5.1.1 when there is no such account.
    """
    row = tx.row(_NEXT, account=account)
    if row is None:
        raise Refusal(BAD_MAILBOX, "no such account")
    return Unit(account, row[0], now)


def record(tx: Transaction, unit: Unit, mailbox: int, kind: Kind, uids: str = "") -> None:
    """Write one row. `uids` is the text of a sequence set."""
    tx.run(RECORD, account=unit.account, modseq=unit.modseq, mailbox=mailbox, kind=int(kind), uids=uids, now=unit.now)


def state(reader: Reader, account: int) -> int:
    """The account's mod-sequence (JMAP's state, before it becomes text); 0 when there is no such account."""
    row = reader.row("SELECT modseq FROM account WHERE id = :account", account=account)
    return 0 if row is None else int(row[0])


def entries_after(reader: Reader, account: int, modseq: int, limit: int = 1_000) -> Page:
    """What changed after `modseq`, about `limit` rows of it."""
    row = reader.row("SELECT modseq, journal_floor FROM account WHERE id = :account", account=account)
    if row is None:
        return Page((), 0, is_complete=False, has_more=False)
    current, floor = row
    if modseq < floor:
        return Page((), current, is_complete=False, has_more=False)
    rows = reader.rows(
        "SELECT modseq, mailbox, kind, uids, at FROM journal WHERE account = :account AND modseq > :modseq"
        " AND modseq <= COALESCE((SELECT modseq FROM journal WHERE account = :account AND modseq > :modseq"
        "   ORDER BY modseq LIMIT 1 OFFSET :more), :current)"
        " ORDER BY modseq, mailbox, kind",
        account=account,
        modseq=modseq,
        current=current,
        more=limit - 1,
    )
    entries = tuple(Entry(row[0], row[1], Kind(row[2]), uidset.from_text(row[3]), row[4]) for row in rows)
    has_more = bool(entries) and len(entries) >= limit and entries[-1].modseq < current
    return Page(entries, current, is_complete=True, has_more=has_more)


_OLD = (
    "SELECT id FROM account WHERE id > :after AND ((SELECT journal.at FROM journal WHERE journal.account = account.id"
    " ORDER BY journal.modseq LIMIT 1) < :before OR EXISTS (SELECT 1 FROM retired_name"
    " WHERE retired_name.account = account.id AND retired_at < :before)) ORDER BY id LIMIT :limit"
)


def accounts_to_purge(reader: Reader, before: float, after: int = 0, limit: int = 1_000) -> list[int]:
    """A page of the accounts for which `purge` finds something: looking costs no sync, purging in vain does."""
    return [row[0] for row in reader.rows(_OLD, before=before, after=after, limit=limit)]


def purge(tx: Transaction, account: int, before: float, page: int = PURGE_PAGE) -> bool:
    """Forget journal rows, tombstones and retired names older than `before`; True when there is more to forget.

    A mailbox whose tombstones go gets a `tombstone_floor`: a client that was last here at or below it cannot be
    told what vanished and resynchronises in full. Mailboxes that lost none keep theirs.
    """
    row = tx.row("SELECT modseq, journal_floor FROM account WHERE id = :account", account=account)
    if row is None:
        return False
    current, floor = row
    kept = tx.row(
        "SELECT modseq FROM journal WHERE account = :account AND at >= :before ORDER BY modseq LIMIT 1",
        account=account,
        before=before,
    )
    wanted = current if kept is None else kept[0] - 1
    cut = min(wanted, floor + page)
    if cut > floor and not _forget(tx, account, cut):
        return True
    tx.run("DELETE FROM retired_name WHERE account = :account AND retired_at < :before", account=account, before=before)
    return bool(cut < wanted)


_FORGET_TOMBSTONES = (
    "DELETE FROM tombstone WHERE (mailbox, modseq, uid) IN (SELECT mailbox, modseq, uid FROM tombstone"
    " WHERE modseq <= :cut AND mailbox IN (SELECT mailbox FROM journal"
    " WHERE account = :account AND modseq <= :cut AND kind IN (:expunged, :deleted)) LIMIT :limit)"
)
_RAISE_FLOORS = (
    "UPDATE mailbox SET tombstone_floor = (SELECT MAX(modseq) FROM journal WHERE account = :account"
    " AND modseq <= :cut AND mailbox = mailbox.id AND kind = :expunged)"
    " WHERE id IN (SELECT mailbox FROM journal WHERE account = :account AND modseq <= :cut AND kind = :expunged)"
)


def _forget(tx: Transaction, account: int, cut: int) -> bool:
    """False when there were more tombstones than one unit forgets: then the journal's rows stay, and it is done again.
    The floors come first: from then on nobody is told of these removals."""
    expunged, deleted = int(Kind.EXPUNGED), int(Kind.DELETED)
    tx.run(_RAISE_FLOORS, account=account, cut=cut, expunged=expunged)
    limit = TOMBSTONES_AT_ONCE
    if tx.run(_FORGET_TOMBSTONES, account=account, cut=cut, expunged=expunged, deleted=deleted, limit=limit) == limit:
        return False
    tx.run("DELETE FROM journal WHERE account = :account AND modseq <= :cut", account=account, cut=cut)
    tx.run("UPDATE account SET journal_floor = :cut WHERE id = :account", account=account, cut=cut)
    return True
