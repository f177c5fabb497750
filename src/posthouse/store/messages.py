# SPDX-License-Identifier: Apache-2.0
"""Placements: reading a mailbox as arrays, expunge, COPY, MOVE, what changed since.

A letter counts once against its account's quota while any placement shows it; when the last one goes, so do its
rows, and its content becomes garbage. Everything here is done by statements over ranges or lists of UIDs
(store/spans.py): ten letters or a thousand are the same few statements.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain, compress

from posthouse.ports import Reader, Transaction
from posthouse.store import journal, uidset
from posthouse.store.flags import DELETED
from posthouse.store.journal import Kind, Unit
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.spans import pieces
from posthouse.store.uidset import Ranges

# Letters of one COPY or MOVE, which is one unit: a second or two, in which nobody else's mail is committed.
MAX_CARRIED = 250_000
MAX_PLACES = 10_000_000  # letters in all mailboxes of an account, copies counted: some 200 octets of rows for each


@dataclass(slots=True)
class Maildrop:
    """A mailbox as POP3 sees it, in order of UID: parallel arrays. `sizes` in octets, `octets` their sum, `emails`
    give the UIDLs."""

    mailbox: int
    uid_validity: int
    uids: array[int]
    sizes: array[int]
    emails: array[int]
    octets: int

    def __len__(self) -> int:
        return len(self.uids)

    def extend(self, page: Maildrop) -> None:
        """Go on with the next page."""
        self.uids.extend(page.uids)
        self.sizes.extend(page.sizes)
        self.emails.extend(page.emails)
        self.octets += page.octets

    def without(self, indexes: Collection[int]) -> Maildrop:
        """The same without the letters at these indexes."""
        stays = bytearray(b"\1") * len(self)
        for index in indexes:
            stays[index] = 0
        uids, sizes, emails = (array("Q", compress(each, stays)) for each in (self.uids, self.sizes, self.emails))
        return Maildrop(self.mailbox, self.uid_validity, uids=uids, sizes=sizes, emails=emails, octets=sum(sizes))


@dataclass(frozen=True, slots=True)
class View:
    """A mailbox as IMAP sees it, in order of UID: parallel arrays, keywords as their stored text."""

    mailbox: int
    uid_validity: int
    uid_next: int
    modseq: int
    uids: array[int]
    emails: array[int]
    modseqs: array[int]
    flags: array[int]
    sizes: array[int]
    keywords: list[str]


@dataclass(frozen=True, slots=True)
class Changes:
    """A mailbox since some mod-sequence. `is_complete` False: what vanished is not known (any more)."""

    modseq: int
    is_complete: bool
    changed: Ranges
    vanished: Ranges


@dataclass(frozen=True, slots=True)
class Expunged:
    modseq: int
    uids: Ranges


@dataclass(frozen=True, slots=True)
class Copied:
    """`source` and `target` UIDs pair off in order (COPYUID, RFC 9051 §7.1)."""

    modseq: int
    uid_validity: int
    source: Ranges
    target: Ranges


UNIQUE_ID = b"e%x"  # formats an email id: UIDL (RFC 1939 §7), EMAILID (RFC 8474 §5.1), JMAP id


def unique_id(email: int) -> str:
    """The text of an email id, as UNIQUE_ID has it."""
    return f"e{email:x}"


def thread_id(thread: int) -> str:
    """The text of a thread id: THREADID (RFC 8474 §5.2), JMAP id."""
    return f"t{thread:x}"


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opening:
    """A mailbox at the moment when it was opened: what is below `uid_next` was there. `drop` None: not listed yet."""

    uid_next: int
    total: int
    octets: int
    drop: Maildrop | None


def opening(reader: Reader, mailbox: int, limit: int) -> Opening | None:
    """The totals of a mailbox, and its list if that has at most `limit` letters; None: no such mailbox."""
    row = reader.row("SELECT uid_next, total, octets FROM mailbox WHERE id = :mailbox", mailbox=mailbox)
    if row is None:
        return None
    uid_next, total, octets = row
    return Opening(uid_next, total, octets, maildrop(reader, mailbox) if total <= limit else None)


def maildrop(
    reader: Reader, mailbox: int, *, after: int = 0, below: int = uidset.MAX_UID + 1, limit: int = uidset.MAX_UID
) -> Maildrop | None:
    """The placements of a mailbox, at most `limit` above UID `after` and below UID `below`, without touching a letter;
    None when there is no such mailbox."""
    head = reader.row("SELECT uid_validity FROM mailbox WHERE id = :mailbox", mailbox=mailbox)
    if head is None:
        return None
    rows = reader.rows(
        "SELECT uid, size, email FROM placement WHERE mailbox = :mailbox AND uid > :after AND uid < :below"
        " ORDER BY uid LIMIT :limit",
        mailbox=mailbox,
        after=after,
        below=below,
        limit=limit,
    )
    flat = array("Q", chain.from_iterable(rows))  # zip(*rows) takes twice as long
    sizes = flat[1::3]
    return Maildrop(mailbox, head[0], uids=flat[0::3], sizes=sizes, emails=flat[2::3], octets=sum(sizes))


def newcomers(reader: Reader, known: Maildrop, limit: int) -> Maildrop | None:
    """What must be added to a maildrop that was listed earlier; None where that is not enough: letters were removed
    since, there are more than `limit` new ones, or the mailbox is not the same any more."""
    row = reader.row("SELECT uid_validity, total FROM mailbox WHERE id = :mailbox", mailbox=known.mailbox)
    missing = 0 if row is None else row[1] - len(known)
    if row is None or row[0] != known.uid_validity or not 0 <= missing < limit:
        return None
    page = maildrop(reader, known.mailbox, after=known.uids[-1] if len(known) else 0, limit=limit)
    # The mailbox's counter is exact: with a letter removed there would be more new ones than are missing.
    return page if page is not None and len(page) == missing else None


def view(reader: Reader, mailbox: int) -> View | None:
    """All placements of a mailbox with flags; None when there is no such mailbox."""
    head = reader.row("SELECT uid_validity, uid_next, modseq FROM mailbox WHERE id = :mailbox", mailbox=mailbox)
    if head is None:
        return None
    rows = reader.rows(
        "SELECT uid, email, modseq, flags, size, keywords FROM placement WHERE mailbox = :mailbox ORDER BY uid",
        mailbox=mailbox,
    )
    flat = array("Q", chain.from_iterable(row[:5] for row in rows))
    return View(
        mailbox=mailbox,
        uid_validity=head[0],
        uid_next=head[1],
        modseq=head[2],
        uids=flat[0::5],
        emails=flat[1::5],
        modseqs=flat[2::5],
        flags=array("B", flat[3::5]),
        sizes=flat[4::5],
        keywords=[row[5] for row in rows],
    )


def changes_since(reader: Reader, mailbox: int, modseq: int) -> Changes | None:
    """What a client that knows the mailbox as of `modseq` has missed (RFC 7162 §3.2.5); None: no such mailbox."""
    head = reader.row("SELECT modseq, tombstone_floor FROM mailbox WHERE id = :mailbox", mailbox=mailbox)
    if head is None:
        return None
    changed = reader.rows(
        "SELECT uid FROM placement WHERE mailbox = :mailbox AND modseq > :modseq", mailbox=mailbox, modseq=modseq
    )
    vanished = reader.rows(
        "SELECT uid FROM tombstone WHERE mailbox = :mailbox AND modseq > :modseq", mailbox=mailbox, modseq=modseq
    )
    return Changes(
        head[0],
        is_complete=modseq >= head[1],
        changed=uidset.from_uids(row[0] for row in changed),
        vanished=uidset.from_uids(row[0] for row in vanished),
    )


def existing(reader: Reader, mailbox: int, uids: Ranges, *, only_deleted: bool = False) -> list[int]:
    """Those of the UIDs that are there, growing; with `only_deleted` those flagged \\Deleted."""
    found: list[int] = []
    for piece in pieces(uids):
        rows = reader.rows(piece.of(_EXISTING), mailbox=mailbox, wanted=_wanted(only_deleted), **piece.parameters)
        found += [row[0] for row in rows]
    return found


def own_uid_next(reader: Reader, account: int, mailbox: int) -> int:
    """The mailbox's UIDNEXT. Raise `MailboxRefusal` NONEXISTENT unless it is a mailbox of this account."""
    row = reader.row(
        "SELECT uid_next FROM mailbox WHERE id = :mailbox AND account = :account", mailbox=mailbox, account=account
    )
    if row is None:
        raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
    return int(row[0])


