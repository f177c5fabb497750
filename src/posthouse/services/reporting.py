# SPDX-License-Identifier: Apache-2.0
"""When reports go out: once a day for the whole UTC day before, at a time that differs from server to server.

Invariant: a day of a domain is told once; what cannot be told for a fault of DNS or of a web server is tried again for
RETRY_FOR, then given up, and that is recorded too. No report, whatever becomes of it, stands in the way of the others.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from posthouse.ports import Clock, Conflict, Database, ResolverFault, StoreFault, Transaction
from posthouse.services.dmarc_tally import DmarcTally
from posthouse.services.report_draft import DAY, Draft, Reporter, Sender
from posthouse.services.report_post import NotTakenError, ReportPost
from posthouse.store import reports_received, reports_sent
from posthouse.store.reports_sent import SentReport
from posthouse.telemetry import logger

# RFC 8460 §4.1: "a random delay of up to four hours". Ten minutes at least: counts of the last minute of a day are
# written by then, also where the disk was busy.
FIRST_DELAY, LAST_DELAY = 600, 14_400
RETRY_FOR = 86_400.0  # RFC 8460 §5.5: up to 24 hours after the first try
FIRST_RETRY, LAST_RETRY = 900.0, 14_400.0  # seconds; doubled from one to the next
AFTER_START = 60.0  # a server that was off when it was time does it soon, but not while it starts
SPACING = 1.0  # seconds between two reports: thousands would fill the queue and ask DNS at once otherwise
# Reports of one organization that meet silent name servers or web servers before its others are left for the end of the
# run, and how long they are given there: whoever has such servers and makes up domains would hold up everybody's
# reports for days. By the last two labels of a domain; those of a whole country (co.uk) only come later.
MAX_SILENT, LATE_SECONDS = 3, 3600.0
MAX_PREVIEW, MAX_PREVIEW_TEXT = 1_000, 64 << 20  # drafts that are shown, and octets of them in memory at once


@dataclass(frozen=True, slots=True)
class Run:
    """What one run has done: rows of report_sent, and how many reports are to be tried again."""

    sent: tuple[SentReport, ...]
    waiting: int


@dataclass(slots=True)
class _Round:
    """A run while it goes on. `silent`: faults by organization; `untried`: reports given up for want of time."""

    sender: Sender
    now: float
    spacing: float
    sent: list[SentReport] = field(default_factory=list)
    waiting: int = 0
    untried: int = 0
    silent: Counter[str] = field(default_factory=Counter)


class Reporting:
    def __init__(
        self,
        database: Database,
        clock: Clock,
        tally: DmarcTally,
        post: ReportPost,
        reporters: Sequence[Reporter],
        *,
        hostname: str,
        keep: float,
    ) -> None:
        """`keep`: seconds that sent and received reports are remembered."""
        self._database = database
        self._clock = clock
        self._tally = tally
        self._post = post
        self._reporters = tuple(reporters)
        self._hostname = hostname
        self._keep = keep
        self._task: asyncio.Task[None] | None = None
        self._running = asyncio.Lock()
        self._retries = 0  # in a row
        self._log = logger("reports")

    def start(self) -> None:
        self._task = asyncio.create_task(self._repeat())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def due_at(self, day: int) -> float:
        """When the reports about the day before this one go out. By the server's name and the date, not by chance: a
        restart does not change it."""
        drawn = int.from_bytes(hashlib.sha256(f"{self._hostname}/{day}".encode()).digest()[:4], "big")
        return day * DAY + FIRST_DELAY + drawn % (LAST_DELAY - FIRST_DELAY)

    def pause(self) -> float:
        """Seconds until the next run, after one at this moment."""
        now = self._clock.wall()
        today = int(now // DAY)
        due = next(at for at in (self.due_at(today), self.due_at(today + 1)) if at > now)
        if self._retries:
            return min(due - now, FIRST_RETRY * (1 << min(self._retries - 1, 10)), LAST_RETRY)
        return due - now

    async def send(self, *, spacing: float = 0.0) -> Run:
        """Send what is due: all days before today. Raises StoreFault."""
        async with self._running:
            await self._tally.flush()
            now = self._clock.wall()
            turn = _Round(await self._post.sender(), now, spacing)
            late: list[tuple[Reporter, int, str]] = []
            async for entry in self._days(int(now // DAY)):
                if turn.silent[_kin(entry[2])] < MAX_SILENT:
                    await self._tell(turn, *entry)
                else:
                    late.append(entry)
            end = self._clock.monotonic() + LATE_SECONDS
            for entry in late:
                await self._tell(turn, *entry, in_time=self._clock.monotonic() < end)
            if turn.untried:  # one line: strangers can make up as many as a day has room for
                self._log.warning("reports are given up, others of their organizations took the time", n=turn.untried)
            await self._purge(now)
            return Run(tuple(turn.sent), turn.waiting)

    async def preview(self) -> list[Draft]:
        """What would be sent about the days before today, and today's as far as it has come. Raises StoreFault."""
        await self._tally.flush()
        sender = await self._post.sender()
        drafts: list[Draft] = []
        size = 0
        async for reporter, day, domain in self._days(int(self._clock.wall() // DAY) + 1):
            if len(drafts) >= MAX_PREVIEW or size >= MAX_PREVIEW_TEXT:
                break
            try:
                draft = await reporter.draft(day, domain, sender)
            except ResolverFault as fault:
                draft = _unknown(reporter, day, domain, str(fault))
            drafts.append(draft)
            size += len(draft.text) + len(draft.document)
        return drafts

    async def _tell(self, turn: _Round, reporter: Reporter, day: int, domain: str, *, in_time: bool = True) -> None:
        """Raises StoreFault."""
        is_last = turn.now > self.due_at(day + 1) + RETRY_FOR
        rows: list[SentReport] | None = None
        try:
            if in_time:
                rows = await self._send_one(reporter, day, domain, turn.sender, is_last=is_last)
            elif is_last:
                turn.untried += 1
                rows = await self._give_up(reporter, day, domain)
        except (StoreFault, asyncio.CancelledError):
            raise
        except Exception as fault:  # one report's fault must not keep the others from their readers
            self._log.exception("a report failed", kind=reporter.kind, domain=domain, reason=repr(fault))
            rows = await self._give_up(reporter, day, domain) if is_last else None
        turn.waiting += rows is None
        turn.silent[_kin(domain)] += rows is None or any(each.result in ("failed", "nobody") for each in rows)
        if rows:
            turn.sent += rows
            await asyncio.sleep(turn.spacing)

    async def _send_one(
        self, reporter: Reporter, day: int, domain: str, sender: Sender, *, is_last: bool
    ) -> list[SentReport] | None:
        """None: it is to be tried again. Raises StoreFault."""
        try:
            draft = await reporter.draft(day, domain, sender)
        except ResolverFault as fault:
            if not is_last:
                self._log.warning("a report waits", kind=reporter.kind, domain=domain, day=day, reason=str(fault))
                return None
            draft = _unknown(reporter, day, domain, str(fault))
        if draft.skipped and not draft.is_asked_for:
            await self._post.drop(draft)
            return []
        try:
            return await self._post.post(draft, sender, is_last=is_last)
        except NotTakenError as fault:
            self._log.warning("a report waits", kind=reporter.kind, domain=domain, day=day, reason=str(fault))
            return None

    async def _give_up(self, reporter: Reporter, day: int, domain: str) -> list[SentReport]:
        """Raises StoreFault."""
        try:
            await self._post.drop(_unknown(reporter, day, domain, ""))
        except Conflict as fault:
            self._log.error("counts stay", kind=reporter.kind, domain=domain, day=day, reason=str(fault))
        return []

    async def _days(self, before: int) -> AsyncIterator[tuple[Reporter, int, str]]:
        for reporter in self._reporters:
            after = (-1, "")
            while page := await reporter.days(before, after):
                for day, domain in page:
                    yield reporter, day, domain
                after = page[-1]

    async def _purge(self, now: float) -> None:
        before = now - self._keep
        surplus = await self._database.read(reports_received.surplus)
        for purge in (reports_sent.purge, partial(reports_received.purge, surplus=surplus)):
            while await self._database.write(partial(purge, before=before)):
                pass

    async def _repeat(self) -> None:
        now = self._clock.wall()
        is_late = now > self.due_at(int(now // DAY))
        pause = min(AFTER_START, self.pause()) if is_late else self.pause()
        while True:
            await asyncio.sleep(pause)
            try:
                run = await self.send(spacing=SPACING)
                self._retries = self._retries + 1 if run.waiting else 0
            except StoreFault as fault:
                self._retries += 1
                self._log.error("reports wait", reason=str(fault))
            except Exception as fault:
                self._retries += 1
                self._log.exception("reports failed", reason=repr(fault))
            pause = self.pause()


def _kin(domain: str) -> str:
    return ".".join(domain.rsplit(".", 2)[-2:])


def _unknown(reporter: Reporter, day: int, domain: str, why: str) -> Draft:
    def forget(tx: Transaction) -> None:
        reporter.forget(tx, day, domain)

    return Draft(reporter.kind, domain, day, forget, skipped=f"DNS does not say who wants it: {why}")
