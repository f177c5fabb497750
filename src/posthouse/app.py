# SPDX-License-Identifier: Apache-2.0
"""The composition root: builds the house from its settings on a machine. The only place that constructs.

`open_house` gives the services on an open store, without listeners: the command line uses it alone when no server
runs. `serving.py` puts listeners in front of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from posthouse.composing.certificates import check_issuance, open_issuance
from posthouse.composing.ground import Ground, Machine, secret_key
from posthouse.composing.identity import open_identity
from posthouse.composing.incoming import open_entry_check, open_reception, open_submission
from posthouse.composing.mailboxes import Mailboxes, open_mailboxes
from posthouse.composing.outgoing import open_outgoing
from posthouse.composing.reports import Reports, open_reports, open_tally
from posthouse.composing.transport import TransportRoom
from posthouse.composing.trust import Trust, open_key_rotation, open_trust
from posthouse.composing.web import policy_of
from posthouse.config import Settings
from posthouse.ports import SecureResolver, Workers, ZoneEditor
from posthouse.services.acceptance import Acceptance
from posthouse.services.administration import Administration
from posthouse.services.certificates import Certificates
from posthouse.services.challenges import Challenges
from posthouse.services.delivery import Delivery
from posthouse.services.directory import Directory
from posthouse.services.key_rotation import KeyRotation
from posthouse.services.keys import DomainKeys
from posthouse.services.limits import RoomCheck
from posthouse.services.login import Login
from posthouse.services.maildrop import Maildrops
from posthouse.services.own_policy import PolicyDesk
from posthouse.services.queue_desk import QueueDesk
from posthouse.services.reception import Reception
from posthouse.services.relay import Relay
from posthouse.services.routing import Routing
from posthouse.services.settle import Settler
from posthouse.services.submission import Submission
from posthouse.store.blobs.packs import PackStore
from posthouse.store.buses.local import LocalBus
from posthouse.store.databases.sqlite import SqliteDatabase, open_sqlite
from posthouse.store.sealing import SecretKey
from posthouse.store.settings import StoreSettings
from posthouse.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class House:
    """Everything behind the listeners, built and joined."""

    folder: Path
    settings: Settings
    machine: Machine
    workers: Workers
    database: SqliteDatabase
    blobs: PackStore
    bus: LocalBus
    metrics: Metrics
    directory: Directory
    administration: Administration
    domain_keys: DomainKeys
    login: Login
    reception: Reception
    lmtp: Reception
    submission: Submission
    maildrops: Maildrops
    mailboxes: Mailboxes
    routing: Routing
    delivery: Delivery
    settler: Settler
    relay: Relay
    queue_desk: QueueDesk
    trust: Trust
    key_rotation: KeyRotation
    challenges: Challenges
    certificates: Certificates
    zones: ZoneEditor | None
    resolver: SecureResolver
    room: TransportRoom
    policy_desk: PolicyDesk
    reports: Reports

    async def close(self) -> None:
        """After the listeners and the relay have stopped."""
        await self.reports.close()
        self.login.close()
        self.mailboxes.presence.close()
        self.directory.close()
        self.domain_keys.close()
        await self.mailboxes.fetching.close()
        await self.mailboxes.searcher.close()
        await self.database.close()
        await self.blobs.close()
        await self.workers.close()


def open_house(folder: Path, settings: Settings, machine: Machine) -> House:
    """Open the store and join the services; call it in the loop's thread. Raises StoreFault, ConfigError."""
    # First, so that nothing is open yet when it fails.
    check_issuance(settings)
    key = SecretKey(secret_key(folder, machine.disk, machine.entropy))
    workers = machine.workers()
    limits = StoreSettings(
        seal_octets=settings.store.pack_size,
        reserve_octets=settings.store.reserve,
        vfs=machine.vfs,
        checkpoint_pages=machine.checkpoint_pages,
    )
    clock, entropy = machine.clock, machine.entropy
    database, blobs = open_sqlite(folder, machine.disk, workers, clock, entropy, settings=limits)
    ground = Ground(settings, machine, workers, database, blobs, LocalBus(), Metrics(), key)
    identity = open_identity(ground)
    trust = open_trust(ground, identity)
    outgoing = open_outgoing(ground, identity.directory, trust)
    issuance = open_issuance(ground, folder, outgoing.resolver)
    acceptance = Acceptance(database, outgoing.delivery, outgoing.bounce, ground.metrics)
    room = RoomCheck(blobs.has_room, clock)
    tally = open_tally(ground)
    entry_check = open_entry_check(ground, outgoing.resolver, tally)
    return House(
        folder=folder,
        settings=settings,
        machine=machine,
        workers=workers,
        database=database,
        blobs=blobs,
        bus=ground.bus,
        metrics=ground.metrics,
        directory=identity.directory,
        administration=identity.administration,
        domain_keys=identity.domain_keys,
        login=identity.login,
        reception=open_reception(ground, identity, acceptance, room, trust, kind="mx", entry_check=entry_check),
        lmtp=open_reception(ground, identity, acceptance, room, trust, kind="lmtp"),
        submission=open_submission(ground, identity, acceptance, room),
        maildrops=Maildrops(database, blobs, ground.bus, clock),
        mailboxes=open_mailboxes(ground),
        routing=outgoing.routing,
        delivery=outgoing.delivery,
        settler=outgoing.settler,
        relay=outgoing.relay,
        queue_desk=outgoing.queue_desk,
        resolver=outgoing.resolver,
        trust=trust,
        key_rotation=open_key_rotation(ground, identity, outgoing.resolver),
        challenges=issuance.challenges,
        certificates=issuance.certificates,
        zones=issuance.zones,
        room=outgoing.room,
        policy_desk=PolicyDesk(policy_of(settings)),
        reports=open_reports(ground, identity, outgoing.delivery, outgoing.resolver, tally),
    )
