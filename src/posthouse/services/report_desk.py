# SPDX-License-Identifier: Apache-2.0
"""What an administrator asks about reports: which came, which went, what became of them, what would go out.

Invariant: it only looks, but for `send`, which does what the daily run does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from posthouse.ports import Clock, Database, Reader
from posthouse.services.report_draft import Draft
from posthouse.services.report_inbox import ReportInbox
from posthouse.services.reporting import Reporting, Run
from posthouse.store import history, reports_received, reports_sent
from posthouse.store.reports_received import ReceivedReport, Source, Summary
from posthouse.store.reports_sent import SentReport

PAGE = 100  # reports of one answer
SOURCES = 500  # of a domain's summary


@dataclass(frozen=True, slots=True)
class SentView:
    """`outcome`: what became of the letter: delivered, failed, expired, waiting; else the row's own result."""

    report: SentReport
    outcome: str
    text: str


@dataclass(frozen=True, slots=True)
class ReportView:
    report: ReceivedReport
    sources: list[Source]


@dataclass(frozen=True, slots=True)
class KindView:
    kind: str
    reports: int
    passed: int
    failed: int
    sources: list[Summary]


@dataclass(frozen=True, slots=True)
class DomainView:
    """Reports of others about one domain, by source. `since` in epoch seconds."""

    domain: str
    since: float
    kinds: list[KindView]


@dataclass(frozen=True, slots=True)
class Unread:
    """A letter that looks like a report and is not kept as one."""

    letter: int
    at: float
    reason: str


class ReportDesk:
    def __init__(self, database: Database, clock: Clock, reporting: Reporting, inbox: ReportInbox) -> None:
        self._database = database
        self._clock = clock
        self._reporting = reporting
        self._inbox = inbox

    async def received(self, domain: str = "", before: int | None = None) -> list[ReceivedReport]:
        """A page, the newest first; the next one has ids `before` the last one's."""
        return await self._database.read(
            partial(reports_received.listed, domain=domain.lower(), before=before, page=PAGE)
        )

    async def sent(self, domain: str = "", before: int | None = None) -> list[SentView]:
        """As `received`."""

        def query(reader: Reader) -> list[SentView]:
            rows = reports_sent.listed(reader, domain=domain.lower(), before=before, page=PAGE)
            return [_with_outcome(reader, row) for row in rows]

        return await self._database.read(query)

    async def unread(self) -> list[Unread]:
        rows = await self._database.read(partial(reports_received.list_unread, page=PAGE))
        return [Unread(*row) for row in rows]

    async def report(self, ident: int) -> ReportView | None:
        def query(reader: Reader) -> ReportView | None:
            found = reports_received.report(reader, ident)
            return None if found is None else ReportView(found, reports_received.sources_of(reader, ident))

        return await self._database.read(query)

    async def domain(self, name: str, seconds: float) -> DomainView:
        """What the reports of the last so many seconds say."""
        domain, since = name.lower(), self._clock.wall() - seconds

        def query(reader: Reader) -> DomainView:
            kinds = [
                KindView(*total, reports_received.summary(reader, domain, total[0], int(since), SOURCES))
                for total in reports_received.totals(reader, domain, int(since))
            ]
            return DomainView(domain, since, kinds)

        return await self._database.read(query)

    async def preview(self) -> list[Draft]:
        return await self._reporting.preview()

    async def send(self) -> Run:
        """What is due, now."""
        await self._inbox.read_all()
        return await self._reporting.send()


def _with_outcome(reader: Reader, row: SentReport) -> SentView:
    if row.letter is None:
        return SentView(row, row.result, row.reason)
    found = history.letter(reader, row.letter)
    if found is None or not found.results:
        return SentView(row, "waiting", "in the queue")
    last = found.results[-1]
    return SentView(row, last.state, last.outcome.diagnostic)
