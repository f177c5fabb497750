# SPDX-License-Identifier: Apache-2.0
"""A whole server in the test's own process: real store, real sockets on loopback, real TLS, nothing in between."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posthouse.app import House, open_house
from posthouse.composing.ground import Machine, real_machine
from posthouse.config import Settings, from_table
from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.net.certificate import ensure_self_signed
from posthouse.net.session import ConnectionLimits
from posthouse.net.tls import CertificateFiles, CertificateStore, LoopTlsUpgrader
from posthouse.ports import BlobLocation, Peer, Reader, Resolver, ResolverFault
from posthouse.services.passwords import Cost
from posthouse.services.transaction import Client
from posthouse.serving import Server
from tests.fakes import FakeResolver
from tests.store.machine import FaultyDisk
from tests.system.wire import Wire

HOSTNAME = "mail.example.test"
SERVICES = ("smtp", "submission", "submissions", "lmtp", "pop3", "pop3s", "imap", "imaps")
PASSWORD = "secret"
CHEAP = Cost(time=1, memory=8)  # KiB; the smallest Argon2 there is
# name, quota
ACCOUNTS = (
    ("alice@alice.test", None),
    ("bob@bob.test", None),
    ("carol@bob.test", None),
    ("a@bob.test", None),
    ("b@bob.test", None),
    ("c@bob.test", None),
    ("d@bob.test", None),
    ("böb@bob.test", None),
    ("over@bob.test", None),
    ("full@bob.test", 10),  # it has a letter already
    ("small@bob.test", 1000),
    ("gone@bob.test", None),
)


def settings(**sections: Any) -> Settings:
    """Patience for tests that make mistakes on purpose; `sections` as in posthouse.toml."""
    table: dict[str, Any] = {
        "hostname": HOSTNAME,
        "smtp": {"tarpit_after": 10_000, "close_after": 20_000},
        "store": {"reserve": 0},
    }
    for name, section in sections.items():
        table[name] = {**table.get(name, {}), **section}
    return from_table(table, "test")


class NoDns(FakeResolver):
    """No name server answers: what is for other hosts waits in the queue."""

    def _look(self, name: str) -> None:
        raise ResolverFault(f"no name server was asked for {name}")


async def _furnish(folder: Path) -> None:
    house = open_house(folder, settings(), replace(real_machine(), password_cost=CHEAP))
    admin = house.administration
    await admin.add_domain("alice.test")
    await admin.add_domain("bob.test")
    await admin.add_domain("twin.test", alias_of="bob.test")
    await admin.add_domain("例え.test", catch_all="bob@bob.test")
    for name, quota in ACCOUNTS:
        await admin.add_account(name, PASSWORD, quota=quota, is_admin=name == "alice@alice.test")
    await admin.disable("gone@bob.test")
    await admin.add_alias("sales@bob.test", ["bob@bob.test", "carol@bob.test"])
    await admin.add_alias("away@bob.test", ["bob@elsewhere.test"])
    await admin.add_alias("both@bob.test", ["bob@bob.test", "bob@elsewhere.test"])
    await _fill(house, "full@bob.test")
    await house.key_rotation.ensure_own_key()  # else every server of every test would make one
    await house.close()


async def _fill(house: House, name: str) -> None:
    transaction = await house.lmtp.begin(Client(Peer("unix", 0, "unix", 0, "t")), ReversePath(None))
    await transaction.add_recipient(ForwardPath(parse_address(name)))
    await transaction.begin_content()
    await transaction.add_content(b"Subject: too much\r\n\r\n")
    await transaction.finish()


def furnish(folder: Path) -> None:
    """Make a data directory with the domains and accounts above; once for all tests, which copy it."""
    asyncio.run(_furnish(folder))
    ensure_self_signed(folder / "tls.pem", folder / "tls.key", [HOSTNAME, "localhost"], real_machine().clock.wall())


@dataclass
class Post:
    """A server that serves."""

    house: House
    server: Server
    ports: dict[str, int]
    trusting: ssl.SSLContext
    disk: FaultyDisk

    async def connect(self, service: str = "smtp") -> Wire:
        return await Wire.open(self.ports[service], self.trusting, is_tls=service in ("submissions", "pop3s", "imaps"))

    async def smtp(self) -> Wire:
        """A session with other servers' door, after EHLO."""
        wire = await self.connect("smtp")
        await wire.hello()
        return wire

    async def submission(self, name: str = "alice@alice.test") -> Wire:
        """A user's session over TLS, logged in."""
        wire = await self.connect("submissions")
        await wire.hello()
        assert (await wire.log_in(name)).startswith("235")
        return wire

    async def letters(self, name: str) -> list[bytes]:
        """What lies in somebody's INBOX, oldest first, as POP3 would send it."""
        account = await self.house.directory.account(name)
        assert account is not None
        drop = await self.house.maildrops.open(account)
        try:
            found = []
            for number in drop.numbers():
                letter = await drop.retrieve(number)
                found.append(letter.prefix + bytes(letter.content))
            return found
        finally:
            drop.release()

    async def lies_in(self, name: str, mailbox: str) -> int:
        """How many letters there are in a mailbox of somebody's."""
        rows = await self.house.database.read(
            lambda reader: reader.rows(
                "SELECT m.total FROM mailbox m JOIN account a ON a.id = m.account WHERE a.name = :name"
                " AND m.name = :mailbox",
                name=name,
                mailbox=mailbox,
            )
        )
        return int(rows[0][0])

    async def contents(self) -> list[bytes]:
        """The content of every letter that is kept, oldest first."""

        def query(reader: Reader) -> list[BlobLocation]:
            rows = reader.rows("SELECT pack, pack_offset, length FROM blob ORDER BY id")
            return [BlobLocation(*row) for row in rows]

        return [bytes(await self.house.blobs.open(place)) for place in await self.house.database.read(query)]

    async def queued(self) -> list[tuple[str, str, str]]:
        """(recipient, next hop, state) of all that is in the queue."""
        return await self.house.database.read(
            lambda reader: reader.rows("SELECT address, next_hop, state FROM queue_recipient ORDER BY id")
        )

    @property
    def open_connections(self) -> int:
        return sum(len(listener.connections) for listener in self.server.listeners)

    async def is_quiet(self) -> None:
        """Wait until no connection is left."""
        tasks = [c.task for listener in self.server.listeners for c in listener.connections if c.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=20)
        assert self.open_connections == 0

    async def close(self) -> None:
        """Stop, and look whether anything was left behind."""
        for listener in self.server.listeners:
            for connection in list(listener.connections):
                connection.abort()
        await self.is_quiet()
        house = self.house
        assert not house.maildrops._open, "a maildrop is still locked"
        assert not house.login._guard._lines, "a place in the line for passwords is still held"
        assert not house.blobs._shelf.loose, "a pack of its own belongs to nobody"
        assert not list((house.folder / "packs").glob("*.part")), "a spool was left behind"
        await self.server.stop(5)


async def open_post(
    template: Path,
    folder: Path,
    *,
    machine: Machine | None = None,
    limits: ConnectionLimits | None = None,
    descriptors: int | None = None,
    prepare: Callable[[House], None] | None = None,
    resolver: Resolver | None = None,
    **sections: Any,
) -> Post:
    """Serve a copy of the furnished directory in a new folder."""
    shutil.copytree(template, folder)
    disk = FaultyDisk()
    machine = replace(machine or real_machine(), disk=disk, password_cost=CHEAP, resolver=lambda _: resolver or NoDns())
    house = open_house(folder, settings(**sections), machine)
    if prepare is not None:
        prepare(house)
    certificates = CertificateStore([CertificateFiles(folder / "tls.pem", folder / "tls.key")], machine.clock)
    endpoints = {name: [_bound()] for name in SERVICES}
    more: dict[str, Any] = {} if limits is None else {"limits": limits}
    server = Server(house, endpoints, LoopTlsUpgrader(certificates), descriptors=descriptors, **more)
    await server.start()
    trusting = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    ports = {name: sockets[0].getsockname()[1] for name, sockets in endpoints.items()}
    return Post(house, server, ports, trusting, disk)


def _bound() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock
