# SPDX-License-Identifier: Apache-2.0
"""Turns outcomes into rulings, reports and one unit of work.

Invariant: a recipient's new state, the attempt's row, the report it causes and the letter's delivery here are
one unit: all of it or nothing. A recipient that nobody can be told about in the end is not finished.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from posthouse.mail.dsn import Action
from posthouse.outcome import SYSTEM_FAULT, Outcome
from posthouse.ports import Change, ChangeBus, Clock, Database, StoreFault, Transaction
from posthouse.services.bounce import Bounce, LetterToReport, Notice, Posting
from posthouse.services.delivery import RecipientsGone
from posthouse.services.schedule import Ruled, Schedules, rule
from posthouse.store import queue, queue_admin
from posthouse.store.queue_rows import (
    LOCAL,
    Attempt,
    ClaimedLetter,
    ClaimedRecipient,
    LeaseLost,
    Ruling,
    State,
    group_results,
)
from posthouse.telemetry import logger

STORE_PAUSES = (1.0, 5.0, 15.0, 30.0)  # seconds between tries to record while the disk refuses; the last repeats
GONE_PAUSE = 1.0  # seconds, in which the word of a removed account has come round to all caches
Result = tuple[ClaimedRecipient, Outcome]


@dataclass(slots=True)
class RelayCounters:
    """Since the start, for metrics. Recipients, except where the name says otherwise."""

    delivered: int = 0
    deferred: int = 0
    failed: int = 0
    expired: int = 0
    warned: int = 0
    transactions: int = 0
    connections: int = 0
    connections_failed: int = 0
    transactions_on_used_connections: int = 0
    leases_lost: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be settled for one letter. `is_attempt`: it was tried for these recipients themselves.
    `relayed_blindly`: the next host knows no DSN, so who asked for success is told "relayed" by us.
    `accept`: the delivery into mailboxes here, in the same unit. `is_told` False: no report, whatever happens.
    `is_held`: what is not finished by this waits for an operator. `tried_at`: when the outcome was met, where that
    was not now."""

    letter: ClaimedLetter
    next_hop: str
    results: tuple[Result, ...]
    is_attempt: bool = True
    relayed_blindly: bool = False
    accept: Posting | None = None
    is_told: bool = True
    is_held: bool = False
    tried_at: float | None = None


class Settler:
    def __init__(
        self, database: Database, clock: Clock, bus: ChangeBus, *, bounce: Bounce, schedules: Schedules, owner: str
    ) -> None:
        """`owner` is the id of this incarnation, under which recipients are claimed."""
        self._database = database
        self._bounce = bounce
        self._clock = clock
        self._bus = bus
        self._log = logger("relay")
        self.schedules = schedules
        self.owner = owner
        self.counters = RelayCounters()
        self.is_hurried = False  # the process is ending: do not wait for a disk that refuses

    async def settle(self, settlement: Settlement) -> None:
        """Make it so, durably. While the disk refuses, wait and try again: what a remote host has accepted would
        be sent twice otherwise. Recipients that somebody else claimed meanwhile are left to him."""
        results = settlement.results
        tries = 0
        while results:
            now = self._clock.wall()
            ruled, postings = await self._judge(settlement, results, now)
            attempt = _attempt(settlement, results, now) if settlement.is_attempt else None
            unit = _Unit(
                settlement.letter.id,
                ruled,
                postings,
                settlement.accept,
                attempt,
                self.owner,
                now,
                is_held=settlement.is_held,
            )
            try:
                await self._database.write(unit)
            except LeaseLost as lost:
                self.counters.leases_lost += len(lost.recipients)
                self._log.warning("lease_lost", queue_id=settlement.letter.id, recipients=len(lost.recipients))
                results = tuple(each for each in results if each[0].id not in lost.recipients)
                if settlement.accept is not None:  # it would deliver for the lost ones too
                    settlement, results = _not_delivered(settlement, results, "another node has taken the others")
            except RecipientsGone:
                if settlement.accept is not None:
                    settlement, results = _not_delivered(settlement, results, "a mailbox was removed at this moment")
                elif self.is_hurried:
                    return
                else:  # the report's reader: who gets it now is found out anew
                    await asyncio.sleep(GONE_PAUSE)
            except StoreFault as fault:
                self._log.error("not_recorded", queue_id=settlement.letter.id, reason=str(fault))
                if self.is_hurried:
                    return
                await asyncio.sleep(STORE_PAUSES[min(tries, len(STORE_PAUSES) - 1)])
                tries += 1
            else:
                self._count(settlement, ruled)
                self._announce(postings if settlement.accept is None else [*postings, settlement.accept])
                return

    async def _judge(
        self, settlement: Settlement, results: Sequence[Result], now: float
    ) -> tuple[list[Ruled], list[Posting]]:
        ruled = [
            rule(
                recipient,
                outcome,
                now,
                self.schedules.of(recipient.path.address.domain.name),
                is_attempt=settlement.is_attempt,
            )
            for recipient, outcome in results
        ]
        notices = [notice for each in ruled if (notice := _notice(settlement, each, now)) is not None]
        if not notices or not settlement.is_told:
            return ruled, []
        try:
            letter = await self._where_it_lies_now(settlement.letter)
            return ruled, await self._bounce.prepare(letter_to_report(letter), notices)
        except Exception as fault:
            self._log.exception("report_not_composed", queue_id=settlement.letter.id, reason=repr(fault))
            return [_postponed(each, now, self.schedules) for each in ruled], []

    async def _where_it_lies_now(self, letter: ClaimedLetter) -> ClaimedLetter:
        """It may have been moved to another pack since it was claimed (compaction): the report quotes its header."""
        location = None
        with contextlib.suppress(StoreFault):  # the news must reach its reader all the same
            location = await self._database.read(lambda reader: queue.location(reader, letter.id))
        return letter if location is None else replace(letter, location=location)

    def _count(self, settlement: Settlement, ruled: Iterable[Ruled]) -> None:
        counters, letter = self.counters, settlement.letter
        for each in ruled:
            ruling = each.ruling
            match ruling.state:
                case State.DELIVERED:
                    counters.delivered += 1
                case State.FAILED:
                    counters.failed += 1
                case State.EXPIRED:
                    counters.expired += 1
                case _:
                    counters.deferred += 1
            counters.warned += each.is_warning
            self._log.info(
                ruling.state.value if ruling.state.is_final else "deferred",
                trace=letter.trace,
                queue_id=letter.id,
                recipient=str(each.recipient.path),
                status=str(ruling.outcome.status),
                host=ruling.outcome.host,
                address=ruling.outcome.address,
                tls=ruling.outcome.tls,
                diagnostic=ruling.outcome.diagnostic,
            )

    def _announce(self, postings: Sequence[Posting]) -> None:
        for posting in postings:
            posting.announce()
        if postings:
            self._bus.publish(Change("queue"))  # who waits for the letter's end hears of it too


