# SPDX-License-Identifier: Apache-2.0
"""Changes to the letters of a mailbox: flags, expunging, copying and moving.

Invariant: each is one unit of work, by the rights that the person has at that moment; whoever looks at one of the
accounts hears of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from posthouse.ports import Change as Hint
from posthouse.ports import ChangeBus, Clock, Database, Transaction
from posthouse.services.mailbox.places import Place
from posthouse.services.mailbox.selected import SelectedMailbox
from posthouse.store import carrying, flagging, messages, rights, uidset, visitors
from posthouse.store.carrying import End, touchable
from posthouse.store.flagging import Change, Stored
from posthouse.store.flags import ALL
from posthouse.store.messages import Copied, Expunged
from posthouse.store.refusal import MailboxRefusal, Reason
from posthouse.store.uidset import Ranges

# Letters that are read again within the unit that changed them, while other units wait: a millisecond or two.
READ_AT_ONCE = 1_000


class Storing:
    def __init__(self, database: Database, bus: ChangeBus, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock

    async def store(
        self,
        place: Place,
        uids: Ranges,
        change: Change,
        flags: int = 0,
        keywords: Sequence[str] = (),
        *,
        unchanged_since: int | None = None,
        looking: SelectedMailbox | None = None,
    ) -> Stored:
        """Change flags (bits) and keywords. What the person may not change is left as it is (RFC 4314 §4).

        `looking`: who has the mailbox selected and learns of it with the answer.
        Raises MailboxRefusal: NONEXISTENT, NOPERM where nothing of it may be changed, LIMIT; StoreFault.
        """
        unit = partial(
            _store,
            place=place,
            uids=uids,
            change=change,
            flags=flags,
            keywords=keywords,
            now=self._clock.wall(),
            unchanged_since=unchanged_since,
        )
        if looking is None:
            done = await self._database.write(unit)
        elif uidset.size(uids) <= READ_AT_ONCE:
            done = await looking.write(unit)
        else:
            done = await self._database.write(unit)
            await looking.refresh()
        if done.changed:
            self._tell(place.owner)
        return done

    async def expunge_deleted(self, place: Place, uids: Ranges = uidset.EVERY_UID) -> Expunged:
        r"""Remove those of the letters that are flagged \Deleted.

        Raises MailboxRefusal NONEXISTENT, NOPERM; StoreFault."""
        done = await self._database.write(partial(_expunge, place=place, uids=uids, now=self._clock.wall()))
        if done.uids:
            self._tell(place.owner)
        return done

    async def copy(self, place: Place, uids: Ranges, target: Place, *, needs_all: bool = False) -> Copied:
        """All of the letters that are there, or none; `needs_all`: each of them has to be there.

        Raises MailboxRefusal: NONEXISTENT, NOPERM, OVERQUOTA, LIMIT, EXPUNGEISSUED; StoreFault.
        """
        return await self._carry(place, uids, target, is_move=False, needs_all=needs_all)

    async def move(self, place: Place, uids: Ranges, target: Place) -> Copied:
        """Those of the letters that are there. Raises as `copy` does."""
        return await self._carry(place, uids, target, is_move=True, needs_all=False)

    async def _carry(self, place: Place, uids: Ranges, target: Place, *, is_move: bool, needs_all: bool) -> Copied:
        done = await self._database.write(
            partial(
                carrying.carry,
                person=place.person,
                source=End(place.owner, place.id),
                uids=uids,
                target=End(target.owner, target.id),
                now=self._clock.wall(),
                is_move=is_move,
                needs_all=needs_all,
            )
        )
        if done.source:
            for account in {target.owner, place.owner} if is_move else (target.owner,):
                self._tell(account)
        return done

    def _tell(self, account: int) -> None:
        self._bus.publish(Hint("account", account))


def _store(
    tx: Transaction,
    place: Place,
    uids: Ranges,
    change: Change,
    flags: int,
    keywords: Sequence[str],
    now: float,
    unchanged_since: int | None,
) -> Stored:
    # The rights may have changed since the mailbox was selected.
    may = rights.EVERY if place.is_own else rights.of_person(tx, place.id, place.person)
    changeable = touchable(may)
    # A replacement concerns all flags, those that it does not name too.
    wants = ALL if change is Change.REPLACE else flags
    if (wants or keywords) and not wants & changeable and not (keywords and "w" in may):
        raise MailboxRefusal(Reason.NOPERM, "you may not change that in this mailbox")
    store = flagging.store if place.is_own else partial(visitors.store, person=place.person)
    return store(
        tx,
        place.owner,
        place.id,
        uids=uids,
        change=change,
        flags=flags,
        keywords=keywords,
        now=now,
        unchanged_since=unchanged_since,
        touchable=changeable,
        touches_keywords="w" in may,
    )


def _expunge(tx: Transaction, place: Place, uids: Ranges, now: float) -> Expunged:
    if not place.is_own and "e" not in rights.of_person(tx, place.id, place.person):
        raise MailboxRefusal(Reason.NOPERM, "you may not expunge in this mailbox")
    return messages.expunge(tx, place.owner, place.id, uids, now=now, only_deleted=True)
