# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the ports: a clock that follows the loop, counted entropy, a resolver and mail hosts by script."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from posthouse.mail.address import Address
from posthouse.mail.envelope import Envelope, TlsWish
from posthouse.outcome import DELIVERED, NO_ANSWER_FROM_HOST, Outcome, RemoteReply, Status
from posthouse.ports import (
    Buffer,
    Change,
    ConnectFault,
    IPAddress,
    MxRecord,
    NameNotFound,
    Proven,
    ResolverFault,
    Target,
    TlsaRecord,
    TlsInfo,
    TlsTrouble,
    Transaction,
    WebFault,
    WebReply,
)

T = TypeVar("T")
EPOCH = 1_800_000_000.0  # where fake clocks start: 2027-01-15


class FakeClock:
    """Wall and monotonic time of the running loop; `skew` lets the wall clock jump."""

    def __init__(self) -> None:
        self.skew = 0.0

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return EPOCH + self.monotonic() + self.skew


class SetClock:
    """Stands still until it is set."""

    def __init__(self, now: float = EPOCH) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - EPOCH


class FakeEntropy:
    """The same octets in every run."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._count = 0

    def octets(self, count: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(f"{self._seed}/{self._count}".encode()).digest(count)


class FakeBus:
    """Tells at once."""

    def __init__(self) -> None:
        self.published: list[Change] = []
        self._told: list[tuple[str, int, Callable[[Change], None]]] = []

    def publish(self, change: Change) -> None:
        self.published.append(change)
        for topic, key, told in list(self._told):
            if topic == change.topic and key in (0, change.key):
                told(change)

    def subscribe(self, topic: str, key: int, told: Callable[[Change], None]) -> Callable[[], None]:
        entry = (topic, key, told)
        self._told.append(entry)
        return lambda: self._told.remove(entry)


class FakeResolver:
    """Answers from tables. A name in no table does not exist; one in `broken` gives SERVFAIL."""

    def __init__(self) -> None:
        self.mx_records: dict[str, list[MxRecord]] = {}
        self.address_records: dict[str, list[IPAddress]] = {}
        self.text_records: dict[str, list[bytes]] = {}
        self.tlsa_records: dict[str, list[TlsaRecord]] = {}
        self.signed: set[str] = set()  # names whose answers are authentic
        self.aliases: dict[str, str] = {}  # where the records of a name lie
        self.other_records: dict[str, dict[str, list[str]]] = {}
        self.broken: set[str] = set()
        self.asked: list[str] = []

    def host(self, name: str, *addresses: str) -> None:
        self.address_records[name] = [ipaddress.ip_address(address) for address in addresses]

    def domain(self, name: str, *hosts: tuple[int, str]) -> None:
        self.mx_records[name] = [MxRecord(preference, host) for preference, host in hosts]

    def text(self, name: str, *texts: bytes) -> None:
        self.text_records[name] = list(texts)

    def record(self, name: str, kind: str, *values: str) -> None:
        """Of any other type, as in a zone file."""
        self.other_records.setdefault(name, {})[kind] = list(values)

    def _look(self, name: str) -> None:
        self.asked.append(name)
        if name in self.broken:
            raise ResolverFault(f"SERVFAIL for {name}")
        tables = (
            self.mx_records,
            self.address_records,
            self.text_records,
            self.tlsa_records,
            self.other_records,
        )
        if not any(name in table for table in tables):
            raise NameNotFound(name)

    async def mx(self, domain: str) -> list[MxRecord]:
        self._look(domain)
        return list(self.mx_records.get(domain, []))

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        self._look(host)
        return [found for found in self.address_records.get(host, []) if version in (0, found.version)]

    async def txt(self, name: str) -> list[bytes]:
        self._look(name)
        return list(self.text_records.get(name, []))

    async def names(self, address: IPAddress) -> list[str]:
        """The hosts that have this address."""
        if str(address) in self.broken:
            raise ResolverFault(f"SERVFAIL for {address}")
        found = [host for host, addresses in self.address_records.items() if address in addresses]
        if not found:
            raise NameNotFound(str(address))
        return found

    async def proven_mx(self, domain: str) -> Proven[MxRecord]:
        return self._proven(domain, await self.mx(domain))

    async def proven_addresses(self, host: str) -> Proven[IPAddress]:
        return self._proven(host, await self.addresses(host))

    async def proven_alias(self, host: str) -> Proven[str]:
        self._look(host)
        target = self.aliases.get(host)
        return Proven(() if target is None else (target,), f"{host} CNAME" in self.signed, host)

    async def tlsa(self, name: str) -> Proven[TlsaRecord]:
        self._look(name)
        return self._proven(name, self.tlsa_records.get(name, []))

    async def distrust(self) -> str:
        return "" if self.signed else "nothing is signed"

    async def passed_over(self) -> list[str]:
        return []

    def _proven(self, name: str, records: list[T]) -> Proven[T]:
        return Proven(tuple(records), name in self.signed, self.aliases.get(name, name))

    async def records(self, name: str, kind: str) -> list[str]:
        self._look(name)
        return list(self.other_records.get(name, {}).get(kind, []))


@dataclass
class FakeHost:
    """A mail host. `answer` gives the reply for one recipient; `takes` seconds pass per mail transaction, and
    `connects_in` until it greets."""

    is_up: bool = True
    extensions: Mapping[str, str] = field(
        default_factory=lambda: {"PIPELINING": "", "8BITMIME": "", "SMTPUTF8": "", "DSN": "", "SIZE": "0"}
    )
    answer: Callable[[str], RemoteReply] = lambda recipient: RemoteReply(250, DELIVERED, "fine")
    greeting: RemoteReply | None = None  # what it says instead of serving
    drops: bool = False  # the connection breaks within every transaction
    letters_per_session: int | None = None  # after so many it closes
    takes: float = 0.1
    connects_in: float = 0.01
    probes: list[float] = field(default_factory=list)  # times of attempts to connect
    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    letters: list[tuple[str, tuple[str, ...], bytes]] = field(default_factory=list)  # what it accepted
    envelopes: list[Envelope] = field(default_factory=list)
    tls: TlsInfo | None = field(default_factory=lambda: TlsInfo("TLSv1.3", "AES"))

    @property
    def recipients(self) -> list[str]:
        return [recipient for _, recipients, _ in self.letters for recipient in recipients]


class FakeConnection:
    def __init__(self, host: FakeHost, target: Target) -> None:
        self._host = host
        self._target = target
        self._is_open = True
        self._left = host.letters_per_session
        self.extensions = host.extensions
        self.tls = host.tls
        self.trouble: TlsTrouble | None = None

    @property
    def is_usable(self) -> bool:
        return self._is_open and self._left != 0

    def _outcome(self, status: Status, text: str, reply: RemoteReply | None) -> Outcome:
        tls = self.tls.version if self.tls else ""
        return Outcome(status, text, self._target.host, self._target.address, tls, reply)

    async def send(self, envelope: Envelope, content: Sequence[Buffer]) -> list[Outcome]:
        assert self._is_open, "a mail transaction on a closed connection"
        await asyncio.sleep(self._host.takes)
        self._host.envelopes.append(envelope)
        self._left = self._left and self._left - 1
        if self._host.drops or not self._host.is_up:
            self._is_open = False
            return [self._outcome(Status(4, 4, 2), "connection lost", None) for _ in envelope.forward_paths]
        outcomes = []
        for path in envelope.forward_paths:
            reply = self._host.answer(str(path))
            status = reply.status or Status(reply.code // 100, 0, 0)
            outcomes.append(self._outcome(status, f"{reply.code} {reply.text}", reply))
            if reply.code == 421:
                self._is_open = False
        taken = tuple(str(p) for p, o in zip(envelope.forward_paths, outcomes, strict=True) if o.is_delivered)
        if taken:
            octets = b"".join(bytes(part) for part in content)
            self._host.letters.append((str(envelope.reverse_path), taken, octets))
        return outcomes

    async def close(self) -> None:
        if self._host.open_now:
            self._host.open_now -= 1
        self._is_open = False


class FakeTransport:
    """Mail hosts by IP address; an address without one gives no answer."""

    def __init__(self) -> None:
        self.hosts: dict[str, FakeHost] = {}
        self.targets: list[Target] = []

    async def connect(self, target: Target) -> FakeConnection:
        self.targets.append(target)
        host = self.hosts.get(target.address)
        if host is not None:
            host.probes.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.01 if host is None else host.connects_in)
        if host is None or not host.is_up:
            raise ConnectFault(
                Outcome(NO_ANSWER_FROM_HOST, "connection refused", target.host, target.address),
            )
        if host.greeting is not None:
            reply = host.greeting
            status = reply.status or Status(reply.code // 100, 0, 0)
            raise ConnectFault(Outcome(status, reply.text, target.host, target.address, "", reply))
        host.connections += 1
        host.open_now += 1
        host.most_open = max(host.most_open, host.open_now)
        return FakeConnection(host, target)


class FakeWeb:
    """HTTPS by URL: what is answered, or the fault. `asked` are the URLs in their order; `takes` seconds each."""

    def __init__(self) -> None:
        self.pages: dict[str, WebReply | WebFault] = {}
        self.asked: list[str] = []
        self.takes = 0.1

    def page(self, url: str, body: bytes, status: int = 200, content_type: str = "text/plain") -> None:
        self.pages[url] = WebReply(status, {"content-type": content_type}, body)

    async def get(self, url: str, *, limit: int, seconds: float) -> WebReply:
        self.asked.append(url)
        await asyncio.sleep(self.takes)
        found = self.pages.get(url, WebFault(f"{url}: no connection"))
        if isinstance(found, WebFault):
            raise found
        assert len(found.body) <= limit
        return found

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str], limit: int, seconds: float) -> WebReply:
        return await self.get(url, limit=limit, seconds=seconds)


class FakePosting:
    """What is run in somebody's unit of work, and announced after it."""

    def __init__(self, run: Callable[[Transaction], None]) -> None:
        self._run = run
        self.is_announced = False

    def __call__(self, tx: Transaction) -> None:
        self._run(tx)

    def announce(self) -> None:
        self.is_announced = True


class FakePoster:
    """Takes reports: `posted` are those whose unit of work was committed (the database calls what it is given)."""

    def __init__(self) -> None:
        self.prepared: list[tuple[bytes, str]] = []
        self.posted: list[tuple[bytes, str]] = []
        self.wishes: list[TlsWish] = []

    async def prepare(self, octets: bytes, to: Address, trace: str, *, wish: TlsWish = TlsWish.USUAL) -> FakePosting:
        self.wishes.append(wish)
        self.prepared.append((octets, str(to)))
        return FakePosting(lambda tx: self.posted.append((octets, str(to))))
