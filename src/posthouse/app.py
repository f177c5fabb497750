# SPDX-License-Identifier: Apache-2.0
"""The composition root: builds the house from its settings on a machine. The only place that constructs.

`open_house` gives the services on an open store, without listeners: the command line uses it alone when no server
runs. `serving.py` puts listeners in front of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from posthouse.config import Destination, Settings
from posthouse.mail.address import Address, Domain
from posthouse.net.clock import SystemClock, SystemEntropy
from posthouse.net.disk import PosixDisk
from posthouse.net.resolver import DnsResolver
from posthouse.net.smtp_transport import SmtpTransport
from posthouse.net.workers import ThreadWorkers
from posthouse.ports import Clock, Disk, Entropy, MailTransport, Resolver, StoreFault, Workers
from posthouse.services.acceptance import Acceptance
from posthouse.services.administration import Administration
from posthouse.services.bounce import Bounce
from posthouse.services.carrier import Carrier
from posthouse.services.delivery import Delivery, ReportPoster
from posthouse.services.directory import Directory
from posthouse.services.disposition import Action, Terms
from posthouse.services.entry_check import EntryCheck
from posthouse.services.guard import Guard
from posthouse.services.keys import DomainKeys
from posthouse.services.limits import RateLimit, RoomCheck
from posthouse.services.login import Login
from posthouse.services.mailbox.appending import AppendDesk
from posthouse.services.mailbox.fetching import Fetching
from posthouse.services.mailbox.folders import Folders
from posthouse.services.mailbox.listing import Listing
from posthouse.services.mailbox.ordering import Sorter
from posthouse.services.mailbox.places import Places
from posthouse.services.mailbox.search import Searcher
from posthouse.services.mailbox.selected import SelectDesk
from posthouse.services.mailbox.sharing import Sharing
from posthouse.services.mailbox.storing import Storing
from posthouse.services.maildrop import Maildrops
from posthouse.services.passwords import Cost, Passwords
from posthouse.services.presence import Presence
from posthouse.services.queue_desk import QueueDesk
from posthouse.services.reception import Reception
from posthouse.services.relay import Relay
from posthouse.services.routing import Routing, StaticRoute
from posthouse.services.schedule import Schedule, Schedules
from posthouse.services.settle import Settler
from posthouse.services.signing import Signing
from posthouse.services.submission import Submission
from posthouse.services.verification import Verifier
from posthouse.services.waiting import WaitingDelivery
from posthouse.store.blobs.packs import PackStore
from posthouse.store.buses.local import LocalBus
from posthouse.store.databases.sqlite import SqliteDatabase, open_sqlite
from posthouse.store.faults import disk_fault
from posthouse.store.keys import Algorithm
from posthouse.store.sealing import KEY_OCTETS, SecretKey
from posthouse.store.settings import StoreSettings
from posthouse.telemetry import Metrics

SECRET_FILE = "secrets.key"  # noqa: S105 - the name of a file


@dataclass(frozen=True, slots=True)
class Machine:
    """What the house stands on: the real machine, or a simulated one."""

    clock: Clock
    entropy: Entropy
    disk: Disk
    workers: Callable[[], Workers]
    resolver: Callable[[Settings], Resolver]
    transport: Callable[[], MailTransport]
    vfs: str | None = None  # SQLite's file system, None for the real one
    checkpoint_pages: int | None = None  # of a write-ahead log, None for what suits a server
    password_cost: Cost | None = None  # of Argon2id, None for what protects real passwords
    dkim_algorithms: tuple[Algorithm, ...] = ("rsa", "ed25519")  # RSA takes its chance from outside of Entropy


def real_machine() -> Machine:
    clock, entropy = SystemClock(), SystemEntropy()
    return Machine(
        clock=clock,
        entropy=entropy,
        disk=PosixDisk(),
        workers=ThreadWorkers,
        resolver=lambda settings: DnsResolver(clock, settings.resolver.servers, try_seconds=settings.resolver.timeout),
        transport=lambda: SmtpTransport(entropy),
    )


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """What reads and changes mailboxes for people (IMAP)."""

    places: Places
    desk: SelectDesk
    fetching: Fetching
    folders: Folders
    listing: Listing
    searcher: Searcher
    sharing: Sharing
    sorter: Sorter
    storing: Storing
    append_desk: AppendDesk
    presence: Presence


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
    resolver: Resolver

    async def close(self) -> None:
        """After the listeners and the relay have stopped."""
        self.login.close()
        self.mailboxes.presence.close()
        self.directory.close()
        self.domain_keys.close()
        await self.mailboxes.fetching.close()
        await self.mailboxes.searcher.close()
        await self.database.close()
        await self.blobs.close()
        await self.workers.close()


@dataclass(frozen=True, slots=True)
class _Ground:
    """What every room stands on."""

    settings: Settings
    machine: Machine
    workers: Workers
    database: SqliteDatabase
    blobs: PackStore
    bus: LocalBus
    metrics: Metrics
    key: SecretKey


@dataclass(frozen=True, slots=True)
class _Identity:
    directory: Directory
    administration: Administration
    domain_keys: DomainKeys
    login: Login


@dataclass(frozen=True, slots=True)
class _Outgoing:
    resolver: Resolver
    routing: Routing
    delivery: Delivery
    bounce: Bounce
    settler: Settler
    relay: Relay
    queue_desk: QueueDesk


def open_house(folder: Path, settings: Settings, machine: Machine) -> House:
    """Open the store and join the services; call it in the loop's thread. Raises StoreFault, ConfigError."""
    # First, so that nothing is open yet when it fails.
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
    ground = _Ground(settings, machine, workers, database, blobs, LocalBus(), Metrics(), key)
    identity = _identity(ground)
    outgoing = _outgoing(ground, identity.directory)
    acceptance = Acceptance(database, outgoing.delivery, outgoing.bounce, ground.metrics)
    room = RoomCheck(blobs.has_room, clock)
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
        reception=_reception(
            ground, identity, acceptance, room, kind="mx", entry_check=_entry_check(ground, outgoing.resolver)
        ),
        lmtp=_reception(ground, identity, acceptance, room, kind="lmtp"),
        submission=_submission(ground, identity, acceptance, room),
        maildrops=Maildrops(database, blobs, ground.bus, clock),
        mailboxes=_mailboxes(ground),
        routing=outgoing.routing,
        delivery=outgoing.delivery,
        settler=outgoing.settler,
        relay=outgoing.relay,
        queue_desk=outgoing.queue_desk,
        resolver=outgoing.resolver,
    )


