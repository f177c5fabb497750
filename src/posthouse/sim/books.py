# SPDX-License-Identifier: Apache-2.0
"""The books of one server: what its rows say about each other, and about what they said before.

Invariants checked: within a UIDVALIDITY UIDs only grow and mean one letter for ever; mod-sequences grow; the used
space adds up; the journal, replayed, gives the mailboxes; a queued recipient is in one state and claimed by nobody
who is dead; a destination is looked at in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from posthouse.sim.records import JournalRow, MailboxRow, Records
from posthouse.store import uidset
from posthouse.store.journal import Kind

OPEN = ("due", "claimed", "held")
STATES = (*OPEN, "delivered", "failed", "expired")
# Seconds by which stored times may differ from one another: they are computed in different orders.
GRAIN = 0.001


class Books:
    """`name` is the server's; it remembers the rows of the last check."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._uid_validity: dict[int, int] = {}
        self._uid_next: dict[int, int] = {}
        self._emails: dict[tuple[int, int], int] = {}  # (mailbox, uid) -> email, also of those that are gone
        self._modseq: dict[int, int] = {}

    def check(self, rows: Records, owner: str | None, now: float) -> list[str]:
        """`owner`: the incarnation that runs; None while the server is down. `now` in epoch seconds."""
        found = [
            *self._uids(rows),
            *self._modseqs(rows),
            *_space(rows),
            *journal_differences(rows),
            *_queue(rows, owner),
            *_destinations(rows, now),
        ]
        return [f"{self._name}: {text}" for text in found]

    def _uids(self, rows: Records) -> Iterator[str]:
        new_epoch = {
            each.id for each in rows.mailboxes.values() if self._uid_validity.get(each.id, 0) != each.uid_validity
        }
        for mailbox in rows.mailboxes.values():
            yield from self._uid_row(mailbox)
        for placement in rows.placements:
            place = placement.mailbox, placement.uid
            mailbox = rows.mailboxes[placement.mailbox]
            if placement.uid >= mailbox.uid_next:
                yield f"{mailbox.name} has UID {placement.uid}, and UIDNEXT is {mailbox.uid_next}"
            known = self._emails.get(place)
            if known is None and placement.mailbox not in new_epoch and placement.uid < self._uid_next_before(place):
                yield f"{mailbox.name}: UID {placement.uid} appeared behind UIDNEXT"
            if known not in (None, placement.email) and placement.mailbox not in new_epoch:
                yield f"{mailbox.name}: UID {placement.uid} meant letter {known}, now {placement.email}"
            self._emails[place] = placement.email
        for mailbox in rows.mailboxes.values():
            self._uid_validity[mailbox.id], self._uid_next[mailbox.id] = mailbox.uid_validity, mailbox.uid_next

    def _uid_row(self, mailbox: MailboxRow) -> Iterator[str]:
        validity = self._uid_validity.get(mailbox.id, 0)
        # Nobody restores anything in a world: clients would fetch every letter again for nothing.
        if validity and mailbox.uid_validity != validity:
            yield f"{mailbox.name}: UIDVALIDITY went from {validity} to {mailbox.uid_validity}"
        if mailbox.uid_validity == validity and mailbox.uid_next < self._uid_next[mailbox.id]:
            yield f"{mailbox.name}: UIDNEXT went from {self._uid_next[mailbox.id]} to {mailbox.uid_next}"

    def _uid_next_before(self, place: tuple[int, int]) -> int:
        return self._uid_next.get(place[0], 0)

    def _modseqs(self, rows: Records) -> Iterator[str]:
        for account in rows.accounts.values():
            if account.modseq < self._modseq.get(account.id, 0):
                yield f"{account.name}: the mod-sequence went from {self._modseq[account.id]} to {account.modseq}"
            self._modseq[account.id] = account.modseq
        for mailbox in rows.mailboxes.values():
            if mailbox.modseq > rows.accounts[mailbox.account].modseq:
                yield f"{mailbox.name}: its mod-sequence {mailbox.modseq} is beyond its account's"