def _wanted(only_deleted: bool) -> int:
    """A mask that the flags of what is meant must cover."""
    return DELETED if only_deleted else 0


_EXISTING = (
    "SELECT uid FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
    " AND (flags & :wanted) = :wanted ORDER BY uid"
)

# --- expunge --------------------------------------------------------------------------------------

_BURY = (
    "INSERT INTO tombstone (mailbox, modseq, uid, email) SELECT mailbox, :modseq, uid, email FROM placement"
    " WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND (flags & :wanted) = :wanted"
)
_WEIGH = (
    "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT), CAST(COALESCE(SUM(1 - (flags & 1)), 0) AS BIGINT)"
    " FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND (flags & :wanted) = :wanted"
)
_UNPLACE = (
    "DELETE FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND (flags & :wanted) = :wanted"
)
_SHRINK = (
    "UPDATE mailbox SET modseq = :modseq, total = total - :count, octets = octets - :octets,"
    " unseen = unseen - :unseen WHERE id = :mailbox"
)
_FORGET_SEEN = (
    "DELETE FROM visitor_seen WHERE mailbox = :mailbox AND uid IN"
    " (SELECT uid FROM tombstone WHERE mailbox = :mailbox AND modseq = :modseq)"
)
_BURIED = "SELECT uid FROM tombstone WHERE mailbox = :mailbox AND modseq = :modseq ORDER BY uid"
# Emails of this unit's tombstones that no placement shows any more.
_WEIGH_LOST = (
    "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM email WHERE id IN"
    " (SELECT email FROM tombstone WHERE mailbox = :mailbox AND modseq = :modseq)"
    " AND NOT EXISTS (SELECT 1 FROM placement WHERE placement.email = email.id)"
)
_DROP_LOST_DETAILS = (
    "DELETE FROM email_detail WHERE email IN"
    " (SELECT email FROM tombstone WHERE mailbox = :mailbox AND modseq = :modseq)"
    " AND NOT EXISTS (SELECT 1 FROM placement WHERE placement.email = email_detail.email)"
)
_DROP_LOST = (
    "DELETE FROM email WHERE id IN (SELECT email FROM tombstone WHERE mailbox = :mailbox AND modseq = :modseq)"
    " AND NOT EXISTS (SELECT 1 FROM placement WHERE placement.email = email.id)"
)
_RETURN_QUOTA = (
    "UPDATE account SET used_octets = used_octets - :octets, used_letters = used_letters - :count WHERE id = :account"
)


