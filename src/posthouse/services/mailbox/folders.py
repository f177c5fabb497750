# SPDX-License-Identifier: Apache-2.0
"""Making, deleting, renaming mailboxes and subscribing to them, by the names that a person has for them.

Invariant: rights are looked at in the unit of work that makes the change. What is made below somebody else's mailbox
belongs to that person, and a mailbox never goes from one owner to another.

Decided where RFC 9051 leaves it open: superiors are made with a mailbox and are mailboxes themselves (§6.3.4); one with
inferiors is not deleted (§6.3.5); a name stays subscribed when its mailbox goes (§6.3.7), but a renamed mailbox takes
its subscription along: people who give it another name do not want to lose it from sight.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from posthouse.ports import Change, ChangeBus, Clock, Database, Transaction
from posthouse.services.directory import Account
from posthouse.services.mailbox.places import RESERVED, Place, Places
from posthouse.store import mailboxes, rights, subscriptions
from posthouse.store.mailboxes import SEPARATOR, canonical_name
from posthouse.store.refusal import MailboxRefusal, Reason


@dataclass(frozen=True, slots=True)
class Renamed:
    """`old` as it was. `new`: of INBOX, the new mailbox that has its letters."""

    old: Place
    new: Place


class Folders:
    """Every method raises MailboxRefusal, and StoreFault."""

    def __init__(self, database: Database, bus: ChangeBus, clock: Clock, places: Places) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._places = places

    async def create(self, account: Account, name: str, special_use: str | None = None) -> Place:
        """ALREADYEXISTS, CANNOT (no name for a mailbox, or none of one's own), NOPERM, LIMIT, USEATTR."""
        unit = partial(self._create, account=account, said=name, special_use=special_use, now=self._clock.wall())
        place = await self._database.write(unit)
        self._publish(place)
        return place

    async def delete(self, account: Account, name: str) -> Place:
        """NONEXISTENT, NOPERM, CANNOT (INBOX), HASCHILDREN. The mailbox as it was."""
        unit = partial(self._delete, account=account, name=name, now=self._clock.wall())
        place = await self._database.write(unit)
        self._publish(place)
        return place

    async def rename(self, account: Account, name: str, new_name: str) -> Renamed:
        """NONEXISTENT, ALREADYEXISTS, NOPERM, CANNOT (into itself, to another owner), LIMIT."""
        unit = partial(self._rename, account=account, name=name, said=new_name, now=self._clock.wall())
        renamed = await self._database.write(unit)
        self._publish(renamed.new)
        return renamed

    async def subscribe(self, account: Account, name: str) -> None:
        """NONEXISTENT, LIMIT."""
        place = await self._database.write(partial(self._subscribe, account=account, name=name, now=self._clock.wall()))
        self._publish(place)

    async def unsubscribe(self, account: Account, name: str) -> None:
        """Of whatever name: what was not subscribed is not (RFC 9051 §6.3.8)."""
        place = await self._database.write(
            partial(self._unsubscribe, account=account, name=name, now=self._clock.wall())
        )
        if place is not None:
            self._publish(place)

    def _publish(self, place: Place) -> None:
        self._bus.publish(Change("account", place.owner))

    # --- units of work ----------------------------------------------------------------------------

    def _find(self, tx: Transaction, account: Account, name: str) -> Place:
        place = self._places.look(tx, account, name)
        if place is None:
            raise MailboxRefusal(Reason.NONEXISTENT, "there is no such mailbox")
        return place

    def _create(self, tx: Transaction, account: Account, said: str, special_use: str | None, now: float) -> Place:
        name = canonical_name(said)
        if not _is_reserved(name):
            made = mailboxes.create(tx, account.id, name, now, special_use=special_use)
            return Place(made, account.id, made.name, rights.EVERY)
        if self._places.look(tx, account, name) is not None:
            raise MailboxRefusal(Reason.ALREADYEXISTS, "there is a mailbox with this name")
        superior = self._superior(tx, account, name)
        if special_use is not None:
            raise MailboxRefusal(Reason.USEATTR, "only mailboxes of your own have a special use")
        mailboxes.create(tx, superior.owner, _as_owner_says(superior, name), now)
        return self._find(tx, account, name)

    def _superior(self, tx: Transaction, account: Account, name: str) -> Place:
        """The mailbox of somebody else below which this one may be made (RFC 4314 §4: the nearest above it)."""
        superior = self._places.above(tx, account, name)
        if superior is None:
            raise MailboxRefusal(Reason.CANNOT, f"{' and '.join(RESERVED)} are for the mailboxes of others")
        superior.check("k")
        return superior

    def _delete(self, tx: Transaction, account: Account, name: str, now: float) -> Place:
        place = self._find(tx, account, name)
        place.check("x")
        mailboxes.delete(tx, place.owner, place.id, now)
        return place

    def _rename(self, tx: Transaction, account: Account, name: str, said: str, now: float) -> Renamed:
        old = self._find(tx, account, name)
        new_name = canonical_name(said)
        if self._places.look(tx, account, new_name) is not None:
            raise MailboxRefusal(Reason.ALREADYEXISTS, "there is a mailbox with this name")
        if old.is_own:
            if _is_reserved(new_name):
                raise MailboxRefusal(Reason.CANNOT, "a mailbox of your own cannot become another's")
            made = mailboxes.rename(tx, account.id, old.id, new_name, now)
            return Renamed(old, Place(made, account.id, made.name, rights.EVERY))
        if old.mailbox.is_inbox:
            raise MailboxRefusal(Reason.CANNOT, "the INBOX of somebody else keeps its name")
        if not _is_reserved(new_name):
            raise MailboxRefusal(Reason.CANNOT, "a mailbox of somebody else cannot become your own")
        superior = self._superior(tx, account, new_name)
        if superior.owner != old.owner:
            raise MailboxRefusal(Reason.CANNOT, "a mailbox cannot go from one person to another")
        for each in mailboxes.with_inferiors(tx, old.mailbox):  # they are renamed with it
            Place(each, account.id, each.name, rights.of_person(tx, each.id, account.id)).check("x")
        mailboxes.rename(tx, old.owner, old.id, _as_owner_says(superior, new_name), now)
        return Renamed(old, self._find(tx, account, new_name))

    def _subscribe(self, tx: Transaction, account: Account, name: str, now: float) -> Place:
        place = self._find(tx, account, name)
        if place.is_own:
            mailboxes.subscribe(tx, account.id, place.id, now, is_subscribed=True)
        else:
            subscriptions.add(tx, account.id, place.owner, place.mailbox.name)
        return place

    def _unsubscribe(self, tx: Transaction, account: Account, name: str, now: float) -> Place | None:
        place = self._places.look(tx, account, name)
        if place is not None and place.is_own:
            mailboxes.subscribe(tx, account.id, place.id, now, is_subscribed=False)
            return place
        if place is not None:
            subscriptions.remove(tx, account.id, place.owner, place.mailbox.name)
            return place
        try:
            kept = canonical_name(name)
        except MailboxRefusal:
            return None
        for each in subscriptions.names(tx, account.id):
            if self._places.called(account, each.owner, each.name) == kept:
                subscriptions.remove(tx, account.id, each.account, each.name)
        return None


def _is_reserved(name: str) -> bool:
    """Whether a mailbox of this name is somebody else's, if it is one."""
    return name.partition(SEPARATOR)[0] in RESERVED


def _as_owner_says(superior: Place, name: str) -> str:
    """A name below a mailbox of somebody else, as that person has it."""
    return superior.mailbox.name + name[len(superior.name) :]
