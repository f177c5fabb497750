# SPDX-License-Identifier: Apache-2.0
"""A whole house without sockets for the IMAP transcripts: real sessions on a real store, in virtual time.

Its people are alice, bob, carol and shared, all at example.test, with the password `secret`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from posthouse import serving
from posthouse.app import House, open_house
from posthouse.composing.ground import Machine, real_machine
from posthouse.config import Settings, from_table
from posthouse.edges.imap.session import ImapSession
from posthouse.mail.address import parse_address
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.ports import Peer, Reader, TlsInfo, Workers
from posthouse.protocol.engine import Signal
from posthouse.services.passwords import Cost
from posthouse.services.transaction import Client
from posthouse.store import integrity
from tests.fakes import FakeClock, FakeEntropy, FakeResolver, FakeTransport
from tests.store.machine import InlineWorkers
from tests.transcripts.imap_dialogue import PASSWORD
from tests.transcripts.transcript import TranscriptError

HOSTNAME = "mail.example.test"
DOMAIN = "example.test"
PEOPLE = ("alice", "bob", "carol", "shared")
CHEAP = Cost(time=1, memory=8)  # KiB; the smallest Argon2 there is
TLS = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")
PEER = Peer("127.0.0.1", 40_000, "127.0.0.1", 993, "t")
# More octets than these at once come in larger pieces: one by one they would take seconds, and show nothing new.
LARGE, LARGE_PIECE = 20_000, 1_021
MAX_TURNS = 50  # of the loop until nothing that was published is left to be told


def sections_of(said: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Sections of posthouse.toml in a dialogue's `SERVER` lines, and patience for mistakes that it makes on purpose."""
    table: dict[str, dict[str, Any]] = {
        "smtp": {"tarpit_after": 10_000, "close_after": 20_000},
        "auth": {"failures_per_address": 10_000, "failures_per_account": 10_000},
        "store": {"reserve": 0},
    }
    for key, text in said.items():
        section, _, name = key.partition(".")
        if section != "quota":
            value: Any = int(text) if text.isdigit() else {"true": True, "false": False}.get(text, text)
            table.setdefault(section, {})[name] = value
    return table


def settings_of(said: Mapping[str, str]) -> Settings:
    return from_table({"hostname": HOSTNAME, **sections_of(said)}, "transcript")


def quotas_of(said: Mapping[str, str]) -> dict[str, int]:
    return {key.removeprefix("quota."): int(text) for key, text in said.items() if key.startswith("quota.")}


def machine(workers: Callable[[], Workers] = InlineWorkers) -> Machine:
    """Everything in the loop's thread; the loop may run on virtual time."""
    return replace(
        real_machine(),
        clock=FakeClock(),
        entropy=FakeEntropy(),
        workers=workers,
        resolver=lambda _: FakeResolver(),
        transport=FakeTransport,
        password_cost=CHEAP,
        dkim_algorithms=("ed25519",),
    )


async def _furnish(folder: Path) -> None:
    house = open_house(folder, settings_of({}), machine())
    await house.administration.add_domain(DOMAIN)
    for person in PEOPLE:
        await house.administration.add_account(f"{person}@{DOMAIN}", PASSWORD)
    await house.close()


def furnish(folder: Path) -> None:
    """Make a data directory with these people; once for all tests, which copy it."""
    folder.mkdir()
    asyncio.run(_furnish(folder))


async def set_quotas(house: House, said: Mapping[str, str]) -> None:
    for person, octets in quotas_of(said).items():
        await house.administration.set_quota(f"{person}@{DOMAIN}", octets)


async def deliver(house: House, person: str, octets: bytes) -> None:
    """As another program on this machine would hand it over."""
    letter = await house.lmtp.begin(Client(Peer("unix", 0, "unix", 0, "t")), ReversePath(None))
    await letter.add_recipient(ForwardPath(parse_address(f"{person}@{DOMAIN}")))
    await letter.begin_content()
    await letter.add_content(octets)
    await letter.finish()


W = TypeVar("W", bound="HouseWire")