def _space(rows: Records) -> Iterator[str]:
    sizes: dict[int, dict[int, int]] = {account: {} for account in rows.accounts}
    for each in rows.placements:
        sizes[each.account][each.email] = each.size
    for account in rows.accounts.values():
        letters, octets = len(sizes[account.id]), sum(sizes[account.id].values())
        if (account.used_letters, account.used_octets) != (letters, octets):
            yield (
                f"{account.name} uses {octets} octets in {letters} letters, the counters say"
                f" {account.used_octets} in {account.used_letters}"
            )


def journal_differences(rows: Records) -> Iterator[str]:
    """Where the journal, applied from its beginning, does not give the mailboxes."""
    mailboxes: dict[int, set[int]] = {}
    for row in rows.journal:
        yield from _apply(row, mailboxes)
        if row.modseq > rows.accounts[row.account].modseq:
            yield f"the journal has mod-sequence {row.modseq} of an account that is at less"
    actual: dict[int, set[int]] = {mailbox: set() for mailbox in rows.mailboxes}
    for placement in rows.placements:
        actual[placement.mailbox].add(placement.uid)
    if any(account.journal_floor for account in rows.accounts.values()):
        yield "the journal has been cut off, before its time"
    for mailbox in sorted({*mailboxes, *actual}):
        if mailboxes.get(mailbox) != actual.get(mailbox):
            yield (
                f"the journal gives mailbox {mailbox} the UIDs {_text(mailboxes.get(mailbox))}, it has"
                f" {_text(actual.get(mailbox))}"
            )


def _apply(row: JournalRow, mailboxes: dict[int, set[int]]) -> Iterator[str]:
    uids = set(uidset.expand(uidset.from_text(row.uids)))
    match Kind(row.kind):
        case Kind.CREATED:
            mailboxes[row.mailbox] = set()
        case Kind.ADDED:
            if mailboxes[row.mailbox] & uids:
                yield f"the journal adds UIDs {row.uids} to mailbox {row.mailbox}, which has some of them"
            mailboxes[row.mailbox] |= uids
        case Kind.EXPUNGED:
            if not uids <= mailboxes[row.mailbox]:
                yield f"the journal removes UIDs {row.uids} from mailbox {row.mailbox}, which has not all of them"
            mailboxes[row.mailbox] -= uids
        case Kind.DELETED:
            del mailboxes[row.mailbox]
        case Kind.RENAMED | Kind.CHANGED:
            pass


def _text(uids: set[int] | None) -> str:
    return "(no such mailbox)" if uids is None else uidset.to_text(uidset.from_uids(uids)) or "none"


def _queue(rows: Records, owner: str | None) -> Iterator[str]:
    unfinished = Counter(row.letter for row in rows.queue if row.state in OPEN)
    for row in rows.queue:
        if row.state not in STATES:
            yield f"{row.address} of queued letter {row.letter} is in the state {row.state!r}"
        if (row.state == "claimed") != (row.owner is not None):
            yield f"{row.address} of queued letter {row.letter} is {row.state} and claimed by {row.owner}"
        if owner is not None and row.state == "claimed" and row.owner != owner:
            yield f"{row.address} of queued letter {row.letter} is claimed by {row.owner}, who is dead"
        if unfinished[row.letter] != row.open_recipients or not row.open_recipients:
            yield (
                f"queued letter {row.letter} has {unfinished[row.letter]} unfinished recipients, its row says"
                f" {row.open_recipients}"
            )


def _destinations(rows: Records, now: float) -> Iterator[str]:
    earliest: dict[str, float] = {}
    for row in rows.queue:
        if row.state == "due":
            earliest[row.next_hop] = min(row.due_at, earliest.get(row.next_hop, row.due_at))
    for hop, due_at in earliest.items():
        place = rows.destinations.get(hop)
        if place is None or place.ready_at is None:
            yield f"letters for {hop} are due, and nothing says when it is looked at"
        elif place.ready_at > max(due_at, place.down_until, now) + GRAIN:
            yield f"letters for {hop} are due at {due_at:.1f}, and it is looked at only at {place.ready_at:.1f}"
