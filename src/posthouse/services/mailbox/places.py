# SPDX-License-Identifier: Apache-2.0
"""Mailboxes by the names that one person has for them: the own ones, "Other Users/", "Shared/" (RFC 2342).

Invariant: a mailbox that a person may not look up (right l) is not there for that person, in any answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from posthouse.ports import Database, Reader
from posthouse.services.directory import Account
from posthouse.store import lookup, mailboxes, rights
from posthouse.store.mailboxes import SEPARATOR, Mailbox
from posthouse.store.refusal import MailboxRefusal, Reason

OTHER_USERS = "Other Users"
SHARED = "Shared"
RESERVED = (OTHER_USERS, SHARED)  # first levels that are no one's own
# An address and the rest. A local part may have the separator in it, and a quoted one an "@" (RFC 5321 §4.1.2).
_OWNER = re.compile(rf'((?:"(?:[^"\\]|\\.)*"|[^@"]+)@[^{SEPARATOR}]+){SEPARATOR}(.+)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox as one person has it. `name`: how this person calls it; `rights`: what that person may do there."""

    mailbox: Mailbox
    person: int
    name: str
    rights: str

    @property
    def is_own(self) -> bool:
        return self.mailbox.account == self.person

    @property
    def id(self) -> int:
        return self.mailbox.id

    @property
    def owner(self) -> int:
        """The account whose mailbox it is."""
        return self.mailbox.account

    def may(self, right: str) -> bool:
        """One letter of RFC 4314 §2.1."""
        return right in self.rights

    def check(self, needs: str) -> None:
        """Raise MailboxRefusal NOPERM unless the person has each of these rights."""
        if not set(needs) <= set(self.rights):
            raise MailboxRefusal(Reason.NOPERM, "you may not do that in this mailbox")


def mailbox_id(mailbox: int) -> str:
    """MAILBOXID (RFC 8474 §4): of this mailbox for ever, whatever its name is."""
    return f"m{mailbox:x}"


class Places:
    """`shared`: local part of the account whose mailboxes everybody of its domain finds under "Shared/"."""

    def __init__(self, database: Database, *, shared: str = "shared") -> None:
        self._database = database
        self._shared = shared

    async def find(self, account: Account, name: str, needs: str = "") -> Place:
        """Raises MailboxRefusal NONEXISTENT, and NOPERM where one of these rights is missing."""
        place = await self._database.read(partial(self.look, account=account, name=name))
        if place is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        place.check(needs)
        return place

    def look(self, reader: Reader, account: Account, name: str) -> Place | None:
        """The same within a visit to the database; None: no such mailbox, for this person."""
        own = mailboxes.by_name(reader, account.id, name)
        if own is not None:
            return Place(own, account.id, own.name, rights.EVERY)
        return self._look_elsewhere(reader, account, name)

    def _look_elsewhere(self, reader: Reader, account: Account, name: str) -> Place | None:
        namespace, _, rest = name.partition(SEPARATOR)
        common = self.shared_name(account)
        if namespace == SHARED:
            owner, tail = common, rest
        elif namespace == OTHER_USERS:
            said = _OWNER.match(rest)
            owner, tail = said.groups() if said is not None else ("", "")
        else:
            return None
        owner_id = lookup.account_named(reader, owner) if owner else None
        found = None if owner_id in (None, account.id) else mailboxes.by_name(reader, owner_id or 0, tail)
        if found is None or (owner == common) is not (namespace == SHARED):
            return None
        allowed = rights.of_person(reader, found.id, account.id)
        return Place(found, account.id, self.called(account, owner, found.name), allowed) if "l" in allowed else None

    def called(self, account: Account, owner: str, name: str) -> str:
        """What a person calls the mailbox that the account `owner` calls `name`."""
        if owner == account.name:
            return name
        if owner == self.shared_name(account):
            return f"{SHARED}{SEPARATOR}{name}"
        return f"{OTHER_USERS}{SEPARATOR}{owner}{SEPARATOR}{name}"

    def above(self, reader: Reader, account: Account, name: str) -> Place | None:
        """The nearest mailbox above this name that is there for the person."""
        while name := name.rpartition(SEPARATOR)[0]:
            found = self.look(reader, account, name)
            if found is not None:
                return found
        return None

    async def may_create(self, account: Account, name: str) -> bool:
        """Whether this person could make a mailbox of this name (TRYCREATE, RFC 9051 §6.4.7)."""
        try:
            name = mailboxes.canonical_name(name)
        except MailboxRefusal:
            return False
        if name.partition(SEPARATOR)[0] not in RESERVED:
            return True
        superior = await self._database.read(partial(self.above, account=account, name=name))
        return superior is not None and superior.may("k")  # RFC 4314 §4

    async def all(self, account: Account) -> list[Place]:
        """The own ones first, then those of others; each in order of names."""
        return await self._database.read(partial(self.list_all, account=account))

    def list_all(self, reader: Reader, account: Account) -> list[Place]:
        own = [Place(each, account.id, each.name, rights.EVERY) for each in mailboxes.list_all(reader, account.id)]
        return own + list(self._others(reader, account))

    def shared_name(self, account: Account) -> str:
        """Name of the account that has the Shared namespace for this person; "" for none."""
        return f"{self._shared}@{account.name.rpartition('@')[2]}" if self._shared else ""

    def _others(self, reader: Reader, account: Account) -> Iterator[Place]:
        for each in rights.shared_with(reader, account.id):
            yield Place(each.mailbox, account.id, self.called(account, each.owner, each.mailbox.name), each.rights)
