# SPDX-License-Identifier: Apache-2.0
"""Changes to the letters of a mailbox: flags, expunging, copying and moving.

Invariant: whoever looks at the account learns of a change before it is answered; the rights were checked before.
"""

from __future__ import annotations

from functools import partial

from posthouse.ports import Change, ChangeBus, Clock, Database
from posthouse.services.mailbox.places import Place
from posthouse.store import messages, uidset
from posthouse.store.messages import Expunged
from posthouse.store.uidset import Ranges


class Storing:
    def __init__(self, database: Database, bus: ChangeBus, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock

    async def expunge_deleted(self, place: Place, uids: Ranges = uidset.EVERY_UID) -> Expunged:
        r"""Remove those of the letters that are flagged \Deleted. Raises MailboxRefusal NONEXISTENT, StoreFault."""
        done = await self._database.write(
            partial(
                messages.expunge,
                account=place.owner,
                mailbox=place.id,
                uids=uids,
                now=self._clock.wall(),
                only_deleted=True,
            )
        )
        if done.uids:
            self._bus.publish(Change("account", place.owner))
        return done
