# SPDX-License-Identifier: Apache-2.0
"""Names that people have subscribed to, other than those of own mailboxes that are there (these have it in their row).

Invariant: such a name is another person's mailbox, or an own one that is gone: a name stays subscribed until its person
says otherwise (RFC 9051 §6.3.7), so an own mailbox that goes leaves its name here, and one that comes takes it back.
What another person's mailbox is called is its owner's choice: the subscription follows it.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import Reader, Transaction
from posthouse.store.refusal import MailboxRefusal, Reason

MAX_NAMES = 5_000  # of one person: as many as own mailboxes, for they are listed together


@dataclass(frozen=True, slots=True)
class SubscribedName:
    """`owner`: name of the account whose mailbox it is or was; `name`: as that account has it."""

    account: int
    owner: str
    name: str


def names(reader: Reader, person: int) -> list[SubscribedName]:
    rows = reader.rows(
        "SELECT s.owner, account.name, s.name FROM subscribed_name AS s JOIN account ON account.id = s.owner"
        " WHERE s.person = :person ORDER BY account.name, s.name",
        person=person,
    )
    return [SubscribedName(*row) for row in rows]


def add(tx: Transaction, person: int, owner: int, name: str) -> None:
    """Raise `MailboxRefusal` LIMIT."""
    if _count(tx, person) >= MAX_NAMES:
        raise MailboxRefusal(Reason.LIMIT, f"more than {MAX_NAMES} names cannot be subscribed to")
    _insert(tx, person, owner, name)


def _count(reader: Reader, person: int) -> int:
    row = reader.row("SELECT COUNT(*) FROM subscribed_name WHERE person = :person", person=person)
    assert row is not None  # an aggregate
    return int(row[0])


def _insert(tx: Transaction, person: int, owner: int, name: str) -> None:
    tx.run(
        "INSERT INTO subscribed_name (person, owner, name) VALUES (:person, :owner, :name)"
        " ON CONFLICT (person, owner, name) DO NOTHING",
        person=person,
        owner=owner,
        name=name,
    )


def remove(tx: Transaction, person: int, owner: int, name: str) -> bool:
    """Whether it was there."""
    return bool(
        tx.run(
            "DELETE FROM subscribed_name WHERE person = :person AND owner = :owner AND name = :name",
            person=person,
            owner=owner,
            name=name,
        )
    )


# --- what happens to mailboxes --------------------------------------------------------------------


def keep(tx: Transaction, account: int, name: str) -> None:
    """The account's own mailbox of this name, to which it is subscribed, is about to go. Whoever has too many such
    names already loses this one: nobody has that many on purpose."""
    if _count(tx, account) < MAX_NAMES:
        _insert(tx, account, account, name)


def take_back(tx: Transaction, account: int, name: str) -> bool:
    """The account has a mailbox of this name again; whether it is subscribed to it."""
    return remove(tx, account, account, name)


# Of a mailbox that they may look up (right l, which is written first): to others its new name is not told, and the old
# one stays as that of a mailbox that is gone.
_FOLLOWING = (
    " WHERE owner = :owner AND name = :old AND person <> :owner"
    " AND EXISTS (SELECT 1 FROM mailbox_right AS r WHERE r.mailbox = :mailbox"
    " AND r.person IN (subscribed_name.person, 0) AND r.is_negative = 0 AND SUBSTR(r.rights, 1, 1) = 'l')"
    " AND NOT EXISTS (SELECT 1 FROM mailbox_right AS r WHERE r.mailbox = :mailbox"
    " AND r.person IN (subscribed_name.person, 0) AND r.is_negative = 1 AND SUBSTR(r.rights, 1, 1) = 'l')"
)
_FOLLOW = (
    "INSERT INTO subscribed_name (person, owner, name) SELECT person, owner, :new FROM subscribed_name"  # noqa: S608 - constants
    + _FOLLOWING
    + " ON CONFLICT (person, owner, name) DO NOTHING"
)
_LEAVE = "DELETE FROM subscribed_name" + _FOLLOWING  # noqa: S608 - constants


def follow(tx: Transaction, owner: int, mailbox: int, old: str, new: str) -> None:
    """The owner has given a mailbox another name: whoever else is subscribed to it still is."""
    tx.run(_FOLLOW, owner=owner, mailbox=mailbox, old=old, new=new)
    tx.run(_LEAVE, owner=owner, mailbox=mailbox, old=old)
