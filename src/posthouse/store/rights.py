# SPDX-License-Identifier: Apache-2.0
"""Who may do what with a mailbox (RFC 4314). Invariant: the owner may do everything, always, and has no row."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.outcome import INVALID_ARGUMENTS, Refusal
from posthouse.ports import Reader, Transaction
from posthouse.store import journal, mailboxes
from posthouse.store.flagging import Change
from posthouse.store.journal import Kind
from posthouse.store.mailboxes import Mailbox
from posthouse.store.refusal import MailboxRefusal, Reason

# RFC 4314 §2.1: lookup, read, keep seen, write flags, insert, post, create below, delete the mailbox, delete letters,
# expunge, administer. Stored and told in this order.
EVERY = "lrswipkxtea"
EVERYBODY = 0  # stands for the identifier "anyone"; no account has this id
MAX_GRANTS = 1_000  # rows of one mailbox: ACL tells them all, and a house has some hundred people

# RFC 4314 §2.1.1: what RFC 2086 called c and d.
_OLD = {"c": "kx", "d": "te"}


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of an access control list. `is_negative`: these are taken away from the person."""

    person: int
    is_negative: bool
    rights: str


@dataclass(frozen=True, slots=True)
class Shared:
    """A mailbox of somebody else. `owner` is the name of the account, `rights` what the asking person may do."""

    mailbox: Mailbox
    owner: str
    rights: str


def canonical(rights: str) -> str:
    """In the order of EVERY, old letters as new ones. Raise Refusal 5.5.4 for what is no right."""
    letters = set("".join(_OLD.get(letter, letter) for letter in rights))
    if not letters <= set(EVERY):
        raise Refusal(INVALID_ARGUMENTS, "there is no such right")
    return "".join(letter for letter in EVERY if letter in letters)


def shown(rights: str) -> str:
    """With the old letters that go with them (RFC 4314 §2.1.1), for programs that know no others."""
    return rights + "".join(old for old, new in _OLD.items() if not set(new).isdisjoint(rights))


def grants(reader: Reader, mailbox: int) -> list[Grant]:
    rows = reader.rows(
        "SELECT person, is_negative, rights FROM mailbox_right WHERE mailbox = :mailbox ORDER BY person, is_negative",
        mailbox=mailbox,
    )
    return [Grant(person, bool(is_negative), rights) for person, is_negative, rights in rows]


def shared_by(reader: Reader, account: int) -> list[int]:
    """Ids of the account's mailboxes that have an access control list."""
    rows = reader.rows(
        "SELECT id FROM mailbox WHERE account = :account"
        " AND EXISTS (SELECT 1 FROM mailbox_right WHERE mailbox_right.mailbox = mailbox.id)",
        account=account,
    )
    return [row[0] for row in rows]


def people(reader: Reader, mailbox: int) -> dict[int, str]:
    """Names of the accounts that have a line in the access control list."""
    rows = reader.rows(
        "SELECT id, name FROM account WHERE id IN (SELECT person FROM mailbox_right WHERE mailbox = :mailbox)",
        mailbox=mailbox,
    )
    return dict(rows)


def of_person(reader: Reader, mailbox: int, person: int) -> str:
    """What a person may do, with what everybody may; "" for a mailbox that is not there."""
    row = reader.row("SELECT account FROM mailbox WHERE id = :mailbox", mailbox=mailbox)
    if row is None:
        return ""
    if row[0] == person:
        return EVERY
    rows = reader.rows(
        "SELECT is_negative, rights FROM mailbox_right WHERE mailbox = :mailbox AND person IN (:person, 0)",
        mailbox=mailbox,
        person=person,
    )
    return _together([(bool(is_negative), rights) for is_negative, rights in rows])


def _together(rows: list[tuple[bool, str]]) -> str:
    given = set("".join(rights for is_negative, rights in rows if not is_negative))
    taken = set("".join(rights for is_negative, rights in rows if is_negative))
    return "".join(letter for letter in EVERY if letter in given - taken)


def shared_with(reader: Reader, person: int) -> list[Shared]:
    """The mailboxes of others that a person may see (right l), by owner and name."""
    there = {mailbox.id: mailbox for mailbox in mailboxes.of_others(reader, person)}
    if not there:
        return []
    rows = reader.rows(
        "SELECT r.mailbox, r.is_negative, r.rights, account.name FROM mailbox_right AS r"
        " JOIN mailbox ON mailbox.id = r.mailbox JOIN account ON account.id = mailbox.account"
        " WHERE r.person IN (:person, 0) AND mailbox.account <> :person ORDER BY account.name, mailbox.name",
        person=person,
    )
    lines: dict[tuple[int, str], list[tuple[bool, str]]] = {}
    for mailbox, is_negative, given, owner in rows:
        lines.setdefault((mailbox, owner), []).append((bool(is_negative), given))
    found = (Shared(there[mailbox], owner, _together(given)) for (mailbox, owner), given in lines.items())
    return [each for each in found if "l" in each.rights]


def grant(
    tx: Transaction,
    account: int,
    mailbox: int,
    person: int,
    rights: str,
    now: float,
    *,
    change: Change = Change.REPLACE,
    is_negative: bool = False,
) -> str:
    """Give a person rights on a mailbox of this account, or take them away; what the line says then.

    Raise `MailboxRefusal`: no such mailbox (NONEXISTENT), the owner (CANNOT), too many (LIMIT); Refusal 5.5.4 for
    what is no right. A line without rights is no line (RFC 4314 §3.1).
    """
    rights = canonical(rights)
    unit = journal.begin(tx, account, now)
    _check_owner(tx, account, mailbox)
    if person == account:
        raise MailboxRefusal(Reason.CANNOT, "the owner of a mailbox has every right")
    lines = grants(tx, mailbox)
    line = [each for each in lines if (each.person, each.is_negative) == (person, is_negative)]
    old = line[0].rights if line else ""
    match change:
        case Change.REPLACE:
            new = rights
        case Change.ADD:
            new = canonical(old + rights)
        case Change.REMOVE:
            new = "".join(letter for letter in old if letter not in rights)
    if not line and new and len(lines) >= MAX_GRANTS:
        raise MailboxRefusal(Reason.LIMIT, f"a mailbox is shared with at most {MAX_GRANTS} people")
    here = {"mailbox": mailbox, "person": person, "is_negative": int(is_negative)}
    tx.run(
        "DELETE FROM mailbox_right WHERE mailbox = :mailbox AND person = :person AND is_negative = :is_negative", **here
    )
    if new:
        tx.run(
            "INSERT INTO mailbox_right (mailbox, person, is_negative, rights)"
            " VALUES (:mailbox, :person, :is_negative, :rights)",
            rights=new,
            **here,
        )
    journal.record(tx, unit, mailbox, Kind.RENAMED)
    return new


def _check_owner(reader: Reader, account: int, mailbox: int) -> None:
    """Raise `MailboxRefusal` NONEXISTENT unless it is a mailbox of this account."""
    found = mailboxes.get(reader, mailbox)
    if found is None or found.account != account:
        raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
