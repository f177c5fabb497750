# SPDX-License-Identifier: Apache-2.0
"""Reports about mail: those that we send, and those of others that come."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.composing.ground import Ground
from posthouse.composing.identity import Identity
from posthouse.config import Settings
from posthouse.ports import Resolver
from posthouse.services.delivery import Delivery
from posthouse.services.dmarc_reporting import DmarcReporting
from posthouse.services.dmarc_tally import DmarcTally
from posthouse.services.report_addresses import ReportAddresses
from posthouse.services.report_desk import ReportDesk
from posthouse.services.report_draft import Reporter
from posthouse.services.report_inbox import ReportInbox
from posthouse.services.report_post import ReportPost
from posthouse.services.reporting import Reporting
from posthouse.services.signing import Signing
from posthouse.services.tls_reporting import TlsReporting


@dataclass(frozen=True, slots=True)
class Reports:
    tally: DmarcTally
    reporting: Reporting
    inbox: ReportInbox
    desk: ReportDesk

    def start(self) -> None:
        """In the server alone; a command that works by itself only uses the desk."""
        self.inbox.start()
        self.reporting.start()

    async def stop(self) -> None:
        """After the listeners: what was counted is written."""
        await self.reporting.stop()
        await self.inbox.stop()

    async def close(self) -> None:
        await self.tally.close()


def report_addresses(settings: Settings) -> ReportAddresses:
    return ReportAddresses(settings.reports.inbox)


def open_tally(ground: Ground) -> DmarcTally:
    return DmarcTally(ground.database, ground.machine.clock, is_on=ground.settings.reports.dmarc)


def open_reports(
    ground: Ground, identity: Identity, delivery: Delivery, resolver: Resolver, tally: DmarcTally
) -> Reports:
    settings, machine, database = ground.settings, ground.machine, ground.database
    wanted = settings.reports
    post = ReportPost(
        database,
        identity.directory,
        identity.administration,
        identity.domain_keys,
        Signing(identity.domain_keys),
        delivery,
        ground.web_for_strangers(resolver),
        machine.clock,
        machine.entropy,
        hostname=settings.hostname,
        address=wanted.address,
        organization=wanted.organization,
    )
    reporters: list[Reporter] = []
    if wanted.dmarc:
        reporters.append(DmarcReporting(database, resolver, ground.workers, exclude=wanted.exclude))
    if wanted.tls:
        reporters.append(TlsReporting(database, resolver, ground.workers, exclude=wanted.exclude))
    reporting = Reporting(database, machine.clock, tally, post, reporters, hostname=settings.hostname, keep=wanted.keep)
    inbox = ReportInbox(
        database,
        ground.blobs,
        ground.workers,
        ground.bus,
        identity.administration,
        machine.clock,
        hostname=settings.hostname,
    )
    return Reports(tally, reporting, inbox, ReportDesk(database, machine.clock, reporting, inbox))