class HouseWire:
    """A connection's part without its socket: every piece is fed, all events are answered, output is kept."""

    def __init__(self, session: ImapSession, piece: int) -> None:
        self.session = session
        self._engine = session.engine
        self._piece = piece  # octets per feed; 0 feeds all at once
        self._out = b""
        self._is_called = False
        self._is_closed = False
        self._tls_due = False
        session.watch(self._call)

    def _call(self) -> None:
        self._is_called = True

    def _gather(self) -> None:
        self._out += b"".join(self._engine.data_to_send())

    async def pump(self) -> None:
        while not self._is_closed:
            event = self._engine.next_event()
            self._gather()
            if event is Signal.NEED_DATA:
                return
            if event is Signal.START_TLS:
                self._tls_due = True
            elif event is Signal.CLOSE:
                self._is_closed = True
            elif event is Signal.MORE:
                await asyncio.sleep(0)  # others have their turn between the pieces of a long answer
            else:
                assert event is not Signal.PAUSED, "the session left an event without an answer"
                await self.session.answer(event)
                self._gather()

    async def wake(self) -> bool:
        """Whether there was something to tell."""
        if not self._is_called or self._is_closed:
            return False
        self._is_called = False
        await self.session.woken()
        self._gather()
        await self.pump()
        return True

    async def send(self, octets: bytes) -> None:
        size = self._piece or max(len(octets), 1)
        if len(octets) > LARGE:
            size = max(size, LARGE_PIECE)
        for start in range(0, len(octets), size):
            self._engine.receive_data(octets[start : start + size])
            await self.pump()

    async def read(self) -> bytes:
        if not self._out and not self._is_closed:
            raise TranscriptError("the server says nothing")
        out, self._out = self._out, b""
        return out

    async def is_silent(self) -> bool:
        return not self._out

    async def close(self) -> None:
        self._engine.receive_data(b"")
        await self.pump()

    async def start_tls(self) -> None:
        assert self._tls_due, "the engine has not asked for TLS"
        self._tls_due = False
        self._engine.tls_started(TLS)
        self.session.secured(TLS)
        await self.pump()


class SettledWire(HouseWire):
    """After each word all sessions of the house have their turn."""

    def __init__(self, session: ImapSession, piece: int, world: HouseWorld) -> None:
        super().__init__(session, piece)
        self._world = world

    async def send(self, octets: bytes) -> None:
        await super().send(octets)
        await self._world.settle()

    async def close(self) -> None:
        await super().close()
        await self._world.settle()


class HouseWorld:
    """Use it within one running loop: `opened`, then sessions, then `close`."""

    def __init__(self, house: House, piece: int = 0) -> None:
        self.house = house
        self._piece = piece
        self._services = {service.name: service for service in serving.services_of(house)}
        self._wires: list[HouseWire] = []

    @classmethod
    async def opened(
        cls,
        template: Path,
        folder: Path,
        said: Mapping[str, str],
        piece: int = 0,
        *,
        workers: Callable[[], Workers] = InlineWorkers,
    ) -> HouseWorld:
        """On a copy of what `furnish` made."""
        shutil.copytree(template, folder)
        house = open_house(folder, settings_of(said), machine(workers))
        await set_quotas(house, said)
        return cls(house, piece)

    async def open(self, *, is_plain: bool = False) -> SettledWire:
        return await self._begun(SettledWire(self._session(is_plain=is_plain), self._piece, self))

    async def open_alone(self) -> HouseWire:
        """A session that nobody else's words wake: for those that work at the same time."""
        return await self._begun(HouseWire(self._session(is_plain=False), self._piece))

    def _session(self, *, is_plain: bool) -> ImapSession:
        service = self._services["imap" if is_plain else "imaps"]
        session = service.new_session(PEER, None if is_plain else TLS)
        assert isinstance(session, ImapSession)
        return session

    async def _begun(self, wire: W) -> W:
        self._wires.append(wire)
        await wire.pump()
        return wire

    async def deliver(self, person: str, octets: bytes) -> None:
        await deliver(self.house, person, octets)
        await self.settle()

    async def wait(self, seconds: float) -> None:
        clock = self.house.machine.clock
        assert isinstance(clock, FakeClock)
        clock.skew += seconds

    async def settle(self) -> None:
        """Until everybody who idles has been told what there is."""
        for _ in range(MAX_TURNS):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not any([await wire.wake() for wire in self._wires]):
                return
        raise AssertionError("the sessions do not come to rest")

    async def abandon(self) -> None:
        """Stop: something has gone wrong already."""
        for wire in self._wires:
            await wire.session.closed()
        await self.house.close()

    async def close(self) -> None:
        """Stop, and look whether anything was left behind or left wrong."""
        for wire in self._wires:
            await wire.close()
            await wire.session.closed()
        house = self.house
        opened = house.mailboxes.desk.open_mailboxes._open.values()
        assert not any(each.is_used for each in opened), "a mailbox is still looked at"
        assert not house.login._guard._lines, "a place in the line for passwords is still held"
        assert not house.blobs._shelf.loose, "a pack of its own belongs to nobody"
        assert not list((house.folder / "packs").glob("*.part")), "a spool was left behind"
        wrong = await house.database.read(_wrong)
        await house.close()
        assert wrong == []


def _wrong(reader: Reader) -> list[integrity.Difference]:
    accounts = [row[0] for row in reader.rows("SELECT id FROM account ORDER BY id")]
    return [each for account in accounts for each in integrity.check_account(reader, account)] + integrity.check_rest(
        reader
    )
