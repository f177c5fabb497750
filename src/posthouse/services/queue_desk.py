# SPDX-License-Identifier: Apache-2.0
"""What an operator asks of the queue: list, show, trace, hold, release, retry now, drop; and its housekeeping.

Invariant: the queue stays consistent whatever runs meanwhile; a letter being sent is never dropped under the
sender's hands. Everything happens in pages, so a hundred thousand letters are held without a long unit of work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from posthouse.outcome import Outcome, Status
from posthouse.ports import Change, ChangeBus, Clock, Database, Transaction
from posthouse.services.carrier import LEASE
from posthouse.services.settle import Settlement, Settler
from posthouse.store import destinations, history, letter_story, queue, queue_admin
from posthouse.store.letter_story import LetterStory
from posthouse.store.queue_admin import QueueDetail, QueueEntry, QueueTotals, Selection
from posthouse.store.queue_rows import State

DROPPED = Status(5, 0, 0)  # RFC 3463 §3.1: X.0.0, no other code says "by hand"
DROP_WORDS = "the letter was taken out of the queue by the postmaster before it could be delivered"


@dataclass(frozen=True, slots=True)
class Done:
    """How many recipients were changed, and how many were not because they were being sent at that moment."""

    changed: int
    busy: int = 0


class Operation(Protocol):
    """What the store does to a page of recipients; how many it changed."""

    def __call__(self, tx: Transaction, recipients: Sequence[int], now: float) -> int: ...


class QueueDesk:
    def __init__(self, database: Database, settler: Settler, clock: Clock, bus: ChangeBus) -> None:
        self._database = database
        self._settler = settler
        self._clock = clock
        self._bus = bus

    # --- seeing -----------------------------------------------------------------------------------

    async def list_letters(
        self, selection: Selection, after: int = 0, limit: int = queue_admin.PAGE
    ) -> tuple[list[QueueEntry], int | None]:
        """A page of queued letters, oldest first, and the `after` of the next page (None: that was all)."""
        found: list[QueueEntry] = []
        goes_on: int | None = after
        while goes_on is not None and len(found) < limit:
            query = partial(queue_admin.list_letters, selection=selection, after=goes_on, limit=limit - len(found))
            page, goes_on = await self._database.read(query)
            found += page
        return found, goes_on

    async def show(self, queue_id: int) -> QueueDetail | None:
        """Everything about one letter that is in the queue."""
        now = self._clock.wall()
        return await self._database.read(lambda reader: queue_admin.show(reader, queue_id, now))

    async def trace(self, what: str, limit: int = letter_story.STORIES) -> list[LetterStory]:
        """What happened to the letters that a queue id, an address, a Message-ID or a trace id names: those in the
        queue first, then the newest; walks as far back as it must to find `limit` of them."""
        stories: list[LetterStory] = []
        before: int | None = None
        now = self._clock.wall()
        queued = await self._queued(what.strip(), limit)
        while True:
            page, before = await self._database.read(
                partial(letter_story.trace, what=what, now=now, before=before, queued=queued, limit=limit)
            )
            queued = []
            known = {story.id for story in stories}
            stories += [story for story in page if story.id not in known]
            if before is None or len(stories) >= limit:
                return stories[:limit]

    async def _queued(self, what: str, limit: int) -> list[int]:
        """Ids of letters in the queue with this Message-ID or trace id, else with this address."""
        if letter_story.is_queue_id(what):
            return []  # no walk is needed
        ids: list[int] = []
        after: int | None = 0
        while after is not None and len(ids) < limit:
            page, after = await self._database.read(partial(queue_admin.find_named, name=what, after=after))
            ids += page
        if not ids and "@" in what:
            ids = [entry.id for entry in (await self.list_letters(Selection.parse(what), limit=limit))[0]]
        return ids[:limit]

    async def next_due(self) -> float | None:
        """When something may be attempted next; it costs the same whatever waits. Raises StoreFault."""
        return await self._database.read(destinations.next_due)

    async def totals(self) -> QueueTotals:
        return await self._database.read(queue_admin.totals)

    # --- doing ------------------------------------------------------------------------------------

    async def hold(self, selection: Selection) -> Done:
        """Nothing more is tried until it is released. What is being sent now is held if it is not delivered."""
        return await self._paged(selection, (State.DUE, State.CLAIMED), queue_admin.hold)

    async def release(self, selection: Selection) -> Done:
        """Held recipients go on, at once or at the time they were to be sent."""
        return await self._paged(selection, (State.HELD,), queue_admin.release)

    async def retry_now(self, selection: Selection) -> Done:
        """Due recipients are tried at once, whatever their schedule or their destination's rest says."""
        return await self._paged(selection, (State.DUE,), queue_admin.retry_now)

    async def drop(self, selection: Selection, *, tell_sender: bool) -> Done:
        """Take recipients out of the queue for good; they fail, and their senders are told or not."""
        outcome = Outcome(DROPPED, DROP_WORDS)
        changed = 0
        async for ids in self._pages(selection, (State.DUE, State.HELD)):
            now = self._clock.wall()
            letters = await self._database.write(
                partial(
                    queue.claim_recipients,
                    recipients=ids,
                    now=now,
                    owner=self._settler.owner,
                    leased_until=now + LEASE,
                )
            )
            for letter in letters:
                results = tuple((recipient, outcome) for recipient in letter.recipients)
                await self._settler.settle(
                    Settlement(letter, letter.recipients[0].next_hop, results, is_told=tell_sender)
                )
                changed += len(results)
        busy = 0
        async for ids in self._pages(selection, (State.CLAIMED,)):
            busy += len(ids)
        return Done(changed, busy)

    async def _paged(
        self,
        selection: Selection,
        states: Sequence[State],
        change: Operation,
    ) -> Done:
        changed = 0
        now = self._clock.wall()
        async for ids in self._pages(selection, states):
            changed += await self._database.write(partial(change, recipients=ids, now=now))
        if changed:
            self._bus.publish(Change("queue"))
        return Done(changed)

    async def _pages(self, selection: Selection, states: Sequence[State]) -> AsyncIterator[list[int]]:
        after: int | None = 0
        while after is not None:
            start = after
            ids, after = await self._database.read(
                partial(queue_admin.find, selection=selection, states=states, after=start)
            )
            if ids:
                yield ids

    # --- housekeeping -----------------------------------------------------------------------------

    async def purge(self, keep: float) -> int:
        """Forget history older than `keep` seconds, and destinations that nothing waits for. Returns rows gone."""
        now = self._clock.wall()
        gone = await self._database.write(lambda tx: destinations.prune_all(tx, now))
        while count := await self._database.write(lambda tx: history.purge(tx, now - keep)):
            gone += count
        return gone
