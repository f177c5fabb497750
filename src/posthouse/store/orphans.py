# SPDX-License-Identifier: Apache-2.0
"""Rows whose other half is gone and that no note gives back: what of them is still of use is kept where it is seen.

Invariant: a letter whose content is there stays in somebody's mailbox. Only a place without any letter is removed,
and its mailbox's readers are told so as of any removal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from posthouse.mail.address import Domain, parse_address
from posthouse.ports import Reader, Transaction
from posthouse.store import directory, journal, mailboxes, recovered
from posthouse.store.journal import Kind
from posthouse.store.recovered import Names

MAX_FOUND = 1_000  # rows of one kind looked at in one go; a repair that is run again finds the next ones


@dataclass(frozen=True, slots=True)
class Orphan:
    """`says` what is wrong, `means` what that does to mail; `row` and `other` are what `mend` needs."""

    kind: str
    row: int
    other: int
    says: str
    means: str


_FIND = (
    (
        "account",
        (
            "SELECT account, MIN(id) FROM email WHERE NOT EXISTS"
            " (SELECT 1 FROM account WHERE account.id = email.account) GROUP BY account ORDER BY account LIMIT :n"
        ),
        "account {row} is gone, and letters of it are there",
        "nobody can read them; mended, the account is there again, without a password",
    ),
    (
        "address",
        (
            "SELECT id, 0 FROM account WHERE NOT EXISTS (SELECT 1 FROM address WHERE address.account = account.id)"
            " ORDER BY id LIMIT :n"
        ),
        "account {row} has no address",
        "nobody can write to it or log in",
    ),
    (
        "inbox",
        (
            "SELECT id, 0 FROM account WHERE NOT EXISTS (SELECT 1 FROM mailbox WHERE mailbox.account = account.id"
            " AND mailbox.name = 'INBOX') ORDER BY id LIMIT :n"
        ),
        "account {row} has no INBOX",
        "it can get no letters",
    ),
    (
        "mailbox",
        (
            "SELECT placement.mailbox, MIN(placement.email) FROM placement WHERE NOT EXISTS"
            " (SELECT 1 FROM mailbox WHERE mailbox.id = placement.mailbox) GROUP BY placement.mailbox LIMIT :n"
        ),
        "mailbox {row} is gone, and letters lie in it",
        'nobody sees them; mended, they are in a mailbox below "Recovered"',
    ),
    (
        "email",
        (
            "SELECT id, account FROM email WHERE NOT EXISTS (SELECT 1 FROM placement WHERE placement.email = email.id)"
            " ORDER BY id LIMIT :n"
        ),
        "letter e{row:x} lies in no mailbox",
        "nobody sees it; mended, it is in the INBOX",
    ),
    (
        "foreign",
        (
            "SELECT placement.mailbox, placement.uid FROM placement JOIN mailbox ON mailbox.id = placement.mailbox"
            " JOIN email ON email.id = placement.email WHERE email.account <> mailbox.account LIMIT :n"
        ),
        "UID {other} of mailbox {row} shows somebody else's letter",
        "one person may read another's mail; mended, the place is removed",
    ),
    (
        "placement",
        (
            "SELECT placement.mailbox, placement.uid FROM placement LEFT JOIN email ON email.id = placement.email"
            " WHERE email.id IS NULL LIMIT :n"
        ),
        "UID {other} of mailbox {row} shows a letter that is gone",
        "it cannot be read; mended, the place is removed",
    ),
)


def find(reader: Reader, kind: str) -> list[Orphan]:
    """Walks a whole table. At most MAX_FOUND."""
    for name, statement, says, means in _FIND:
        if name == kind:
            rows = reader.rows(statement, n=MAX_FOUND)
            return [Orphan(kind, row, other, says.format(row=row, other=other), means) for row, other in rows]
    raise KeyError(kind)


KINDS = tuple(each[0] for each in _FIND)


def mend(tx: Transaction, kind: str, *, names: Names, home: Domain, now: float) -> list[Orphan]:
    """Mend all of a kind; what they were."""
    found = find(tx, kind)
    for orphan in found:
        _MENDS[kind](tx, orphan, names, home, now)
    return found


_Mend = Callable[[Transaction, Orphan, Names, Domain, float], None]


def _account(tx: Transaction, orphan: Orphan, names: Names, home: Domain, now: float) -> None:
    recovered.account(tx, orphan.row, names, home, now)


def _address(tx: Transaction, orphan: Orphan, _names: Names, _home: Domain, _now: float) -> None:
    row = tx.row("SELECT name FROM account WHERE id = :id", id=orphan.row)
    assert row is not None, "found in this transaction"
    directory.insert_address(tx, parse_address(row[0]), "account", orphan.row)


def _inbox(tx: Transaction, orphan: Orphan, _names: Names, _home: Domain, now: float) -> None:
    mailboxes.create(tx, orphan.row, mailboxes.INBOX, now, is_subscribed=True)


def _mailbox(tx: Transaction, orphan: Orphan, _names: Names, _home: Domain, now: float) -> None:
    row = tx.row("SELECT account FROM email WHERE id = :id", id=orphan.other)
    if row is not None:
        recovered.other_mailbox(tx, row[0], orphan.row, now)
        return
    # Its letters are gone too: nothing tells whose it was, and nothing is left to show.
    tx.run(
        "DELETE FROM placement WHERE mailbox = :mailbox AND NOT EXISTS"
        " (SELECT 1 FROM email WHERE email.id = placement.email)",
        mailbox=orphan.row,
    )


def _email(tx: Transaction, orphan: Orphan, _names: Names, _home: Domain, now: float) -> None:
    inbox = mailboxes.inbox(tx, orphan.other)
    if inbox is None:
        return  # the account is mended first
    unit = journal.begin(tx, orphan.other, now)
    row = tx.row(
        "UPDATE mailbox SET uid_next = uid_next + 1, modseq = :modseq WHERE id = :mailbox RETURNING uid_next - 1",
        mailbox=inbox,
        modseq=unit.modseq,
    )
    assert row is not None
    tx.run(
        "INSERT INTO placement (mailbox, uid, email, modseq, created, flags, keywords, size)"
        " SELECT :mailbox, :uid, id, :modseq, :modseq, 0, '', size FROM email WHERE id = :email",
        mailbox=inbox,
        uid=row[0],
        email=orphan.row,
        modseq=unit.modseq,
    )
    journal.record(tx, unit, inbox, Kind.ADDED, str(row[0]))


def _placement(tx: Transaction, orphan: Orphan, _names: Names, _home: Domain, now: float) -> None:
    mailbox, uid = orphan.row, orphan.other
    owner = tx.row("SELECT account FROM mailbox WHERE id = :mailbox", mailbox=mailbox)
    gone = tx.row(
        "DELETE FROM placement WHERE mailbox = :mailbox AND uid = :uid RETURNING email", mailbox=mailbox, uid=uid
    )
    if owner is None or gone is None:
        return
    unit = journal.begin(tx, owner[0], now)
    tx.run("UPDATE mailbox SET modseq = :modseq WHERE id = :mailbox", mailbox=mailbox, modseq=unit.modseq)
    tx.run(
        "INSERT INTO tombstone (mailbox, modseq, uid, email) VALUES (:mailbox, :modseq, :uid, :email)",
        mailbox=mailbox,
        modseq=unit.modseq,
        uid=uid,
        email=gone[0],
    )
    journal.record(tx, unit, mailbox, Kind.EXPUNGED, str(uid))


_MENDS: dict[str, _Mend] = {
    "account": _account,
    "address": _address,
    "inbox": _inbox,
    "mailbox": _mailbox,
    "email": _email,
    "foreign": _placement,
    "placement": _placement,
}
