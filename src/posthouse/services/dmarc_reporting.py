# SPDX-License-Identifier: Apache-2.0
"""DMARC reports of a day as drafts: from what was counted to the document and its readers (RFC 9990).

Invariant: a report is about one policy domain and one day, and names only what was counted then.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from posthouse import __version__
from posthouse.mailauth import aggregate_writer
from posthouse.mailauth.aggregate import AggregateReport, PublishedPolicy, Record
from posthouse.mailauth.report_destinations import destinations_of
from posthouse.ports import Database, Resolver, Transaction, Workers
from posthouse.services.dmarc_tally import unpack_facts
from posthouse.services.report_draft import DAY, MAX_DOCUMENT, Draft, Sender, compressed, report_id
from posthouse.store import dmarc_counts, reports_sent
from posthouse.store.dmarc_counts import Counted, DayOfDomain

PAGE = 100
GENERATOR = f"posthouse {__version__}"


class DmarcReporting:
    """A Reporter."""

    kind = "dmarc"

    def __init__(
        self, database: Database, resolver: Resolver, workers: Workers, *, exclude: Collection[str] = ()
    ) -> None:
        """`exclude`: domains that get no reports."""
        self._database = database
        self._resolver = resolver
        self._workers = workers
        self._exclude = frozenset(exclude)

    async def days(self, before: int, after: tuple[int, str]) -> list[tuple[int, str]]:
        return await self._database.read(partial(dmarc_counts.days, before=before, after=after, page=PAGE))

    def forget(self, tx: Transaction, day: int, domain: str) -> None:
        dmarc_counts.forget(tx, day, domain)

    async def draft(self, day: int, domain: str, sender: Sender) -> Draft:
        """Raises ResolverFault."""
        nothing = Draft("dmarc", domain, day, partial(self.forget, day=day, domain=domain))
        entry = await self._database.read(partial(dmarc_counts.one_day, day=day, domain=domain))
        if entry is None or not entry.telling:
            return replace(nothing, skipped="nothing but reports came", is_asked_for=False)
        if domain in self._exclude:
            return replace(nothing, skipped="a setting excludes the domain", letters=entry.count)
        found = await destinations_of(self._resolver, domain, entry.policy[1])
        if not found.addresses:
            return replace(
                nothing, skipped="nobody may get it", refused=found.refused, letters=entry.count + entry.omitted
            )
        counted = await self._database.read(partial(dmarc_counts.counted, day=day, domain=domain))
        earlier = await self._database.read(partial(reports_sent.reports_about, kind="dmarc", domain=domain, day=day))
        ident = report_id(_date(day), domain, earlier, sender.domain)
        text, document, records = await self._workers.run(
            partial(_written, entry, counted, ident, sender), pool="search"
        )
        return replace(
            nothing,
            report_id=ident,
            text=text,
            document=document,
            addresses=found.addresses,
            refused=found.refused,
            records=records,
            letters=entry.count,
        )


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d")


def _written(entry: DayOfDomain, counted: Sequence[Counted], ident: str, sender: Sender) -> tuple[bytes, bytes, int]:
    """The document, the same compressed, and how many records are in it. What would make it too large is left out, the
    rarest first, and the report says so."""
    records = [Record(each.count, unpack_facts(each.facts)) for each in counted]
    omitted = entry.omitted
    while True:
        text = aggregate_writer.render(_report(entry, records, ident, sender, omitted))
        document = compressed(text)
        if len(document) <= MAX_DOCUMENT or len(records) == 1:
            return text, document, len(records)
        half = len(records) // 2
        omitted += sum(each.count for each in records[half:])
        records = records[:half]


def _report(entry: DayOfDomain, records: Sequence[Record], ident: str, sender: Sender, omitted: int) -> AggregateReport:
    tags, _, problems = entry.policy
    errors = (*problems, *[f"{omitted} letters are left out: the report would be too large"] * bool(omitted))
    return AggregateReport(
        organization=sender.organization,
        email=str(sender.address),
        report_id=ident,
        begin=entry.day * DAY,
        end=entry.day * DAY + DAY - 1,
        policy=_policy(tags),
        records=tuple(records),
        errors=errors,
        generator=GENERATOR,
    )


def _policy(tags: Sequence[str]) -> PublishedPolicy:
    domain, policy, subdomain_policy, missing_policy, dkim_mode, spf_mode, failure_options, testing = tags
    return PublishedPolicy(
        domain,
        policy,
        subdomain_policy,
        missing_policy,
        dkim_mode,
        spf_mode,
        failure_options,
        testing,
        discovery="treewalk",
    )
