# SPDX-License-Identifier: Apache-2.0
"""Joins the admin API to an open house, for the serving process and for a command that works alone."""

from __future__ import annotations

from collections.abc import Callable

from posthouse.app import House
from posthouse.composing.web import surroundings_of
from posthouse.edges.control.office import Office
from posthouse.net.checks import local_checks
from posthouse.services import backups
from posthouse.services.backups import Backups
from posthouse.services.checkup import Checkup
from posthouse.services.letterbox import Letterbox
from posthouse.services.mailbox.shares import Shares
from posthouse.services.secure_dns import dnssec_findings
from posthouse.services.store_check import StoreCheck
from posthouse.services.zone_update import ZoneUpdate

SERVED = (
    "smtp",
    "submission",
    "submissions",
    "lmtp",
    "pop3",
    "pop3s",
    "imap",
    "imaps",
    "http",
    "https",
    "metrics",
)  # keys of [listen] that are built


def office_of(house: House, reload: Callable[[], list[str]], *, is_serving: bool) -> Office:
    """What the admin API acts on. `is_serving`: the listeners of the settings are this process's own."""
    settings, machine = house.settings, house.machine
    listens = frozenset(name for name in SERVED if getattr(settings.listen, name))
    started = machine.clock.monotonic()
    return Office(
        administration=house.administration,
        domain_keys=house.domain_keys,
        key_rotation=house.key_rotation,
        queue_desk=house.queue_desk,
        checkup=Checkup(
            store_check_of(house),
            lambda: machine.resolver(settings),
            machine.web,
            machine.transport,
            house.workers,
            machine.clock,
            hostname=settings.hostname,
            local_checks=local_checks(house.folder, settings, machine.disk, machine.clock, is_serving=is_serving),
            network_checks=[lambda: dnssec_findings(house.resolver, wants_dane=settings.transport.dane)],
        ),
        letterbox=Letterbox(house.directory, house.database, house.blobs, house.bus, machine.clock, machine.entropy),
        shares=Shares(house.directory, house.database, house.mailboxes.folders, house.mailboxes.sharing),
        backups=Backups(
            house.database, machine.disk, house.workers, machine.clock, folder=house.folder / backups.FOLDER
        ),
        certificates=house.certificates,
        zone_update=None if house.zones is None else ZoneUpdate(house.zones, house.database, machine.clock),
        reports=house.reports.desk,
        hostname=settings.hostname,
        surroundings=lambda: surroundings_of(
            house.folder,
            settings,
            house.policy_desk.policy,
            next_key=house.certificates.digests(settings.hostname).following,
        ),
        max_message=settings.smtp.max_message,
        status=lambda: {
            "is_serving": is_serving,
            "uptime": machine.clock.monotonic() - started,
            "listens": sorted(listens),
        },
        reload=reload,
    )


def store_check_of(house: House) -> StoreCheck:
    """The check of an open house's store."""
    return StoreCheck(
        house.database,
        house.blobs,
        house.workers,
        house.machine.clock,
        house.bus,
        hostname=house.settings.hostname,
        keep_history=house.settings.queue.history,
        verify=house.database.verify,
    )
