# SPDX-License-Identifier: Apache-2.0
"""Letters that a client puts into a mailbox itself: APPEND, MULTIAPPEND, REPLACE.

Invariant: all of them or none, within the quota (unlike delivery, which keeps what RCPT promised), and only into the
mailbox that was named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.ports import Reader, Transaction
from posthouse.store import journal, letters, messages, uidset, visitors
from posthouse.store import keywords as spelling
from posthouse.store.flags import SEEN
from posthouse.store.letters import LetterIn, Place, Placed
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.uidset import Ranges


@dataclass(frozen=True, slots=True)
class New:
    """One letter. `letter.received_at` is the internal date that the client gives, `letter.saved_at` is now."""

    letter: LetterIn
    flags: int = 0
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Appended:
    """`uids` in the order of the letters (APPENDUID, RFC 9051 §7.1). `vanished`: what was replaced."""

    modseq: int
    uid_validity: int
    uids: Ranges
    vanished: Ranges = ()


def append(
    tx: Transaction, account: int, mailbox: int, new: Sequence[New], *, visitor: int | None = None, freed: int = 0
) -> Appended:
    r"""Put letters into a mailbox of this account. `visitor`: the person who does it is not the owner, and has an own
    \Seen. `freed`: octets that the same unit of work gives back.

    Raise `MailboxRefusal`: no such mailbox (NONEXISTENT), the quota (OVERQUOTA), keywords (LIMIT); Refusal 5.5.4 for
    what is no keyword.
    """
    validity = uid_validity(tx, account, mailbox)
    check_room(tx, account, sum(each.letter.content.size for each in new) - freed)
    words = {word.lower(): word for each in new for word in each.keywords}
    if words:
        spelling.remember(tx, account, list(words.values()))
    placed: list[Placed] = []
    for each in new:
        flags = each.flags if visitor is None else each.flags & ~SEEN
        placed += letters.accept(tx, each.letter, [Place(account, mailbox, b"", flags, each.keywords)]).placed
        if visitor is not None and each.flags & SEEN:
            visitors.see(tx, mailbox, visitor, ((placed[-1].uid, placed[-1].uid),), placed[-1].modseq)
    return Appended(placed[-1].modseq if placed else 0, validity, uidset.from_uids(each.uid for each in placed))


def replace(
    tx: Transaction,
    account: int,
    mailbox: int,
    uid: int,
    to_account: int,
    target: int,
    new: New,
    *,
    now: float,
    visitor: int | None = None,
) -> Appended:
    """Put a letter into a mailbox, and remove one from this or another mailbox, perhaps of another account, together
    (RFC 8508 §3.4). Raise as `append` does, and `MailboxRefusal` EXPUNGEISSUED where there is nothing to replace.

    What the letter that goes gives back counts for the quota. `modseq` is that of the mailbox where it went.
    """
    if account != to_account:  # in the order of their ids, as everywhere: two such units cannot wait for each other
        units = {each: journal.begin(tx, each, now) for each in sorted((account, to_account))}
    else:
        units = {}
    if not messages.existing(tx, mailbox, ((uid, uid),)):
        raise MailboxRefusal(Reason.EXPUNGEISSUED, "the message that is to be replaced is not there any more")
    saved = freed(tx, mailbox, uid) if account == to_account else 0
    appended = append(tx, to_account, target, [new], visitor=visitor, freed=saved)
    if units:
        messages.expunge_in(tx, units[account], mailbox, ((uid, uid),))
        return Appended(units[account].modseq, appended.uid_validity, appended.uids, ((uid, uid),))
    gone = messages.expunge(tx, account, mailbox, ((uid, uid),), now=now)
    return Appended(gone.modseq, appended.uid_validity, appended.uids, gone.uids)


def freed(reader: Reader, mailbox: int, uid: int) -> int:
    """Octets of the quota that are free once this letter has gone from the mailbox; 0 while it lies elsewhere too."""
    row = reader.row(
        "SELECT p.size FROM placement AS p WHERE p.mailbox = :mailbox AND p.uid = :uid AND NOT EXISTS"
        " (SELECT 1 FROM placement AS other WHERE other.email = p.email"
        " AND (other.mailbox <> p.mailbox OR other.uid <> p.uid))",
        mailbox=mailbox,
        uid=uid,
    )
    return 0 if row is None else int(row[0])


def uid_validity(reader: Reader, account: int, mailbox: int) -> int:
    """Raise `MailboxRefusal` NONEXISTENT unless it is a mailbox of this account."""
    row = reader.row(
        "SELECT uid_validity FROM mailbox WHERE id = :mailbox AND account = :account", mailbox=mailbox, account=account
    )
    if row is None:
        raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
    return int(row[0])


def check_room(reader: Reader, account: int, octets: int) -> None:
    """Raise `MailboxRefusal` OVERQUOTA where so many octets would pass the quota (RFC 9208 §4.3.1)."""
    used = letters.usage(reader, account)
    if used is not None and used[2] is not None and used[0] + octets > used[2]:
        raise MailboxRefusal(Reason.OVERQUOTA, "there is not so much room left")
