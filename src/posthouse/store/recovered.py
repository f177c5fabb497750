# SPDX-License-Identifier: Apache-2.0
"""Accounts, domains and mailboxes that are known by their ids alone: what the notes tell of their names.

Invariant: a recovered account keeps its id and takes letters, and nobody can log in before an administrator sets a
password. A recovered mailbox keeps its id; where its name is not known it lies below "Recovered".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from posthouse.mail.address import Address, AddressError, Domain, parse_address
from posthouse.ports import Reader, Transaction
from posthouse.store import directory, lookup, mailboxes
from posthouse.store.notes import Note, PlacedNote
from posthouse.store.numbers import SEQUENCE_BITS

FOLDER = "Recovered"
# An address under which an account has sent is its own; one under which it got letters may be an alias.
SENT_WEIGHT = 1_000

_DELIVERED_TO = re.compile(rb"^Delivered-To: ([^\r\n]+)\r\n", re.MULTILINE)


@dataclass(slots=True)
class Names:
    """Which addresses the notes name for which account id: how often, with what weight. And how many letters came by
    mail into which of its mailboxes."""

    votes: dict[int, dict[str, int]] = field(default_factory=dict)
    boxes: dict[int, dict[int, int]] = field(default_factory=dict)

    def learn(self, note: Note) -> None:
        for placed in note.placed:
            votes = self.votes.setdefault(placed.account, {})
            match = _DELIVERED_TO.search(placed.prefix)
            boxes = self.boxes.setdefault(placed.account, {})
            boxes[placed.mailbox] = boxes.get(placed.mailbox, 0) + bool(match)
            if match:
                text = match[1].decode("utf-8", "replace")
                votes[text] = votes.get(text, 0) + 1
        queued = note.queued
        if queued is not None and queued.account is not None and queued.reverse_path:
            votes = self.votes.setdefault(queued.account, {})
            votes[queued.reverse_path] = votes.get(queued.reverse_path, 0) + SENT_WEIGHT

    def inbox_of(self, account: int) -> int | None:
        """The mailbox that most letters came into by mail, and of equals the oldest: POP3 shows no other one."""
        boxes = self.boxes.get(account, {})
        known = {box: count for box, count in boxes.items() if _place(account, box) in (None, 0)}
        return min(known, key=lambda box: (-known[box], box), default=None)

    def address_of(self, reader: Reader, account: int) -> Address | None:
        """The best address for an account that nobody has yet: one that no other account got letters under, rather
        than one that several did (an alias)."""
        own = self.votes.get(account, {})

        def rank(text: str) -> tuple[int, int, str]:
            others = sum(votes.get(text, 0) for other, votes in self.votes.items() if other != account)
            return others, -own[text], text

        for text in sorted(own, key=rank):
            address = _address(text)
            if address is not None and not _is_taken(reader, address):
                return address
        return None


def _address(text: str) -> Address | None:
    try:
        address = parse_address(text.strip())
    except AddressError:
        return None
    return None if address.domain.is_literal else address


def _is_taken(reader: Reader, address: Address) -> bool:
    found = lookup.find_domain(reader, address.domain.name)
    if found is None:
        return False
    taken = reader.row(
        "SELECT 1 FROM address WHERE domain = :domain AND local_part = :local_part",
        domain=found.id,
        local_part=lookup.fold(address.local_part),
    )
    return taken is not None or found.name != address.domain.name


def account(tx: Transaction, number: int, names: Names, home: Domain, now: float) -> str | None:
    """Make an account with this id if there is none; its name, or None when it was there.

    `home`: where an account gets its address whose own nobody knows.
    """
    if tx.row("SELECT 1 FROM account WHERE id = :id", id=number) is not None:
        return None
    known = directory.addresses_of(tx, number)  # rows of its own that outlived it
    address = parse_address(known[0]) if known else names.address_of(tx, number)
    address = address or Address(f"recovered-{number:x}", home)
    if lookup.find_domain(tx, address.domain.name) is None:
        directory.add_domain(tx, address.domain, now)
    tx.run(
        "INSERT INTO account (id, tenant, name, state, created_at) VALUES (:id, :tenant, :name, 'active', :now)",
        id=number,
        tenant=directory.DEFAULT_TENANT,
        name=str(address),
        now=now,
    )
    if not known:
        directory.insert_address(tx, address, "account", number)
    # Its change numbers begin above all that its mailboxes know.
    tx.run(
        "UPDATE account SET modseq = COALESCE((SELECT MAX(modseq) FROM mailbox WHERE account = :id), 0),"
        " journal_floor = COALESCE((SELECT MAX(modseq) FROM mailbox WHERE account = :id), 0) WHERE id = :id",
        id=number,
    )
    if tx.row("SELECT 1 FROM mailbox WHERE account = :id LIMIT 1", id=number) is None:
        mailboxes.create_account_mailboxes(tx, number, now)
    return str(address)


def _place(account: int, box: int) -> int | None:
    """Which of the account's first mailboxes has this id, as far as that can be known: they got the ids right behind
    its own and its address's (directory.add_account), unless a millisecond ended in between."""
    place = box - account - 2
    return place if 0 <= place < len(mailboxes.FIRST_MAILBOXES) else None


