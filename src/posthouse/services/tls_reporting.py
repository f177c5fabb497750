# SPDX-License-Identifier: Apache-2.0
"""TLS reports of a day as drafts: from what deliveries have met to the document and its readers (RFC 8460).

Invariant: sessions that only carried such reports are no reason for another one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from posthouse.mail.address import Address
from posthouse.mailauth import tls_report
from posthouse.mailauth.report_uri import Target
from posthouse.mailauth.tls_report import Failure, PolicyResult, TlsReport
from posthouse.mailauth.tlsrpt import record_name, targets_of
from posthouse.ports import Database, NameNotFound, Resolver, Transaction, Workers
from posthouse.services.report_draft import DAY, Draft, Sender, compressed, report_id
from posthouse.store import reports_sent, tls_days
from posthouse.store.tls_days import TlsCount

PAGE = 100


class TlsReporting:
    """A Reporter."""

    kind = "tls"

    def __init__(
        self, database: Database, resolver: Resolver, workers: Workers, *, exclude: Collection[str] = ()
    ) -> None:
        """`exclude`: domains that get no reports."""
        self._database = database
        self._resolver = resolver
        self._workers = workers
        self._exclude = frozenset(exclude)

    async def days(self, before: int, after: tuple[int, str]) -> list[tuple[int, str]]:
        return await self._database.read(partial(tls_days.days, before=before, after=after, page=PAGE))

    def forget(self, tx: Transaction, day: int, domain: str) -> None:
        tls_days.forget(tx, day, domain)

    async def draft(self, day: int, domain: str, sender: Sender) -> Draft:
        """Raises ResolverFault."""
        nothing = Draft("tls", domain, day, partial(self.forget, day=day, domain=domain), is_asked_for=False)
        targets = await self._targets(domain)
        if not targets:
            return replace(nothing, skipped="the domain does not ask for reports")
        counts = await self._database.read(partial(tls_days.counts, day=day, domain=domain))
        sessions = sum(each.count for each in counts)
        if sessions <= await self._report_sessions(day, domain, counts):
            return replace(nothing, skipped="nothing but reports was sent there")
        asked = replace(nothing, is_asked_for=True, letters=sessions)
        if domain in self._exclude:
            return replace(asked, skipped="a setting excludes the domain")
        urls = tuple(each for each in targets if isinstance(each, str))
        addresses = tuple(
            each for each in targets if isinstance(each, Address) and not each.domain.is_literal
        )  # a number may be a machine of our own network
        refused: tuple[tuple[str, str], ...] = ()
        if not sender.is_signed:  # RFC 8460 §3: by mail it must be signed
            refused = tuple((str(each), f"{sender.domain} has no DKIM key to sign it with") for each in addresses)
            addresses = ()
        if not addresses and not urls:
            return replace(asked, skipped="nobody may get it", refused=refused)
        earlier = await self._database.read(partial(reports_sent.reports_about, kind="tls", domain=domain, day=day))
        date = datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")
        ident = report_id(date, domain, earlier, sender.domain)
        policies = policies_of(domain, counts)
        report = TlsReport(sender.organization, str(sender.address), ident, day * DAY, day * DAY + DAY - 1, policies)
        text, document = await self._workers.run(partial(_written, report), pool="search")
        return replace(
            asked,
            report_id=ident,
            text=text,
            document=document,
            addresses=addresses,
            urls=urls,
            refused=refused,
            records=len(policies),
        )

    async def _targets(self, domain: str) -> tuple[Target, ...]:
        try:
            return targets_of(await self._resolver.txt(record_name(domain)))
        except NameNotFound:
            return ()

    async def _report_sessions(self, day: int, domain: str, counts: Sequence[TlsCount]) -> int:
        """How many sessions reports of ours may have made there (RFC 8460 §3: they SHOULD NOT be told): a letter that
        is put off comes again, and one try may fail at each host of the domain."""
        query = partial(reports_sent.tries_of, kind="tls", target_domain=domain, begin=day * DAY, end=day * DAY + DAY)
        tries = await self._database.read(query)
        return tries * max(1, len({each.receiving_mx for each in counts if each.result}))


def _written(report: TlsReport) -> tuple[bytes, bytes]:
    """The document, and the same compressed: 10,000 failures take a quarter of a second."""
    text = tls_report.render(report)
    return text, compressed(text)


def policies_of(domain: str, counts: Sequence[TlsCount]) -> tuple[PolicyResult, ...]:
    """One for each policy that was met (RFC 8460 §4)."""
    found: dict[tuple[str, str, str], list[TlsCount]] = {}
    for each in counts:
        found.setdefault((each.policy_type, each.policy_text, each.mx_patterns), []).append(each)
    return tuple(
        PolicyResult(
            kind=kind,
            domain=domain,
            text=tuple(text.splitlines()),
            mx_patterns=tuple(patterns.splitlines()),
            succeeded=sum(each.count for each in members if not each.result),
            failed=sum(each.count for each in members if each.result),
            failures=tuple(_failure(each) for each in members if each.result),
        )
        for (kind, text, patterns), members in found.items()
    )


def _failure(count: TlsCount) -> Failure:
    return Failure(
        count.result,
        count.count,
        sending_ip=count.sending_ip,
        receiving_mx=count.receiving_mx,
        receiving_helo=count.receiving_helo,
        receiving_ip=count.receiving_ip,
        reason=count.reason,
    )
