# SPDX-License-Identifier: Apache-2.0
"""Posts reports: signed letters through the queue, or to a web server.

Invariant: reports leave with the null reverse-path, so no bounce ever answers one (RFC 3834, RFC 5321 §4.5.5); that a
report was posted is recorded, and what was counted for it forgotten, in the unit that puts the letter in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.mail.address import Address, Domain, parse_address
from posthouse.mail.envelope import ForwardPath, Notify, ReversePath
from posthouse.mail.report_letter import ReportLetter, dmarc_letter, tls_letter
from posthouse.ports import Clock, Database, Entropy, Transaction, WebClient, WebFault
from posthouse.services.administration import Administration
from posthouse.services.delivery import Delivery, Origin, Plan, RecipientsGone, finished
from posthouse.services.directory import Directory
from posthouse.services.keys import DomainKeys
from posthouse.services.report_draft import Draft, Sender
from posthouse.services.signing import Signing
from posthouse.services.transaction import Recipient
from posthouse.store import reports_sent
from posthouse.store.reports_sent import SentReport
from posthouse.telemetry import logger

WEB_SECONDS = 60.0  # for one POST
WEB_ANSWER = 64 << 10  # octets of an answer that nobody reads (RFC 8460 §5.4)
MAX_REASON = 300  # characters kept of why a report was not taken


class NotTakenError(Exception):
    """Nobody took the report, and it is worth another try."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """To one target. `plan` None: no letter."""

    target: str
    domain: str
    result: str
    reason: str = ""
    plan: Plan | None = None


class ReportPost:
    def __init__(
        self,
        database: Database,
        directory: Directory,
        administration: Administration,
        keys: DomainKeys,
        signing: Signing,
        delivery: Delivery,
        web: WebClient,
        clock: Clock,
        entropy: Entropy,
        *,
        hostname: str,
        address: str = "",
        organization: str = "",
    ) -> None:
        """`address`: From whom; "" = postmaster at a domain here that can sign."""
        self._database = database
        self._directory = directory
        self._administration = administration
        self._keys = keys
        self._signing = signing
        self._delivery = delivery
        self._web = web
        self._clock = clock
        self._entropy = entropy
        self._hostname = hostname
        self._address = address
        self._organization = organization
        self._log = logger("reports")

    async def sender(self) -> Sender:
        """RFC 9990 §3.5.2 wants an aligned pass, RFC 8460 §3 a signature: a domain that has keys."""
        if self._address:
            address = parse_address(self._address)
            signed = bool(await self._keys.active(address.domain.name))
        else:
            name = await self._signing_domain()
            address, signed = Address("postmaster", Domain(name or self._hostname)), bool(name)
        return Sender(address, self._organization or address.domain.name, signed)

    async def _signing_domain(self) -> str:
        """The hostname, the nearest domain above it, else any domain; "" where none has keys."""
        labels = self._hostname.split(".")
        above = [".".join(labels[at:]) for at in range(len(labels) - 1)]
        others = sorted(each.name for each in await self._administration.list_domains())
        for name in [*above, *others]:
            if await self._keys.active(name):
                return name
        return ""

    async def post(self, draft: Draft, sender: Sender, *, is_last: bool) -> list[SentReport]:
        """Send it to everybody who may get it. Raises StoreFault, and NotTakenError unless this is the `is_last` try;
        then all stays as it was."""
        outcomes = [await self._letter(draft, sender, to) for to in draft.addresses]
        outcomes += [await self._to_web(draft, url) for url in draft.urls]
        if draft.urls and not is_last and all(each.result == "failed" for each in outcomes):
            raise NotTakenError(outcomes[-1].reason)
        if not outcomes:
            why = "; ".join(f"{uri}: {reason}" for uri, reason in draft.refused)
            outcomes.append(_Outcome("", "", "nobody", f"{draft.skipped}: {why}" if why else draft.skipped))
        now = self._clock.wall()
        try:
            await self._settle(draft, outcomes, now)
        except RecipientsGone as gone:
            raise NotTakenError(str(gone)) from None
        return [_row(draft, each, now) for each in outcomes]

    async def drop(self, draft: Draft) -> None:
        """Nobody asked for it. Raises StoreFault."""
        await self._database.write(draft.forget)

    async def _settle(self, draft: Draft, outcomes: Sequence[_Outcome], now: float) -> None:
        def unit(tx: Transaction) -> None:
            draft.forget(tx)
            for each in outcomes:
                letter = None
                if each.plan is not None:
                    accepted = each.plan.run(tx)
                    letter = accepted.blob if accepted.queue_id is None else accepted.queue_id
                reports_sent.record(tx, _row(draft, each, now, letter))

        await self._database.write(unit)
        for each in outcomes:
            if each.plan is not None:
                self._delivery.announce(each.plan)
            self._log.info(
                "report",
                kind=draft.kind,
                domain=draft.domain,
                day=draft.day,
                report_id=draft.report_id,
                target=each.target,
                result=each.result,
                reason=each.reason,
                letters=draft.letters,
            )

    async def _letter(self, draft: Draft, sender: Sender, to: Address) -> _Outcome:
        resolution = await self._directory.resolve(to)
        if resolution.status is not None or not (resolution.accounts or resolution.remote):
            return _Outcome(str(to), to.domain.name, "failed", "no such address here")
        now = self._clock.wall()
        letter = ReportLetter(
            sender=sender.address,
            organization=sender.organization,
            to=to,
            domain=draft.domain,
            report_id=draft.report_id,
            begin=draft.begin,
            end=draft.end,
            document=draft.document,
            date=now,
            boundary=f"=_{self._entropy.octets(12).hex()}",
        )
        message_id = f"{self._entropy.octets(12).hex()}@{sender.domain}"
        octets = (dmarc_letter if draft.kind == "dmarc" else tls_letter)(letter, message_id)
        done = finished(octets)
        body_hash = self._signing.body_hash()
        body_hash.update(octets[done.scan.header_size :])
        signature = await self._signing.sign(sender.address.domain, done.scan.block, body_hash, now)
        recipient = Recipient(ForwardPath(to, notify=Notify.NEVER), resolution)
        origin = Origin(self._entropy.octets(8).hex(), now, signature, source="report")
        plan = self._delivery.plan(done, ReversePath(None), [recipient], origin)
        return _Outcome(str(to), to.domain.name, "posted", plan=plan)

    async def _to_web(self, draft: Draft, url: str) -> _Outcome:
        headers = {"content-type": "application/tlsrpt+gzip"}  # RFC 8460 §5.4
        domain = url.partition("://")[2].partition("/")[0]
        try:
            reply = await self._web.post(url, draft.document, headers=headers, limit=WEB_ANSWER, seconds=WEB_SECONDS)
        except WebFault as fault:
            return _Outcome(url, domain, "failed", str(fault)[:MAX_REASON])
        if 200 <= reply.status < 300:
            return _Outcome(url, domain, "taken", f"HTTP {reply.status}")
        return _Outcome(url, domain, "failed", f"HTTP {reply.status}")


def _row(draft: Draft, outcome: _Outcome, now: float, letter: int | None = None) -> SentReport:
    return SentReport(
        id=0,
        kind=draft.kind,
        domain=draft.domain,
        day=draft.day,
        report_id=draft.report_id,
        at=now,
        target=outcome.target,
        target_domain=outcome.domain,
        letter=letter,
        result=outcome.result,
        reason=outcome.reason,
        records=draft.records,
        letters=draft.letters,
    )