def mailbox(tx: Transaction, placed: PlacedNote, names: Names, *, is_new_account: bool, now: float) -> str | None:
    """Make the mailbox of a place if there is none; its name, or None when it was there."""
    row = tx.row("SELECT account FROM mailbox WHERE id = :id", id=placed.mailbox)
    if row is not None:
        return None
    if is_new_account and (name := _first_name(tx, placed, names)) is not None:
        tx.run(
            "UPDATE mailbox SET id = :id WHERE account = :account AND name = :name",
            id=placed.mailbox,
            account=placed.account,
            name=name,
        )
        return name
    return other_mailbox(tx, placed.account, placed.mailbox, now)


def _first_name(tx: Transaction, placed: PlacedNote, names: Names) -> str | None:
    """Which of the first mailboxes this is; None where that cannot be known, or another has that name already."""
    place = _place(placed.account, placed.mailbox)
    if place is not None:
        name = mailboxes.FIRST_MAILBOXES[place][0]
    elif names.inbox_of(placed.account) == placed.mailbox:
        name = mailboxes.INBOX
    else:
        return None
    held = tx.row(
        "SELECT mailbox.id, total FROM mailbox WHERE account = :account AND name = :name",
        account=placed.account,
        name=name,
    )
    is_free = held is not None and not tx.row("SELECT 1 FROM placement WHERE mailbox = :id LIMIT 1", id=held[0])
    return name if is_free else None


def other_mailbox(tx: Transaction, owner: int, number: int, now: float) -> str:
    """A mailbox below "Recovered" with this id, named by the time when it had been made (ids tell it)."""
    made_at = datetime.fromtimestamp((number >> SEQUENCE_BITS) / 1000, UTC)
    base = name = f"{FOLDER}/made {made_at:%Y-%m-%d %H.%M}"
    count = 1
    while mailboxes.by_name(tx, owner, name) is not None:
        count += 1
        name = f"{base} ({count})"
    made = mailboxes.create(tx, owner, name, now, is_subscribed=True)
    tx.run("UPDATE mailbox SET id = :id WHERE id = :made", id=number, made=made.id)
    tx.run("UPDATE journal SET mailbox = :id WHERE mailbox = :made", id=number, made=made.id)
    return name


def home(tx: Reader, hostname: str) -> Domain:
    """Where accounts without a known address go: the first domain, or the host's own name."""
    row = tx.row("SELECT name FROM domain WHERE alias_of IS NULL ORDER BY id LIMIT 1")
    return Domain.parse(hostname if row is None else row[0])


def furnish(
    tx: Transaction, places: Iterable[PlacedNote], names: Names, home: Domain, fresh: set[int], now: float
) -> list[str]:
    """Accounts and mailboxes for these places; what was made, in words. `fresh`: accounts that were made so (grows)."""
    said: list[str] = []
    for placed in places:
        said += furnish_account(tx, placed.account, names, home, fresh, now)
        box = mailbox(tx, placed, names, is_new_account=placed.account in fresh, now=now)
        if box is not None and box.startswith(FOLDER):
            owner = tx.row("SELECT name FROM account WHERE id = :id", id=placed.account)
            said.append(f"mailbox {box} of {owner[0] if owner else '?'}: its own name is not known")
    return said


def furnish_account(tx: Transaction, number: int, names: Names, home: Domain, fresh: set[int], now: float) -> list[str]:
    """The account itself, when it is not there; as `furnish`."""
    name = account(tx, number, names, home, now)
    if name is None:
        return []
    fresh.add(number)
    return [f"account {name}: it has no password, `posthouse account password {name}` sets one"]
