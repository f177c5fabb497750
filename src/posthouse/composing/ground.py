# SPDX-License-Identifier: Apache-2.0
"""What every room stands on: the machine, real or simulated, the open store, and the master secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from posthouse.config import Settings
from posthouse.net.clock import SystemClock, SystemEntropy
from posthouse.net.disk import PosixDisk
from posthouse.net.resolver import DnsResolver
from posthouse.net.smtp_tls import LoopTlsStarter
from posthouse.net.smtp_transport import SmtpTransport
from posthouse.net.web_client import HttpsClient
from posthouse.net.workers import ThreadWorkers
from posthouse.ports import (
    Clock,
    Disk,
    Entropy,
    MailTransport,
    Resolver,
    SecureResolver,
    StoreFault,
    WebClient,
    Workers,
)
from posthouse.services.passwords import Cost
from posthouse.store.blobs.packs import PackStore
from posthouse.store.buses.local import LocalBus
from posthouse.store.databases.sqlite import SqliteDatabase
from posthouse.store.faults import disk_fault
from posthouse.store.keys import Algorithm
from posthouse.store.sealing import KEY_OCTETS, SecretKey
from posthouse.telemetry import Metrics

SECRET_FILE = "secrets.key"  # noqa: S105 - the name of a file


@dataclass(frozen=True, slots=True)
class Machine:
    """What the house stands on: the real machine, or a simulated one."""

    clock: Clock
    entropy: Entropy
    disk: Disk
    workers: Callable[[], Workers]
    resolver: Callable[[Settings], SecureResolver]
    transport: Callable[[], MailTransport]
    web: Callable[[Resolver], WebClient]
    public_web: Callable[[Resolver], WebClient] | None = None  # reaches public addresses alone; None: as `web`
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
        resolver=lambda settings: DnsResolver(
            clock, settings.resolver.servers, try_seconds=settings.resolver.timeout, dnssec=settings.resolver.dnssec
        ),
        transport=lambda: SmtpTransport(entropy, LoopTlsStarter(clock=clock)),
        web=HttpsClient,
        public_web=partial(HttpsClient, only_public=True),
    )


@dataclass(frozen=True, slots=True)
class Ground:
    """What every room stands on."""

    settings: Settings
    machine: Machine
    workers: Workers
    database: SqliteDatabase
    blobs: PackStore
    bus: LocalBus
    metrics: Metrics
    key: SecretKey

    def web_for_strangers(self, resolver: Resolver) -> WebClient:
        """For addresses that other domains name. What [acme] and `check` ask for was chosen here: Machine.web."""
        public = self.machine.public_web
        made = self.machine.web if public is None or self.settings.transport.private_web else public
        return made(resolver)


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