def _mailboxes(ground: _Ground) -> Mailboxes:
    database, bus, clock = ground.database, ground.bus, ground.machine.clock
    places = Places(database, shared=ground.settings.imap.shared)
    return Mailboxes(
        places=places,
        desk=SelectDesk(database, bus),
        fetching=Fetching(database, ground.blobs, ground.workers, bus, clock),
        folders=Folders(database, bus, clock, places),
        listing=Listing(database, places),
        searcher=Searcher(database, ground.blobs, ground.workers),
        sharing=Sharing(database, bus, clock, places),
        sorter=Sorter(database, ground.blobs, ground.workers),
        storing=Storing(database, bus, clock),
        append_desk=AppendDesk(places, database, ground.blobs, bus, clock),
        presence=Presence(bus, per_account=ground.settings.imap.max_sessions_per_account),
    )


def _identity(ground: _Ground) -> _Identity:
    settings, machine, database, bus = ground.settings, ground.machine, ground.database, ground.bus
    clock, entropy, key, auth = machine.clock, machine.entropy, ground.key, ground.settings.auth
    directory = Directory(database, bus, hostname=settings.hostname, alias_may_send=settings.submission.alias_may_send)
    scram = ("SCRAM-SHA-256", "SCRAM-SHA-1") if auth.scram_sha_1 else ("SCRAM-SHA-256",)
    passwords = Passwords(
        ground.workers, entropy, mechanisms=scram, iterations=auth.scram_iterations, cost=machine.password_cost
    )
    guard = Guard(clock, failures_per_address=auth.failures_per_address, failures_per_account=auth.failures_per_account)
    domain_keys = DomainKeys(database, bus, ground.workers, entropy, key, algorithms=machine.dkim_algorithms)
    return _Identity(
        directory=directory,
        administration=Administration(database, bus, passwords, domain_keys, clock=clock, entropy=entropy, key=key),
        domain_keys=domain_keys,
        login=Login(
            directory,
            database,
            bus,
            passwords,
            guard,
            clock=clock,
            entropy=entropy,
            key=key,
            mechanisms=(*scram, "PLAIN", "LOGIN"),
        ),
    )


def _outgoing(ground: _Ground, directory: Directory) -> _Outgoing:
    settings, machine, database, blobs = ground.settings, ground.machine, ground.database, ground.blobs
    clock, entropy, bus = machine.clock, machine.entropy, ground.bus
    resolver = machine.resolver(settings)
    routing = Routing(resolver, entropy, settings.hostname, routes=static_routes(settings))
    schedules = schedules_of(settings)
    delivery = Delivery(routing, schedules, bus)
    sender = Address("MAILER-DAEMON", Domain.parse(settings.hostname))
    bounce = Bounce(blobs, ReportPoster(directory, delivery, clock), clock, entropy, settings.hostname, sender=sender)
    settler = Settler(database, clock, bus, bounce=bounce, schedules=schedules, owner=entropy.octets(8).hex())
    carrier = Carrier(
        database,
        blobs,
        machine.transport(),
        clock,
        routing=routing,
        settler=settler,
        local=WaitingDelivery(directory, delivery, blobs, clock),
    )
    return _Outgoing(
        resolver=resolver,
        routing=routing,
        delivery=delivery,
        bounce=bounce,
        settler=settler,
        relay=Relay(database, carrier, settler, clock, bus, connections=settings.queue.connections),
        queue_desk=QueueDesk(database, settler, clock, bus),
    )


