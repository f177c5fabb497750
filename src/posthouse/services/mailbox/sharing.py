# SPDX-License-Identifier: Apache-2.0
"""Who may do what with a mailbox, as its people say it (RFC 4314), and how much an account may keep (RFC 9208).

Invariant: the owner has every right, always; whoever else changes rights has right `a` in the same unit of work.
An identifier is the address of an account here, or "anyone"; with "-" before it the rights are taken away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from posthouse.mail.address import AddressError, parse_address
from posthouse.outcome import BAD_MAILBOX, INVALID_ARGUMENTS, Refusal
from posthouse.ports import Change as Hint
from posthouse.ports import ChangeBus, Clock, Database, Reader, Transaction
from posthouse.services.directory import Account
from posthouse.services.mailbox.places import RESERVED, Place, Places
from posthouse.store import letters, lookup, rights
from posthouse.store.flagging import Change
from posthouse.store.mailboxes import SEPARATOR, canonical_name
from posthouse.store.refusal import MailboxRefusal, Reason

ANYONE = "anyone"  # RFC 4314 §2
NEGATIVE = "-"
# A mailbox gives each letter a number of 32 bits, and none twice: no INBOX can ever have held more (RFC 9051 §2.3.1.1).
MAX_LETTERS = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Line:
    """`identifier` in the one form that it has here."""

    identifier: str
    rights: str


@dataclass(frozen=True, slots=True)
class Quota:
    """Of one account. `max_octets` None: as much as there is room."""

    root: str
    octets: int
    max_octets: int | None
    letters: int


@dataclass(frozen=True, slots=True)
class _Identity:
    person: int
    is_negative: bool


class Sharing:
    """Every method raises MailboxRefusal NONEXISTENT and NOPERM, and StoreFault."""

    def __init__(self, database: Database, bus: ChangeBus, clock: Clock, places: Places) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._places = places

    # --- rights -----------------------------------------------------------------------------------

    async def lines(self, account: Account, name: str) -> tuple[Place, list[Line]]:
        """The access control list of a mailbox, its owner first."""
        return await self._database.read(partial(self._lines, account=account, name=name))

    async def grant(self, account: Account, name: str, identifier: str, letters: str, change: Change) -> None:
        """Give or take rights. Refusal 5.5.4: no right, no identifier. NONEXISTENT also for nobody's identifier;
        CANNOT for the owner's; LIMIT."""
        unit = partial(
            self._grant,
            account=account,
            name=name,
            identifier=identifier,
            letters=letters,
            change=change,
            now=self._clock.wall(),
        )
        place = await self._database.write(unit)
        self._bus.publish(Hint("account", place.owner))

    async def grantable(self, account: Account, name: str, identifier: str) -> tuple[Place, str, str]:
        """What this identifier always has, and what it can be given, each right by itself."""
        return await self._database.read(partial(self._grantable, account=account, name=name, identifier=identifier))

    def _lines(self, reader: Reader, account: Account, name: str) -> tuple[Place, list[Line]]:
        place = self._find(reader, account, name, "a")
        return place, [Line(_owner(reader, place), rights.EVERY), *lines_of(reader, place.id)]

    def _grant(
        self, tx: Transaction, account: Account, name: str, identifier: str, letters: str, change: Change, now: float
    ) -> Place:
        letters = rights.canonical(letters)
        place = self._find(tx, account, name, "a")
        who = _identity(tx, identifier)
        rights.grant(tx, place.owner, place.id, who.person, letters, now, change=change, is_negative=who.is_negative)
        return place

    def _grantable(self, reader: Reader, account: Account, name: str, identifier: str) -> tuple[Place, str, str]:
        place = self._find(reader, account, name, "a")
        who = _identity(reader, identifier)
        return (place, rights.EVERY, "") if who.person == place.owner else (place, "", rights.EVERY)

    def _find(self, reader: Reader, account: Account, name: str, needs: str) -> Place:
        place = self._places.look(reader, account, name)
        if place is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        place.check(needs)
        return place

    # --- quota ------------------------------------------------------------------------------------

    async def quota(self, account: Account, root: str) -> Quota:
        """Of the person ("" too), or of somebody whose mailboxes the person may read: each account has one root, of
        its own name."""
        return await self._database.read(partial(self._quota, account=account, root=root))

    async def quota_of_mailbox(self, account: Account, name: str) -> Quota:
        """Of the mailbox's owner; also of a mailbox that could be made (RFC 9208 §4.1.2)."""
        return await self._database.read(partial(self._quota_of_mailbox, account=account, name=name))

    def _quota(self, reader: Reader, account: Account, root: str) -> Quota:
        if root in ("", account.name):
            return _usage(reader, account.id, account.name)
        for each in rights.shared_with(reader, account.id):
            if each.owner == root and "r" in each.rights:
                return _usage(reader, each.mailbox.account, each.owner)
        raise MailboxRefusal(Reason.NONEXISTENT, "there is no such quota root")

    def _quota_of_mailbox(self, reader: Reader, account: Account, name: str) -> Quota:
        place = self._places.look(reader, account, name)
        if place is None:
            if canonical_name(name).partition(SEPARATOR)[0] not in RESERVED:
                return _usage(reader, account.id, account.name)
            place = self._places.above(reader, account, name)
        if place is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        place.check("r")
        return _usage(reader, place.owner, _owner(reader, place))


def lines_of(reader: Reader, mailbox: int) -> list[Line]:
    """The access control list of a mailbox, without its owner."""
    people = {**rights.people(reader, mailbox), rights.EVERYBODY: ANYONE}
    return [
        Line((NEGATIVE if grant.is_negative else "") + people[grant.person], grant.rights)
        for grant in rights.grants(reader, mailbox)
        if grant.person in people
    ]


def _usage(reader: Reader, account: int, name: str) -> Quota:
    found = letters.usage(reader, account)
    if found is None:
        raise Refusal(BAD_MAILBOX, "there is no such account")
    octets, count, limit = found
    return Quota(name, octets, limit, count)


def _owner(reader: Reader, place: Place) -> str:
    name = lookup.name_of(reader, place.owner)
    assert name is not None, "the mailbox is there"
    return name


def _identity(reader: Reader, identifier: str) -> _Identity:
    """RFC 4314 §2."""
    name = identifier.removeprefix(NEGATIVE)
    is_negative = name != identifier
    if not name:
        raise Refusal(INVALID_ARGUMENTS, "an identifier is needed")
    if name == ANYONE:
        return _Identity(rights.EVERYBODY, is_negative)
    try:
        account = lookup.find_account(reader, parse_address(name))
    except AddressError:
        account = None
    if account is None:
        raise MailboxRefusal(Reason.NONEXISTENT, "there is no such person here, say the address of an account")
    return _Identity(account.id, is_negative)
