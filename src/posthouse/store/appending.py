# SPDX-License-Identifier: Apache-2.0
"""Letters that a client puts into a mailbox itself: APPEND, MULTIAPPEND, REPLACE.

Invariant: all of them or none, within the quota (unlike delivery, which keeps what RCPT promised), and only into the
mailbox that was named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.ports import Reader, Transaction
from posthouse.store import keywords as spelling
from posthouse.store import letters, messages, uidset
from posthouse.store.letters import LetterIn, Place
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


def append(tx: Transaction, account: int, mailbox: int, new: Sequence[New]) -> Appended:
    """Put letters into a mailbox of this account.

    Raise `MailboxRefusal`: no such mailbox (NONEXISTENT), the quota (OVERQUOTA), keywords (LIMIT); Refusal 5.5.4 for
    what is no keyword.
    """
    validity = uid_validity(tx, account, mailbox)
    check_room(tx, account, sum(each.letter.content.size for each in new))
    words = {word.lower(): word for each in new for word in each.keywords}
    if words:
        spelling.remember(tx, account, list(words.values()))
    placed = [
        letters.accept(tx, each.letter, [Place(account, mailbox, b"", each.flags, each.keywords)]).placed[0]
        for each in new
    ]
    return Appended(placed[-1].modseq if placed else 0, validity, uidset.from_uids(each.uid for each in placed))


def replace(tx: Transaction, account: int, mailbox: int, uid: int, target: int, new: New, *, now: float) -> Appended:
    """Put a letter into a mailbox of this account, and remove one from this or another one of its mailboxes, together
    (RFC 8508 §3.4). Raise as `append` does, and `MailboxRefusal` NONEXISTENT where there is nothing to replace.
    """
    if not messages.existing(tx, mailbox, ((uid, uid),)):
        raise MailboxRefusal(Reason.NONEXISTENT, "the message that is to be replaced is not there any more")
    appended = append(tx, account, target, [new])
    gone = messages.expunge(tx, account, mailbox, ((uid, uid),), now=now)
    return Appended(gone.modseq, appended.uid_validity, appended.uids, gone.uids)


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
