# SPDX-License-Identifier: Apache-2.0
"""Put an accepted letter where it belongs: local mailboxes now, the queue for the rest, in one unit of work.

Invariant: a `Plan` that was run has the letter in a mailbox or in the queue for every recipient, durably with its
unit; one that was not run has left no trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from posthouse import outcome
from posthouse.mail.address import Address
from posthouse.mail.envelope import BodyType, ForwardPath, Notify, ReversePath, TlsWish
from posthouse.mail.header import scan_header
from posthouse.mail.tls_required import wish_of
from posthouse.mail.trace import delivered_to, return_path
from posthouse.outcome import Outcome, Refusal
from posthouse.ports import Change, ChangeBus, Clock, Content, Transaction
from posthouse.services.directory import Account, Directory, Resolution
from posthouse.services.forwarding import Forwarding
from posthouse.services.incoming import FinishedLetter
from posthouse.services.report_addresses import TOPIC as REPORTS
from posthouse.services.report_addresses import ReportAddresses, may_be_report
from posthouse.services.routing import Routing
from posthouse.services.schedule import Schedules
from posthouse.services.transaction import Recipient
from posthouse.store import history, reports_received, verdicts
from posthouse.store.history import LetterRecord, RecipientResult
from posthouse.store.letters import Accepted, LetterIn, Place, accept
from posthouse.store.queue import QueuedLetter, QueuedRecipient
from posthouse.store.queue_rows import LOCAL, State
from posthouse.store.verdicts import Verdict
from posthouse.telemetry import logger

DELIVERED_HERE = Outcome(outcome.DELIVERED, "delivered to the mailbox")


class RecipientsGone(Exception):  # noqa: N818 - an answer of the store, as Refusal
    """Accounts that a plan delivers to were removed since it was made; its unit was rolled back."""

    def __init__(self, accounts: tuple[int, ...]) -> None:
        super().__init__(f"{len(accounts)} accounts are gone")
        self.accounts = accounts


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a letter comes from. `trace_fields` (Received, signatures) go before the content, here and on the wire.

    `source` is for people who look for the letter: the peer's address and name, or the account. `verdict`: what was
    found about a letter from another server, None where nothing was checked.
    """

    trace: str
    received_at: float
    trace_fields: bytes
    source: str
    account: Account | None = None  # the submitter
    not_before: float | None = None
    is_held: bool = False
    verdict: Verdict | None = None
    is_junk: bool = False  # mailboxes here have it among their junk
    seal: bytes = b""  # what this host has found, signed (ARC), above all else for those to whom it is passed on

    @property
    def waits(self) -> bool:
        return self.is_held or (self.not_before is not None and self.not_before > self.received_at)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one unit will write; `run` is the transaction function."""

    letter: LetterIn
    places: tuple[Place, ...]
    queued: QueuedLetter | None
    source: str
    delivered: tuple[str, ...]  # recipients that are finished with this unit
    verdict: Verdict | None = None
    is_report: bool = False  # it came to an address for reports, and is to be read as one

    def run(self, tx: Transaction) -> Accepted:
        """Raises RecipientsGone: nobody is left out in silence."""
        try:
            accepted = accept(tx, self.letter, self.places, self.queued)
        except Refusal:
            if not self.places:
                raise
            raise RecipientsGone(tuple(place.account for place in self.places)) from None
        if accepted.missing:
            raise RecipientsGone(tuple(place.account for place in accepted.missing))
        ident = accepted.blob if accepted.queue_id is None else accepted.queue_id
        at = self.letter.received_at
        if self.verdict is not None:
            verdicts.record(tx, ident, at, self.verdict)
        if self.is_report:
            reports_received.wait(tx, ident, accepted.blob, at)
        if self.delivered:
            results = tuple(
                RecipientResult(address, LOCAL, State.DELIVERED.value, DELIVERED_HERE, 1, at)
                for address in self.delivered
            )
            record = LetterRecord(
                id=ident,
                trace=self.letter.trace,
                message_id=self.letter.message_id.decode("utf-8", "replace"),
                reverse_path=self.letter.reverse_path,
                account=self.queued.account if self.queued else None,
                size=self.letter.content.size,
                received_at=at,
                finished_at=at,
                source=self.source,
                results=results,
            )
            history.record_letter(tx, record, is_new=True)
        return accepted


class Delivery:
    def __init__(
        self, routing: Routing, schedules: Schedules, bus: ChangeBus, reports: ReportAddresses | None = None
    ) -> None:
        """`reports`: addresses whose letters may be reports of other servers."""
        self._routing = routing
        self._schedules = schedules
        self._bus = bus
        self._reports = reports or ReportAddresses()

    def set_schedules(self, schedules: Schedules) -> None:
        """The configuration was reloaded."""
        self._schedules = schedules

    def announce(self, plan: Plan) -> None:
        """Tell sessions and the relay, after the commit."""
        for place in plan.places:
            self._bus.publish(Change("account", place.account))
        if plan.queued is not None:
            self._bus.publish(Change("queue"))
        if plan.is_report:
            self._bus.publish(Change(REPORTS))

    def plan(
        self, letter: FinishedLetter, reverse_path: ReversePath, recipients: Sequence[Recipient], origin: Origin
    ) -> Plan:
        """Decide the places and queue rows; no I/O."""
        places: dict[int, Place] = {}
        queued: dict[Address, QueuedRecipient] = {}
        delivered: dict[str, None] = {}
        is_report = False
        forwarders: dict[Address | None, None] = {}  # by whom the queue's recipients come; None: by nobody else
        top = return_path(reverse_path.address)
        for recipient in recipients:
            path, resolution = recipient.path, recipient.resolution
            if origin.waits and resolution.domain_is_local:
                queued.setdefault(path.address, self._queue_recipient(path, LOCAL, origin))
                forwarders[None] = None
                continue
            if resolution.accounts:
                delivered[str(path)] = None
                is_report = is_report or self._reports.has(path.address)
                prefix = top + delivered_to(path.address) + origin.trace_fields
                for account in resolution.accounts:
                    # One copy per person, also when a letter reaches them by two addresses.
                    places.setdefault(account.id, Place(account.id, account.inbox, prefix, is_junk=origin.is_junk))
            for address in resolution.remote:
                forwarders[None if address == path.address else path.address] = None
                onward = forwarded_path(path, address, resolution)
                next_hop = self._routing.next_hop(address.domain)
                queued.setdefault(address, self._queue_recipient(onward, next_hop, origin))
        # Should another host send it back, it is known by this mark. With others in the letter the forwarding address
        # is not named, as they would learn of it (RFC 5321 §7.2); then the number of Received fields tells in the end.
        forwarder = next(iter(forwarders)) if len(forwarders) == 1 else None
        mark = b"" if forwarder is None else delivered_to(forwarder)
        return Plan(
            letter=letter_in(letter, reverse_path, origin),
            places=tuple(places.values()),
            queued=_queued_letter(letter, reverse_path, tuple(queued.values()), origin, mark) if queued else None,
            source=origin.source,
            delivered=tuple(delivered),
            verdict=origin.verdict,
            is_report=is_report and may_be_report(letter.scan),
        )

    def _queue_recipient(self, path: ForwardPath, next_hop: str, origin: Origin) -> QueuedRecipient:
        return self._schedules.recipient(
            path, next_hop, now=origin.received_at, not_before=origin.not_before, is_held=origin.is_held
        )


class ReportPoster:
    """Delivers reports of ours (DSNs) with the null reverse-path: into a mailbox here, or through the queue."""

    def __init__(
        self, directory: Directory, delivery: Delivery, clock: Clock, forwarding: Forwarding | None = None
    ) -> None:
        """`forwarding` knows rewritten senders: a letter that was passed on may have come back under one of ours."""
        self._directory = directory
        self._delivery = delivery
        self._clock = clock
        self._forwarding = forwarding
        self._log = logger("bounce")

    async def prepare(self, octets: bytes, to: Address, trace: str, *, wish: TlsWish = TlsWish.USUAL) -> Posting:
        """What to run in the unit of work that makes the report true.

        A report whose reader is not here any more goes to the postmaster: the letter it tells of must not vanish.
        """
        resolution = await self._resolve(to)
        if resolution.status is not None:
            self._log.warning(
                "report for the postmaster", trace=trace, recipient=str(to), status=str(resolution.status)
            )
            resolution = await self._directory.postmaster()
        if not resolution.accounts and not resolution.remote:
            self._log.error("report without a reader", trace=trace, recipient=str(to))
            return Posting(None, self._delivery)
        recipient = Recipient(ForwardPath(to, notify=Notify.NEVER), resolution)
        origin = Origin(trace, self._clock.wall(), b"", source="report")
        path = ReversePath(None, wish=wish)
        return Posting(self._delivery.plan(finished(octets), path, [recipient], origin), self._delivery)

    async def _resolve(self, to: Address) -> Resolution:
        try:
            back = None if self._forwarding is None else await self._forwarding.resolve(to)
        except Refusal as refusal:
            return Resolution(to, domain_is_local=True, status=refusal.status)
        return await self._directory.resolve(to) if back is None else back


@dataclass(frozen=True, slots=True)
class Posting:
    """Run it inside a unit of work; call `announce` after the commit."""

    plan: Plan | None
    delivery: Delivery

    def __call__(self, tx: Transaction) -> None:
        if self.plan is not None:
            self.plan.run(tx)

    def announce(self) -> None:
        if self.plan is not None:
            self.delivery.announce(self.plan)


def forwarded_path(path: ForwardPath, address: Address, resolution: Resolution) -> ForwardPath:
    """The forward-path for the next hop: as said, or an alias's target with the DSN wishes that RFC 3461 allows."""
    if address == path.address:
        return path
    original = path.original_recipient or f"rfc822;{path.address}"
    notify = path.notify
    if notify is not None and Notify.SUCCESS in notify and is_list(resolution):
        # RFC 3461 §5.2.7.3: the sender is told "expanded" once and hears of single targets only if they fail.
        notify = (notify & ~Notify.SUCCESS) or Notify.NEVER
    return ForwardPath(address, notify, original)