def expunge(
    tx: Transaction, account: int, mailbox: int, uids: Ranges, *, now: float, only_deleted: bool = False
) -> Expunged:
    """Remove placements for good (with `only_deleted` only those flagged \\Deleted); UIDs that are not there do not
    matter. Raise `MailboxRefusal` where there is no such mailbox."""
    unit = journal.begin(tx, account, now)
    return Expunged(unit.modseq, expunge_in(tx, unit, mailbox, uids, only_deleted=only_deleted))


def expunge_in(tx: Transaction, unit: Unit, mailbox: int, uids: Ranges, *, only_deleted: bool = False) -> Ranges:
    """`expunge` as part of a unit that has begun."""
    gone = _take_out(tx, unit, mailbox, uids, _wanted(only_deleted))
    if gone:
        here = {"mailbox": mailbox, "modseq": unit.modseq}
        count, octets = tx.row(_WEIGH_LOST, **here) or (0, 0)
        if count:
            tx.run(_DROP_LOST_DETAILS, **here)
            tx.run(_DROP_LOST, **here)
            tx.run(_RETURN_QUOTA, account=unit.account, count=count, octets=octets)
    return gone


def _take_out(tx: Transaction, unit: Unit, mailbox: int, uids: Ranges, wanted: int) -> Ranges:
    """Placements become tombstones; emails are left as they are."""
    uids = uidset.below(uids, own_uid_next(tx, unit.account, mailbox))
    count = octets = unseen = 0
    for piece in pieces(uids):
        here = {"mailbox": mailbox, "wanted": wanted, **piece.parameters}
        weighed = tx.row(piece.of(_WEIGH), **here)
        if weighed is None or not weighed[0]:
            continue
        tx.run(piece.of(_BURY), modseq=unit.modseq, **here)
        tx.run(piece.of(_UNPLACE), **here)
        count, octets, unseen = count + weighed[0], octets + weighed[1], unseen + weighed[2]
    if not count:
        return ()
    tx.run(_SHRINK, modseq=unit.modseq, count=count, octets=octets, unseen=unseen, mailbox=mailbox)
    tx.run(_FORGET_SEEN, mailbox=mailbox, modseq=unit.modseq)
    gone = uidset.from_uids(row[0] for row in tx.rows(_BURIED, mailbox=mailbox, modseq=unit.modseq))
    journal.record(tx, unit, mailbox, Kind.EXPUNGED, uidset.to_text(gone))
    return gone