def _entry_check(ground: _Ground, resolver: Resolver) -> EntryCheck:
    settings = ground.settings
    wanted = settings.authentication
    verifier = Verifier(
        resolver,
        ground.machine.clock,
        authserv_id=wanted.authserv_id or settings.hostname,
        hostname=settings.hostname,
        is_on=wanted.verify,
        includes_loopback=wanted.loopback,
        trusted_sealers=wanted.trusted_sealers,
    )
    terms = Terms(
        quarantine=Action(wanted.quarantine),
        reject=Action(wanted.reject),
        malformed_from=Action(wanted.malformed_from),
        spf_fail=Action(wanted.spf_fail),
        iprev_fail=Action(wanted.iprev_fail),
        defers_temperror=wanted.temperror == "defer",
        domains={name: Action(each.fail) for name, each in wanted.domains.items()},
    )
    return EntryCheck(verifier, terms, ground.metrics)


def _reception(
    ground: _Ground,
    identity: _Identity,
    acceptance: Acceptance,
    room: RoomCheck,
    *,
    kind: str,
    entry_check: EntryCheck | None = None,
) -> Reception:
    smtp, clock = ground.settings.smtp, ground.machine.clock
    return Reception(
        identity.directory,
        acceptance,
        ground.blobs,
        clock,
        hostname=ground.settings.hostname,
        max_received=smtp.max_received,
        # A neighbour on LMTP has limited its own clients.
        rate=RateLimit(clock, smtp.letters_per_minute if kind == "mx" else 0, 60),
        is_full=room.is_full,
        kind=kind,
        entry_check=entry_check,
    )


def _submission(ground: _Ground, identity: _Identity, acceptance: Acceptance, room: RoomCheck) -> Submission:
    settings, clock = ground.settings, ground.machine.clock
    return Submission(
        identity.directory,
        acceptance,
        Signing(identity.domain_keys),
        ground.blobs,
        clock,
        ground.machine.entropy,
        hostname=settings.hostname,
        max_received=settings.smtp.max_received,
        rate=RateLimit(clock, settings.submission.recipients_per_hour, 3600),
        is_full=room.is_full,
    )


def secret_key(folder: Path, disk: Disk, entropy: Entropy) -> bytes:
    """The master secret beside the database; made at first start, 0600. Raises StoreFault."""
    path = folder / SECRET_FILE
    try:
        found = bytes(disk.map(path)) if SECRET_FILE in disk.names(folder) else _new_secret(path, disk, entropy)
    except OSError as error:
        raise disk_fault(f"{path} cannot be read or made", error) from error
    if len(found) != KEY_OCTETS:
        raise StoreFault(f"{path} has {len(found)} octets, it needs {KEY_OCTETS}: put it back from a backup")
    return found


def _new_secret(path: Path, disk: Disk, entropy: Entropy) -> bytes:
    octets = entropy.octets(KEY_OCTETS)
    disk.make_folder(path.parent)
    new = path.with_name(SECRET_FILE + ".new")
    file = disk.append(new)
    try:
        file.truncate(0)  # of a start that was cut short
        file.write([octets])
        file.sync()
    finally:
        file.close()
    disk.rename(new, path)
    return octets


def static_routes(settings: Settings) -> dict[str, StaticRoute]:
    routes = {}
    for name, route in settings.routes.items():
        password = route.password_file.read_text("utf-8").partition("\n")[0] if route.password_file else None
        domain = name if name == "*" else Domain.parse(name).name
        found = StaticRoute.parse(route.host, tls=route.tls, username=route.username, password=password)
        routes[domain] = replace(found, is_lmtp=route.protocol == "lmtp")
    return routes


def schedules_of(settings: Settings) -> Schedules:
    queue = settings.queue
    default = Schedule(
        retry=tuple(queue.retry), warn=queue.warn, expire=queue.expire, connections=queue.connections_per_destination
    )
    return Schedules(default, {name: _exception(default, each) for name, each in queue.destinations.items()})


def _exception(default: Schedule, destination: Destination) -> Schedule:
    return Schedule(
        retry=tuple(destination.retry) if destination.retry else default.retry,
        warn=default.warn,
        expire=default.expire if destination.expire is None else destination.expire,
        connections=destination.connections or default.connections,
    )
