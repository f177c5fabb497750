# SPDX-License-Identifier: Apache-2.0
"""Reads the reports of others that came to an address for reports, after their delivery, and keeps them for display.

Invariant: a letter that waits is read once, also after a crash (its row waits in the store), and never stands in the
way of those behind it for good; whatever is in it, the letter itself was delivered before and stays as it is.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import assert_never

from posthouse.mail.header import scan_header
from posthouse.mailauth.aggregate import AggregateReport
from posthouse.mailauth.tls_report import TlsReport
from posthouse.mailauth.unpacking import ReportFault
from posthouse.ports import BlobStore, Change, ChangeBus, Clock, Database, StoreFault, Transaction, Workers
from posthouse.services.administration import Administration
from posthouse.services.incoming import SPOOL_ABOVE
from posthouse.services.report_addresses import TOPIC
from posthouse.services.report_reading import (
    Report,
    dmarc_details,
    dmarc_sources,
    read_letter,
    tls_details,
    tls_sources,
)
from posthouse.store import reports_received, verdicts
from posthouse.store.reports_received import ReceivedReport, Source, Waiting
from posthouse.store.verdicts import Verdict
from posthouse.telemetry import logger

PAGE = 20  # letters found by one read
MAX_REST = 10.0  # seconds between two letters
RETRY = 300.0  # seconds until a store that failed is asked again
MAX_REASON = 300  # characters
MAX_TRIES = 3  # processes that may end while they read one letter
MAX_COUNT = 10**15  # letters or sessions of a report; sums of many still fit into 63 bits

_Kept = tuple[ReceivedReport, list[Source]]


class ReportInbox:
    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        workers: Workers,
        bus: ChangeBus,
        administration: Administration,
        clock: Clock,
        *,
        hostname: str,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._workers = workers
        self._administration = administration
        self._clock = clock
        self._hostname = hostname
        self._woken = asyncio.Event()
        self._reading = asyncio.Lock()
        self._begun = 0  # the last letter whose reading this process has noted
        self._unsubscribe = bus.subscribe(TOPIC, 0, self._wake)
        self._task: asyncio.Task[None] | None = None
        self._log = logger("reports")

    def start(self) -> None:
        self._woken.set()  # what waited when the last process ended
        self._task = asyncio.create_task(self._repeat())

    async def stop(self) -> None:
        self._unsubscribe()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def read_all(self) -> int:
        """Read what waits; how many letters. Raises StoreFault."""
        count = 0
        async with self._reading:
            while page := await self._database.read(partial(reports_received.waiting, page=PAGE)):
                for waiting in page:
                    begun = self._clock.monotonic()
                    await self._read(waiting)
                    count += 1
                    # Reading takes the interpreter from everybody: half of the time at most is for this.
                    await asyncio.sleep(min(max(self._clock.monotonic() - begun, 0.0), MAX_REST))
        return count

    def _wake(self, _change: Change) -> None:
        self._woken.set()

    async def _repeat(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self.read_all()
            except StoreFault as fault:
                self._log.warning("reports wait to be read", reason=str(fault))
                await asyncio.sleep(RETRY)
                self._woken.set()
            except Exception as fault:
                self._log.exception("reading reports failed", reason=repr(fault))
                await asyncio.sleep(RETRY)
                self._woken.set()

    async def _read(self, waiting: Waiting) -> None:
        try:
            await self._begin(waiting)
            await self._settle(waiting, await self._understood(waiting))
        except ReportFault as fault:
            await self._settle(waiting, None, str(fault)[:MAX_REASON])
        except StoreFault:
            raise
        except Exception as fault:
            # A letter must not stand in the way of those behind it, whatever a reader of ours or the store makes of it.
            self._log.exception("a report cannot be read", letter=waiting.letter, reason=repr(fault))
            await self._settle(waiting, None, "a fault of this server; its log has it")

    async def _begin(self, waiting: Waiting) -> None:
        """Note that it is read now, once in the life of a process: a disk that is full for a while is no fault of the
        letter's. Raises ReportFault: others have ended with it."""
        if waiting.letter == self._begun:
            return
        if waiting.tries >= MAX_TRIES:
            raise ReportFault(f"the server has ended {waiting.tries} times while it read this letter")
        await self._database.write(partial(reports_received.begin, letter=waiting.letter))
        self._begun = waiting.letter

    async def _understood(self, waiting: Waiting) -> _Kept | None:
        """The report as it is to be kept; None: the letter is none. Raises ReportFault."""
        if waiting.location is None:
            return None
        try:
            content = await self._blobs.open(waiting.location)
        except StoreFault:
            raise ReportFault("its letter cannot be read") from None
        subject = scan_header(bytes(content[:SPOOL_ABOVE])).get(b"subject") or b""
        report = await self._workers.run(partial(read_letter, content, subject), pool="search")
        if report is None:
            return None
        sender = _sender(report, await self._database.read(partial(verdicts.of, letter=waiting.letter)))
        names = [self._hostname, *(each.name for each in await self._administration.list_domains())]
        row, sources = await self._workers.run(partial(_row, report, sender, waiting), pool="search")  # half a second
        if not any(_is_about(report, row.domain, name) for name in names):
            raise ReportFault("it is about no domain that is served here")
        if why := await self._database.read(partial(reports_received.crowded, sender=sender, at=waiting.at)):
            raise ReportFault(why)
        return row, sources

    async def _settle(self, waiting: Waiting, kept: _Kept | None, reason: str = "") -> None:
        """Keep it, or why not."""

        def unit(tx: Transaction) -> str:
            if not reports_received.done(tx, waiting.letter):
                return ""
            why = reason if kept is None else reports_received.keep(tx, *kept)
            if why:
                reports_received.unread(tx, waiting.letter, waiting.at, why)
            return why

        problem = await self._database.write(unit)
        if kept is not None or reason:
            row = None if kept is None else kept[0]
            self._log.info(
                "report received",
                letter=waiting.letter,
                sender=row.sender if row else "",
                organization=row.organization if row else "",
                report_id=row.report_id if row else "",
                problem=problem,
            )