# --- COPY and MOVE --------------------------------------------------------------------------------

_RESERVE = (
    "UPDATE mailbox SET uid_next = uid_next + :count, modseq = :modseq, total = total + :count,"
    " octets = octets + :octets, unseen = unseen + :unseen WHERE id = :mailbox"
)
_PLACE_AGAIN = (
    "INSERT INTO placement (mailbox, uid, email, modseq, created, flags, keywords, size, saved_at)"
    " SELECT :target, :base + ROW_NUMBER() OVER (ORDER BY uid), email, :modseq, :modseq, flags, keywords, size, :now"
    " FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
)
_VALIDITY = "SELECT uid_validity FROM mailbox WHERE id = :mailbox AND account = :account"
_EVERY = 0  # the mask that all flags cover


def copy(tx: Transaction, account: int, mailbox: int, uids: Ranges, target: int, *, now: float) -> Copied:
    """Place letters in another mailbox of the same account too, with their flags; the email ids stay.

    Costs no quota. Raise `MailboxRefusal` where one of the mailboxes is not there.
    """
    return _copy(tx, journal.begin(tx, account, now), mailbox, uids, target)


def move(tx: Transaction, account: int, mailbox: int, uids: Ranges, target: int, *, now: float) -> Copied:
    """Replace placements by ones in another mailbox of the same account (RFC 6851), or by new ones in the same."""
    return move_in(tx, journal.begin(tx, account, now), mailbox, uids, target)


def move_in(tx: Transaction, unit: Unit, mailbox: int, uids: Ranges, target: int) -> Copied:
    """`move` as part of a unit that has begun."""
    copied = _copy(tx, unit, mailbox, uids, target)
    _take_out(tx, unit, mailbox, copied.source, _EVERY)
    return copied


def check_carried(count: int) -> None:
    """Raise `MailboxRefusal` LIMIT where one unit would copy or move too many letters."""
    if count > MAX_CARRIED:
        raise MailboxRefusal(Reason.LIMIT, f"at most {MAX_CARRIED} letters are copied or moved at once")


def check_places(reader: Reader, account: int, count: int) -> None:
    """Raise `MailboxRefusal` LIMIT where an account would have too many places of letters: copies within it cost no
    quota, and twenty commands make a million of one."""
    row = reader.row("SELECT COALESCE(SUM(total), 0) FROM mailbox WHERE account = :account", account=account)
    if row is not None and row[0] + count > MAX_PLACES:
        raise MailboxRefusal(Reason.LIMIT, f"an account has at most {MAX_PLACES} letters in its mailboxes")


def _copy(tx: Transaction, unit: Unit, mailbox: int, uids: Ranges, target: int) -> Copied:
    uids = uidset.below(uids, own_uid_next(tx, unit.account, mailbox))
    base = own_uid_next(tx, unit.account, target) - 1
    source: list[int] = []
    count = octets = unseen = 0
    for piece in pieces(uids):
        here = {"mailbox": mailbox, **piece.parameters}
        weighed = tx.row(piece.of(_WEIGH), wanted=_EVERY, **here)
        if weighed is None or not weighed[0]:
            continue
        check_carried(count + weighed[0])
        source += [row[0] for row in tx.rows(piece.of(_EXISTING), wanted=_EVERY, **here)]
        placing = {"target": target, "base": base + count, "modseq": unit.modseq, "now": int(unit.now)}
        tx.run(piece.of(_PLACE_AGAIN), **placing, **here)
        count, octets, unseen = count + weighed[0], octets + weighed[1], unseen + weighed[2]
    validity = tx.row(_VALIDITY, mailbox=target, account=unit.account)
    assert validity is not None  # own_uid_next has seen it
    if not count:
        return Copied(unit.modseq, validity[0], (), ())
    check_places(tx, unit.account, count)
    tx.run(_RESERVE, count=count, octets=octets, unseen=unseen, modseq=unit.modseq, mailbox=target)
    placed = ((base + 1, base + count),)
    journal.record(tx, unit, target, Kind.ADDED, uidset.to_text(placed))
    return Copied(unit.modseq, validity[0], uidset.from_uids(source), placed)
