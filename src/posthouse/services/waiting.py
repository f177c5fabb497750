# SPDX-License-Identifier: Apache-2.0
"""Delivers submitted letters that waited in the queue (held, or sent for later) into mailboxes here.

Invariant: the delivery is part of the unit that records its outcomes: all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from posthouse.outcome import NO_ROUTE, Outcome
from posthouse.ports import BlobStore, Clock
from posthouse.services.carrier import LocalPlan
from posthouse.services.delivery import DELIVERED_HERE, Delivery, Origin, Posting
from posthouse.services.directory import Directory
from posthouse.services.incoming import FinishedLetter, IncomingLetter
from posthouse.services.transaction import Recipient
from posthouse.store.queue_rows import ClaimedLetter, ClaimedRecipient

CHUNK = 256 * 1024  # octets copied at a time


class WaitingDelivery:
    """The relay's LocalDelivery."""

    def __init__(self, directory: Directory, delivery: Delivery, blobs: BlobStore, clock: Clock) -> None:
        self._directory = directory
        self._delivery = delivery
        self._blobs = blobs
        self._clock = clock

    async def prepare(
        self, letter: ClaimedLetter, recipients: Sequence[ClaimedRecipient], content: memoryview
    ) -> LocalPlan:
        outcomes: list[Outcome] = []
        accepted: list[Recipient] = []
        for recipient in recipients:
            resolution = await self._directory.resolve(recipient.path.address)
            if resolution.status is not None:
                outcomes.append(Outcome(resolution.status, "the mailbox does not take letters any more"))
            elif not resolution.accounts and not resolution.remote:
                outcomes.append(Outcome(NO_ROUTE, "the address leads nowhere any more"))
            else:
                outcomes.append(DELIVERED_HERE)
                accepted.append(Recipient(recipient.path, resolution))
        if not accepted:
            return LocalPlan(outcomes, Posting(None, self._delivery))
        origin = Origin(letter.trace, self._clock.wall(), letter.prefix, source="queue")
        plan = self._delivery.plan(await self._copy(content), letter.reverse_path, accepted, origin)
        # The queue keeps this letter's history: it has one row there already.
        return LocalPlan(outcomes, Posting(replace(plan, delivered=()), self._delivery))

    async def _copy(self, content: memoryview) -> FinishedLetter:
        incoming = IncomingLetter(self._blobs)
        try:
            for start in range(0, len(content), CHUNK):
                await incoming.add(bytes(content[start : start + CHUNK]))
            return await incoming.finish()
        except BaseException:
            await incoming.discard()
            raise
