# SPDX-License-Identifier: Apache-2.0
"""Carries mail to one destination: connect, claim, send, settle, claim again on the same connection.

Invariant: nothing is claimed before a session with the destination exists, so a host that is down is probed
once for all that waits for it, and its back-off is one row. What was claimed is settled or given back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from posthouse.mail.envelope import ReversePath, TlsWish
from posthouse.outcome import (
    SYSTEM_FAULT,
    TOO_MANY_RECIPIENTS,
    Outcome,
    Status,
)
from posthouse.ports import (
    BlobStore,
    Clock,
    ConnectFault,
    DamagedContent,
    Database,
    MailConnection,
    MailTransport,
    StoreFault,
    Target,
    Transaction,
)
from posthouse.services.bounce import Posting
from posthouse.services.bound_letters import BoundLetters, is_bound
from posthouse.services.fitting import envelope, obstacle, recipient_limit
from posthouse.services.guarded_transport import keeps_promise
from posthouse.services.lanes import Lane
from posthouse.services.routing import RouteGone, Routing, RoutingFault
from posthouse.services.settle import STORE_PAUSES, Settlement, Settler
from posthouse.store import destinations, queue
from posthouse.store.queue_rows import LOCAL, Attempt, ClaimedLetter, ClaimedRecipient
from posthouse.telemetry import logger

LETTERS_PER_CLAIM = 10  # a worker's share: others take the rest meanwhile, and a slow host keeps few letters claimed
LEASE = 900.0  # seconds; longer than the longest silence within a mail transaction (RFC 5321 §4.5.3.2: ten minutes)
LINGER = 2.0  # seconds that a connection waits for another letter: a burst shares it, nobody minds an idle one
BREAKS_ENDURED = 3  # transactions in a row that end a session with nothing delivered, before the host counts as down
BAD_TARGET_REST = 300.0  # seconds in which an address that did not answer is tried after its equals only
OUR_FAULT = "a fault of this server"
DAMAGED = "the letter is damaged on this server's disk; it is held, and `posthouse check --store` says more"
MAX_BAD_TARGETS = 1000  # remembered; more dead addresses at once than this is a broken network, not a list


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """One outcome per recipient, in order, and the function that delivers (in the unit that records them)."""

    outcomes: Sequence[Outcome]
    accept: Posting


class LocalDelivery(Protocol):
    """Delivers submitted mail that waited (held, a future release) into mailboxes here."""

    async def prepare(
        self, letter: ClaimedLetter, recipients: Sequence[ClaimedRecipient], content: memoryview
    ) -> LocalPlan: ...


@dataclass(frozen=True, slots=True)
class _Job:
    letter: ClaimedLetter
    recipients: tuple[ClaimedRecipient, ...]


class Carrier:
    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        transport: MailTransport,
        clock: Clock,
        *,
        routing: Routing,
        settler: Settler,
        local: LocalDelivery,
        return_path: Callable[[ClaimedLetter], Awaitable[ReversePath]] | None = None,
        linger: float = LINGER,
        lease: float = LEASE,
    ) -> None:
        """`return_path`: under which reverse-path a letter leaves, where that is not its own."""
        self._database = database
        self._blobs = blobs
        self._transport = transport
        self._routing = routing
        self._settler = settler
        self._clock = clock
        self._local = local
        self._return_path = return_path
        self._bound = BoundLetters(routing, transport)
        self._linger = linger
        self.lease = lease
        self._bad_targets: dict[tuple[str, int], float] = {}  # (address, port) -> monotonic time of its rehabilitation
        self._log = logger("relay")

    async def run(self, lane: Lane) -> None:
        """Work for one destination until nothing is due there, it is down, or the lane is asked to leave."""
        connection: MailConnection | None = None
        jobs: deque[_Job] = deque()
        try:
            if lane.next_hop == LOCAL:
                await self._carry_local(lane)
                return
            if lane.is_telling:
                await self._tell(lane)
                return
            while not lane.is_leaving and not lane.hop.is_down:
                if connection is None or not connection.is_usable:
                    if connection is not None:
                        lane.is_connected = False
                        await connection.close()
                        if not jobs and not await self._is_due(lane):
                            return  # a session for nothing annoys hosts that count them
                    connection = await self._connect(lane)
                    if connection is None:
                        return
                    continue  # a drain that began meanwhile finishes what was being sent, and begins nothing
                if not jobs:
                    if lane.gives_way and lane.has_claimed:
                        return
                    jobs.extend(_jobs(await self._claim(lane)))
                    if jobs:
                        continue  # as above
                if jobs:
                    if not await self._send(lane, connection, jobs):
                        return
                elif not await self._wait(lane):
                    return
        finally:
            lane.is_connected = False
            await _undisturbed(self._leave(lane, connection))

    async def _leave(self, lane: Lane, connection: MailConnection | None) -> None:
        try:
            await self._give_back(lane)
        finally:
            if connection is not None:
                await connection.close()

    async def _give_back(self, lane: Lane) -> None:
        tries = 0
        while True:
            try:
                await self._database.write(lambda tx: self._clear(tx, lane))
            except StoreFault as fault:
                # What is claimed by a live incarnation is taken back by nobody: it would wait for the next start.
                self._log.error("not_given_back", next_hop=lane.next_hop, reason=str(fault))
                if self._settler.is_hurried or not lane.claimed:
                    return
                await asyncio.sleep(STORE_PAUSES[min(tries, len(STORE_PAUSES) - 1)])
                tries += 1
            else:
                lane.claimed.clear()
                return

    def _clear(self, tx: Transaction, lane: Lane) -> None:
        now = self._clock.wall()
        if lane.claimed:
            queue.give_back(tx, self._settler.owner, tuple(lane.claimed), now)
        destinations.prune(tx, lane.next_hop, now)

    async def _is_due(self, lane: Lane) -> bool:
        place = await self._database.read(lambda reader: destinations.find(reader, lane.next_hop))
        return place is not None and place.ready_at is not None and place.ready_at <= self._clock.wall()

    async def _claim(self, lane: Lane) -> list[ClaimedLetter]:
        now = self._clock.wall()
        letters = await self._database.write(
            lambda tx: queue.claim_due(
                tx,
                lane.next_hop,
                now=now,
                owner=self._settler.owner,
                leased_until=now + self.lease,
                max_letters=LETTERS_PER_CLAIM,
            )
        )
        lane.has_claimed = True
        self._note_claims(lane, letters)
        if len(letters) == LETTERS_PER_CLAIM:
            lane.on_change()  # more may wait than one connection carries
        return letters

    @staticmethod
    def _note_claims(lane: Lane, letters: Sequence[ClaimedLetter]) -> None:
        for letter in letters:
            lane.claimed.update(dict.fromkeys(recipient.id for recipient in letter.recipients))

    async def _wait(self, lane: Lane) -> bool:
        """Keep the connection for a moment; whether there is something to do."""
        lane.wake.clear()
        lane.is_idle = True
        try:
            async with asyncio.timeout(self._linger):
                await lane.wake.wait()
        except TimeoutError:
            return False
        finally:
            lane.is_idle = False
        return not (lane.is_leaving or lane.gives_way)

    # --- reaching the destination -----------------------------------------------------------------

    async def _connect(self, lane: Lane) -> MailConnection | None:
        """A session with the best host that answers; None when there is none, which is then recorded."""
        try:
            targets = await self._routing.targets(lane.next_hop)
        except RouteGone:
            await self._reroute(lane)
            return None
        except RoutingFault as fault:
            await self._unreachable(lane, fault.outcome)
            return None
        outcomes: list[Outcome] = []
        is_policy = False
        for target in self._in_order(targets):
            try:
                return await self._connect_to(lane, target)
            except ConnectFault as fault:
                is_policy = is_policy or fault.is_policy
                # A wrong password at our own smart host is no reason to return everybody's mail.
                outcomes.append(_softened(fault.outcome) if target.username else fault.outcome)
        if is_policy:
            await self._carry_unprotected(lane, targets)
        # Permanent only if every host said so.
        await self._unreachable(lane, next((each for each in outcomes if not each.is_failed), outcomes[0]))
        return None

    async def _connect_to(self, lane: Lane, target: Target) -> MailConnection:
        """Raises ConnectFault."""
        try:
            connection = await self._transport.connect(target)
        except ConnectFault:
            self._settler.counters.connections_failed += 1
            self._rest_target(target)
            raise
        except Exception as defect:  # see _transaction
            self._log.exception("connect_failed", host=target.host, address=target.address, reason=repr(defect))
            raise ConnectFault(Outcome(SYSTEM_FAULT, OUR_FAULT, target.host, target.address)) from defect
        self._settler.counters.connections += 1
        self._bad_targets.pop((target.address, target.port), None)
        lane.host, lane.address, lane.transactions = target.host, target.address, 0
        lane.is_connected = True
        return connection

    async def _carry_unprotected(self, lane: Lane, targets: Sequence[Target]) -> None:
        """No session came about that the destination's policy allows: letters that say TLS-Required: No go all the
        same (RFC 8689 §4.2.2), all others wait."""
        now = self._clock.wall()  # fixed: what becomes due meanwhile waits for the next probe, so this ends
        jobs = await self._claim_tls_optional(lane, now)
        while jobs and not lane.is_leaving:
            connection = await self._connect_unprotected(lane, targets)
            if connection is None:
                return
            has_begun = False
            try:
                while jobs and connection.is_usable and not lane.is_leaving:
                    has_begun = True
                    if not await self._send(lane, connection, jobs):
                        return
                    if not (jobs or lane.gives_way):
                        jobs = await self._claim_tls_optional(lane, now)
            finally:
                lane.is_connected = False
                await connection.close()
            if not has_begun:
                return  # a session for nothing

    async def _claim_tls_optional(self, lane: Lane, latest: float) -> deque[_Job]:
        """`latest`: what is due after that is left; a clock that was set back meanwhile makes nothing due again."""
        wall = self._clock.wall()
        now, leased_until = min(latest, wall), wall + self.lease
        letters = await self._database.write(
            lambda tx: queue.claim_tls_optional(
                tx,
                lane.next_hop,
                now=now,
                owner=self._settler.owner,
                leased_until=leased_until,
                limit=LETTERS_PER_CLAIM,
            )
        )
        self._note_claims(lane, letters)
        return deque(_jobs(letters))

    async def _connect_unprotected(self, lane: Lane, targets: Sequence[Target]) -> MailConnection | None:
        for target in targets:
            with contextlib.suppress(ConnectFault):
                return await self._connect_to(lane, replace(target, wish=TlsWish.OPTIONAL))
        return None

    def _in_order(self, targets: Sequence[Target]) -> list[Target]:
        """Those that did not answer lately come last: with one dead host of two, no letter waits for its time-out."""
        now = self._clock.monotonic()
        return sorted(targets, key=lambda target: self._bad_targets.get((target.address, target.port), 0.0) > now)

    def _rest_target(self, target: Target) -> None:
        now = self._clock.monotonic()
        if len(self._bad_targets) >= MAX_BAD_TARGETS:
            self._bad_targets = {key: until for key, until in self._bad_targets.items() if until > now}
            if len(self._bad_targets) >= MAX_BAD_TARGETS:
                self._bad_targets.clear()
        self._bad_targets[target.address, target.port] = now + BAD_TARGET_REST

    async def _unreachable(self, lane: Lane, outcome: Outcome) -> None:
        if outcome.is_failed:
            while not lane.is_leaving and (letters := await self._claim(lane)):
                await self._settle_all(lane, letters, outcome)
        else:
            await self._set_down(lane, outcome)

    async def _set_down(self, lane: Lane, outcome: Outcome) -> None:
        """Let the destination rest; then warn about, or give up, the letters whose time has come. Sessions that break
        together are one failure: the first of them speaks for all."""
        if lane.hop.is_down:
            return
        lane.hop.is_down = True
        now = self._clock.wall()
        hop, schedule = lane.next_hop, self._settler.schedules.of(lane.next_hop)
        attempt = Attempt(None, hop, now, outcome.host, outcome.address, outcome.tls, ((outcome, ()),))

        def unit(tx: Transaction) -> int:
            known = destinations.find(tx, hop)
            failures = known.failures + 1 if known else 1
            until = now + schedule.delay(failures)
            destinations.set_down(tx, hop, now=now, until=until, outcome=outcome, attempt=attempt)
            return failures

        failures = await self._database.write(unit)
        self._log.warning(
            "destination_down",
            next_hop=hop,
            failures=failures,
            retry_in=schedule.delay(failures),
            status=str(outcome.status),
            host=outcome.host,
            address=outcome.address,
            diagnostic=outcome.diagnostic,
        )
        await self._settle_overdue(lane, outcome, now)

    async def _tell(self, lane: Lane) -> None:
        """Between two probes of a destination that is down: nothing is tried, its last words are passed on."""
        hop = lane.next_hop
        lane.hop.is_down = True
        known = await self._database.read(lambda reader: destinations.find(reader, hop))
        # An operator may have asked for a probe meanwhile.
        if known is not None and known.outcome is not None and known.down_until > self._clock.wall():
            tried_at = known.down_until - self._settler.schedules.of(hop).delay(known.failures)
            await self._settle_overdue(lane, known.outcome, tried_at)

    async def _settle_overdue(self, lane: Lane, outcome: Outcome, tried_at: float) -> None:
        """Warn of, or give up, what has waited its time; `outcome` is what the last probe met, at `tried_at`."""
        while not lane.is_leaving and (letters := await self._claim_overdue(lane.next_hop)):
            self._note_claims(lane, letters)
            await self._settle_all(lane, letters, outcome, tried_at=tried_at)

    async def _claim_overdue(self, hop: str) -> list[ClaimedLetter]:
        # By the clock as it is now: after it was set back, the ruling would find nothing overdue, again and again.
        now = self._clock.wall()
        return await self._database.write(
            lambda tx: queue.claim_overdue(tx, hop, now=now, owner=self._settler.owner, leased_until=now + self.lease)
        )

    async def _settle_all(
        self, lane: Lane, letters: Sequence[ClaimedLetter], outcome: Outcome, *, tried_at: float | None = None
    ) -> None:
        for letter in letters:
            results = tuple((recipient, outcome) for recipient in letter.recipients)
            settlement = Settlement(letter, lane.next_hop, results, is_attempt=tried_at is None, tried_at=tried_at)
            await self._settle(lane, settlement)

    async def _reroute(self, lane: Lane) -> None:
        now = self._clock.wall()
        while await self._database.write(lambda tx: destinations.reroute(tx, lane.next_hop, now)):
            lane.on_change()

    # --- sending ----------------------------------------------------------------------------------

    async def _send(self, lane: Lane, connection: MailConnection, jobs: deque[_Job]) -> bool:
        """One mail transaction: the first job, or as much of it as the host takes at once. False: the host
        accepts sessions but no mail, and counts as down from now on."""
        job = jobs.popleft()
        limit = recipient_limit(connection)
        if len(job.recipients) > limit:
            jobs.appendleft(_Job(job.letter, job.recipients[limit:]))
            job = _Job(job.letter, job.recipients[:limit])
        try:
            content = await self._content(job.letter)
        except DamagedContent as damage:
            await self._settle(lane, self._held(job.letter, lane.next_hop, job.recipients, damage))
            return True
        except StoreFault as fault:
            self._log.error("content_not_readable", queue_id=job.letter.id, trace=job.letter.trace, reason=str(fault))
            content = None
        outcomes = await self._transaction(lane, connection, job, content)
        results = list(zip(job.recipients, outcomes, strict=True))
        is_progress = any(outcome.is_delivered for outcome in outcomes)
        if is_progress and connection.is_usable:
            # RFC 5321 §4.5.3.1.10: 452 "too many recipients" after some were taken asks for another transaction.
            later = tuple(recipient for recipient, outcome in results if outcome.status == TOO_MANY_RECIPIENTS)
            if later:
                jobs.appendleft(_Job(job.letter, later))
                results = [each for each in results if each[1].status != TOO_MANY_RECIPIENTS]
        blindly = "DSN" not in connection.extensions
        await self._settle(lane, Settlement(job.letter, lane.next_hop, tuple(results), relayed_blindly=blindly))
        return await self._is_worth_going_on(lane, connection, outcomes, is_progress=is_progress)

    async def _is_worth_going_on(
        self, lane: Lane, connection: MailConnection, outcomes: Sequence[Outcome], *, is_progress: bool
    ) -> bool:
        if connection.is_usable or is_progress:
            lane.hop.breaks = 0
            return True
        # One letter may upset a host, so the next one is tried; 421 speaks for all (RFC 5321 §4.2.1).
        lane.hop.breaks += 1
        closing = all(outcome.reply is not None and outcome.reply.code == 421 for outcome in outcomes)
        if not closing and lane.hop.breaks < BREAKS_ENDURED:
            return True
        await self._set_down(lane, next((each for each in outcomes if each.is_deferred), outcomes[0]))
        return False

    async def _content(self, letter: ClaimedLetter) -> memoryview:
        """Raises StoreFault, DamagedContent when no garbage may go out in its place."""
        try:
            return await self._blobs.open(letter.location)
        except DamagedContent:
            # It may only have been moved to another pack since it was claimed (compaction).
            location = await self._database.read(lambda reader: queue.location(reader, letter.id))
            if location is None or location == letter.location:
                raise
            return await self._blobs.open(location)

    def _held(
        self, letter: ClaimedLetter, next_hop: str, recipients: Sequence[ClaimedRecipient], damage: DamagedContent
    ) -> Settlement:
        self._log.error("letter_damaged", queue_id=letter.id, trace=letter.trace, reason=str(damage))
        outcome = Outcome(SYSTEM_FAULT, DAMAGED)
        return Settlement(letter, next_hop, tuple((each, outcome) for each in recipients), is_held=True)

    async def _transaction(
        self, lane: Lane, connection: MailConnection, job: _Job, content: memoryview | None
    ) -> list[Outcome]:
        letter = job.letter
        if content is None:
            return [Outcome(SYSTEM_FAULT, "the letter cannot be read from the store now")] * len(job.recipients)
        size = len(letter.prefix) + len(content)
        counters = self._settler.counters
        try:
            if self._return_path is not None:
                letter = replace(letter, reverse_path=await self._return_path(letter))
            found = obstacle(connection, letter, job.recipients, size)
            if found is not None:
                return [replace(found, host=lane.host, address=lane.address)] * len(job.recipients)
            if is_bound(letter) and not keeps_promise(connection):
                return await self._bound.send(lane.next_hop, letter, job.recipients, content)
            counters.transactions += 1
            counters.transactions_on_used_connections += lane.transactions > 0
            lane.transactions += 1
            paths = envelope(letter, job.recipients, size, keeps_promise=keeps_promise(connection))
            outcomes = await connection.send(paths, (letter.prefix, content))
            assert len(outcomes) == len(job.recipients), "a transport gives one outcome per forward-path"
        except Exception as defect:
            # Met again every minute, a defect of ours would keep this letter, and all behind it, for ever: it counts
            # as an attempt like any other, so the letter waits longer each time and is given up in the end.
            self._log.exception("transaction_failed", queue_id=letter.id, trace=letter.trace, reason=repr(defect))
            with contextlib.suppress(Exception):
                await connection.close()  # nobody knows where the host stands
            return [Outcome(SYSTEM_FAULT, OUR_FAULT, lane.host, lane.address)] * len(job.recipients)
        return outcomes

    async def _settle(self, lane: Lane, settlement: Settlement) -> None:
        # A cancelled worker still records what the remote host has accepted.
        await _undisturbed(self._settler.settle(settlement))
        for recipient, _ in settlement.results:
            lane.claimed.pop(recipient.id, None)

    # --- mail for here ----------------------------------------------------------------------------

    async def _carry_local(self, lane: Lane) -> None:
        lane.is_connected = True
        while not lane.is_leaving and (letters := await self._claim(lane)):
            await self._deliver_here(lane, letters)

    async def _deliver_here(self, lane: Lane, letters: Sequence[ClaimedLetter]) -> None:
        for letter in letters:
            if lane.is_leaving:
                return
            await self._settle(lane, await self._local_settlement(letter))

    async def _local_settlement(self, letter: ClaimedLetter) -> Settlement:
        try:
            content = await self._content(letter)
            plan = await self._local.prepare(letter, letter.recipients, content)
        except DamagedContent as damage:
            return self._held(letter, LOCAL, letter.recipients, damage)
        except Exception as fault:
            self._log.exception("local_delivery_failed", queue_id=letter.id, trace=letter.trace, reason=repr(fault))
            outcome = Outcome(SYSTEM_FAULT, OUR_FAULT)
            return Settlement(letter, LOCAL, tuple((recipient, outcome) for recipient in letter.recipients))
        results = tuple(zip(letter.recipients, plan.outcomes, strict=True))
        return Settlement(letter, LOCAL, results, accept=plan.accept)


def _jobs(letters: Sequence[ClaimedLetter]) -> list[_Job]:
    return [_Job(letter, letter.recipients) for letter in letters]


def _softened(outcome: Outcome) -> Outcome:
    """The same words, as a reason to wait."""
    if not outcome.is_failed:
        return outcome
    return replace(outcome, status=Status(4, outcome.status.subject, outcome.status.detail))


async def _undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Finish this even when the worker is cancelled meanwhile; the cancellation is passed on afterwards."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