def is_list(resolution: Resolution) -> bool:
    return len(resolution.accounts) + len(resolution.remote) > 1


def finished(octets: bytes) -> FinishedLetter:
    """A letter that was composed here, ready for the store."""
    return FinishedLetter(
        Content(len(octets), hashlib.sha256(octets).digest(), octets=octets),
        scan_header(octets),
        has_dot_lines=octets.startswith(b".") or b"\r\n." in octets,
        is_ascii=octets.isascii(),
    )


def _queued_letter(
    letter: FinishedLetter,
    reverse_path: ReversePath,
    recipients: tuple[QueuedRecipient, ...],
    origin: Origin,
    mark: bytes,
) -> QueuedLetter:
    return QueuedLetter(
        reverse_path=replace(reverse_path, wish=wish_of(reverse_path, letter.scan)),
        prefix=origin.seal + mark + origin.trace_fields,
        account=origin.account.id if origin.account else None,
        language=origin.account.language if origin.account else "en",
        message_id=letter.scan.message_id.decode("utf-8", "replace"),
        size=letter.size,
        needs_eight_bit=not letter.is_ascii or reverse_path.body is BodyType.EIGHT_BIT,
        needs_smtputf8=not letter.scan.block.isascii(),
        received_at=origin.received_at,
        trace=origin.trace,
        recipients=recipients,
    )


def letter_in(letter: FinishedLetter, reverse_path: ReversePath, origin: Origin) -> LetterIn:
    scan = letter.scan
    return LetterIn(
        content=letter.content,
        received_at=origin.received_at,
        trace=origin.trace,
        reverse_path=str(reverse_path),
        envelope_summary=scan.pack_envelope(),
        header_size=0 if letter.lacks_header else scan.header_size,
        has_dot_lines=letter.has_dot_lines,
        message_id=scan.message_id,
        in_reply_to=scan.in_reply_to,
        references=tuple(scan.references),
        subject=scan.get(b"subject") or b"",
    )