def _row(report: Report, sender: str, waiting: Waiting) -> tuple[ReceivedReport, list[Source]]:
    match report:
        case AggregateReport():
            kind, domain = "dmarc", report.policy.domain
            passed, failed = report.passed, report.failed
            sources, details = dmarc_sources(report.records), dmarc_details(report)
        case TlsReport():
            kind, domain = "tls", report.policies[0].domain
            passed, failed = report.succeeded, report.failed
            sources, details = tls_sources(report), tls_details(report)
        case unknown:
            assert_never(unknown)
    row = ReceivedReport(
        id=0,
        kind=kind,
        domain=reports_received.cut_name(domain),
        organization=report.organization,
        report_id=report.report_id,
        sender=sender,
        begin_at=report.begin,
        end_at=report.end,
        at=waiting.at,
        letter=waiting.letter,
        passed=min(passed, MAX_COUNT),
        failed=min(failed, MAX_COUNT),
        sources=len(sources),
        details=details,
    )
    return row, sources


def _sender(report: Report, verdict: Verdict | None) -> str:
    """The authenticated domain, "" where letters like this one are not checked. Raises ReportFault: somebody else
    may have written it."""
    if verdict is None:
        return ""
    results = {each.result for each in verdict.statements if each.method == "dmarc"}
    if "fail" in results:  # RFC 9990 §3.5.2: its own letters conform to DMARC
        raise ReportFault(f"{verdict.author} has not written it: DMARC fails")
    if isinstance(report, TlsReport):
        signers = [
            value
            for each in verdict.statements
            if each.method == "dkim" and each.result == "pass"
            for kind, name, value in each.properties
            if (kind, name) == ("header", "d")
        ]
        signer = next((each for each in signers if _is_related(each.lower(), report.submitter)), "")
        if not signer:  # RFC 8460 §3: such reports MUST be ignored
            raise ReportFault(f"it has no good signature of {report.submitter or 'its contact domain'}")
        return signer.lower()
    return verdict.author if "pass" in results else ""


def _is_about(report: Report, domain: str, name: str) -> bool:
    """Whether a report about that domain is one about this name here: the same, or below it, where another server may
    take the mail. DMARC's policy may also lie above it (RFC 9989 §4.10), but never at a whole top-level domain."""
    if domain == name or domain.endswith(f".{name}"):
        return True
    return isinstance(report, AggregateReport) and "." in domain and name.endswith(f".{domain}")


def _is_related(one: str, other: str) -> bool:
    """The same domain, or one below the other: a service of an organization signs for all of it."""
    return bool(other) and (one == other or one.endswith(f".{other}") or other.endswith(f".{one}"))