@dataclass(frozen=True, slots=True)
class _Unit:
    """The transaction function; it may run twice."""

    letter: int
    ruled: Sequence[Ruled]
    postings: Sequence[Posting]
    accept: Posting | None
    attempt: Attempt | None
    owner: str
    now: float
    is_held: bool

    def __call__(self, tx: Transaction) -> None:
        rulings = [each.ruling for each in self.ruled]
        if self.is_held:
            queue_admin.hold(tx, [each.recipient for each in rulings], self.now)
        queue.record(tx, self.letter, rulings, owner=self.owner, now=self.now, attempt=self.attempt)
        for posting in self.postings:
            posting(tx)
        if self.accept is not None:
            self.accept(tx)


def _not_delivered(
    settlement: Settlement, results: Sequence[Result], why: str
) -> tuple[Settlement, tuple[Result, ...]]:
    """The delivery here could not be part of the unit: it is prepared anew at the next attempt."""
    outcome = Outcome(SYSTEM_FAULT, why)
    return replace(settlement, accept=None), tuple((recipient, outcome) for recipient, _ in results)


def letter_to_report(letter: ClaimedLetter) -> LetterToReport:
    return LetterToReport(
        reverse_path=letter.reverse_path,
        language=letter.language,
        arrived_at=letter.received_at,
        trace=letter.trace,
        ident=str(letter.id),
        prefix=letter.prefix,
        location=letter.location,
        size=letter.size,
    )


def _notice(settlement: Settlement, ruled: Ruled, now: float) -> Notice | None:
    """What there is to tell about one recipient; whether its sender wants to know is for Bounce to say."""
    ruling, recipient = ruled.ruling, ruled.recipient
    at = now if settlement.tried_at is None else settlement.tried_at
    match ruling.state:
        case State.DELIVERED if settlement.next_hop == LOCAL:
            return Notice(recipient.path, Action.DELIVERED, ruling.outcome, at)
        case State.DELIVERED if settlement.relayed_blindly:
            return Notice(recipient.path, Action.RELAYED, ruling.outcome, at)
        case State.FAILED | State.EXPIRED:
            return Notice(recipient.path, Action.FAILED, ruling.outcome, at)
        case State.DUE if ruled.is_warning:
            return Notice(recipient.path, Action.DELAYED, ruling.outcome, at, recipient.expires_at)
        case _:
            return None


def _postponed(ruled: Ruled, now: float, schedules: Schedules) -> Ruled:
    """The report could not be made: delivered stays delivered, anything else stays in the queue, visible."""
    if ruled.ruling.state is State.DELIVERED:
        return ruled
    recipient = ruled.recipient
    outcome = Outcome(SYSTEM_FAULT, f"no report could be made of: {ruled.ruling.outcome.diagnostic}")
    due_at = now + schedules.longest_delay
    # A deadline that has passed would be met again at once, in circles: the next one is at the next attempt.
    is_overdue = now >= (recipient.expires_at if recipient.warn_at is None else recipient.warn_at)
    warn_at = due_at if is_overdue else recipient.warn_at
    return Ruled(recipient, Ruling(recipient.id, State.DUE, outcome, due_at=due_at, warn_at=warn_at))


def _attempt(settlement: Settlement, results: Sequence[Result], now: float) -> Attempt:
    outcome = results[0][1]  # all of one mail transaction: one host, one address, one session
    return Attempt(
        letter=settlement.letter.id,
        next_hop=settlement.next_hop,
        at=now,
        host=outcome.host,
        address=outcome.address,
        tls=outcome.tls,
        results=group_results((str(recipient.path), outcome) for recipient, outcome in results),
    )
