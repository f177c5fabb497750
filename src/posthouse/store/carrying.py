# SPDX-License-Identifier: Apache-2.0
r"""COPY and MOVE as one person does them, whoever owns the mailboxes (RFC 4314 §4).

Invariant: a person's \Seen goes with the letter and stays that person's own; no flag is set in the target that the
person may not set there; all of the letters or none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from posthouse.ports import Reader, Transaction
from posthouse.store import crossing, messages, rights, uidset, visitors
from posthouse.store.flags import ALL, DELETED, SEEN
from posthouse.store.messages import Copied
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.spans import pieces
from posthouse.store.uidset import Ranges


@dataclass(frozen=True, slots=True)
class End:
    """A mailbox and whose it is."""

    account: int
    mailbox: int


_SEEN = "SELECT uid FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND (flags & 1) = 1"
_SEE = (
    "INSERT INTO visitor_seen (mailbox, person, uid, is_seen, modseq) SELECT mailbox, :person, uid, 1, modseq"
    " FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
)
# What comes with a letter within one account: its owner's \Seen stays, the rest as the person may.
_KEEP = "UPDATE placement SET flags = flags & :keep WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last"
_KEEP_NO_WORDS = (
    "UPDATE placement SET flags = flags & :keep, keywords = '' WHERE mailbox = :mailbox"
    " AND uid BETWEEN :first AND :last"
)


def touchable(letters: str) -> int:
    """Flags that somebody with these rights may change (RFC 4314 §2.1)."""
    flags = ALL & ~(SEEN | DELETED) if "w" in letters else 0
    return flags | (SEEN if "s" in letters else 0) | (DELETED if "t" in letters else 0)


def carry(
    tx: Transaction,
    person: int,
    source: End,
    uids: Ranges,
    target: End,
    *,
    now: float,
    is_move: bool = False,
    needs_all: bool = False,
) -> Copied:
    """COPY, or MOVE, in one unit of work. `needs_all`: nothing is done unless each of the UIDs is there.

    Raise `MailboxRefusal`: NONEXISTENT for either mailbox, NOPERM, OVERQUOTA, LIMIT, EXPUNGEISSUED. `modseq` is the
    source's for MOVE, the target's for COPY.
    """
    may = rights.of_person(tx, target.mailbox, person)
    _check(may, "i")
    if source.account != person:
        # Of the source they may have changed since it was selected. RFC 6851 §4.2: MOVE needs what UID STORE of
        # \Deleted, UID COPY and UID EXPUNGE need together.
        _check(rights.of_person(tx, source.mailbox, person), "rte" if is_move else "r")
    if source.account == target.account == person:
        done = messages.move if is_move else messages.copy
        copied = done(tx, person, source.mailbox, uids, target.mailbox, now=now)
    else:
        copied = _carry_elsewhere(tx, person, source, uids, target, may, now, is_move=is_move)
    if needs_all and uidset.size(copied.source) < uidset.size(uids):
        raise MailboxRefusal(Reason.EXPUNGEISSUED, "some of the messages are not there any more")
    return copied


def _check(may: str, needs: str) -> None:
    if not may:
        raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
    if not set(needs) <= set(may):
        raise MailboxRefusal(Reason.NOPERM, "you may not do that in this mailbox")


def _carry_elsewhere(
    tx: Transaction, person: int, source: End, uids: Ranges, target: End, may: str, now: float, *, is_move: bool
) -> Copied:
    seen = _seen(tx, person, source, uids)
    flags, words = touchable(may), "w" in may
    if source.account == target.account:
        done = messages.move if is_move else messages.copy
        copied = done(tx, source.account, source.mailbox, uids, target.mailbox, now=now)
        _restrict(tx, target, copied.target, flags, touches_keywords=words)
    else:
        across = crossing.move if is_move else crossing.copy
        copied = across(
            tx,
            source.account,
            source.mailbox,
            uids,
            target.account,
            target.mailbox,
            now=now,
            seen=seen if target.account == person else (),
            touchable=flags,
            touches_keywords=words,
        )
    if target.account != person and "s" in may:
        _see(tx, person, target, _mapped(copied, seen))
    return copied


def _seen(reader: Reader, person: int, source: End, uids: Ranges) -> Ranges:
    r"""Which of them have the person's \Seen."""
    if source.account != person:
        rows = visitors.seen(reader, source.mailbox, person)
        return uidset.intersection(uidset.from_uids(row.uid for row in rows if row.is_seen), uids)
    return uidset.from_uids(
        row[0]
        for piece in pieces(uids)
        for row in reader.rows(piece.of(_SEEN), mailbox=source.mailbox, **piece.parameters)
    )


def _mapped(copied: Copied, uids: Ranges) -> Ranges:
    """What the copies of these UIDs are."""
    wanted = set(uidset.expand(uids))
    pairs: Iterable[tuple[int, int]] = zip(uidset.expand(copied.source), uidset.expand(copied.target), strict=True)
    return uidset.from_uids(new for old, new in pairs if old in wanted)


def _restrict(tx: Transaction, target: End, uids: Ranges, flags: int, *, touches_keywords: bool) -> None:
    if flags | SEEN == ALL:
        return
    statement = _KEEP if touches_keywords else _KEEP_NO_WORDS
    for piece in pieces(uids):
        tx.run(piece.of(statement), mailbox=target.mailbox, keep=flags | SEEN, **piece.parameters)


def _see(tx: Transaction, person: int, target: End, uids: Ranges) -> None:
    for piece in pieces(uids):
        tx.run(piece.of(_SEE), mailbox=target.mailbox, person=person, **piece.parameters)
