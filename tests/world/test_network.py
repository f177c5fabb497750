# SPDX-License-Identifier: Apache-2.0
"""The world's network: connections, refusals, resets, half-close, flow control, cut links, TLS, DNS."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from posthouse.net.session import TlsRefused
from posthouse.ports import MxRecord, NameNotFound, ResolverFault
from posthouse.sim.dns import WorldDns, WorldResolver
from posthouse.sim.loop import Life, WorldLoop
from posthouse.sim.network import Network
from posthouse.sim.tls import Certificate, WorldTlsStarter, WorldTlsUpgrader
from posthouse.sim.transport import WorldTransport

T = TypeVar("T")
HERE, THERE, PORT = "198.51.100.1", "192.0.2.1", 25


class End(asyncio.Protocol):
    """Writes down what it is told. `stays_half_open`: as the connection driver of the house."""

    def __init__(self, *, stays_half_open: bool = False) -> None:
        self.told: list[str] = []
        self.received = b""
        self.loop = asyncio.get_running_loop()
        self.lost_at: float | None = None
        self._stays_half_open = stays_half_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, WorldTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.told.append("end")
        return self._stays_half_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("closed" if exc is None else type(exc).__name__)
        self.lost_at = self.loop.time()

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


class Pair:
    """A client and a server, and one connection between them."""

    def __init__(self, loop: WorldLoop) -> None:
        self.loop = loop
        self.network = loop.network = Network(loop, "1")
        self.client_life, self.server_life = Life("client", HERE), Life("server", THERE)
        self.accepted: list[End] = []

    async def listen(self) -> None:
        def accept() -> End:
            self.accepted.append(End(stays_half_open=True))
            return self.accepted[-1]

        await self.as_server(self.loop.create_server(accept, THERE, PORT))

    async def connect(self) -> tuple[End, End]:
        _, client = await self.as_client(self.loop.create_connection(End, THERE, PORT))
        assert isinstance(client, End)
        return client, self.accepted[-1]

    async def as_client(self, work: Awaitable[T]) -> T:
        return await self.loop.create_task(_wait(work), context=self.client_life.context)

    async def as_server(self, work: Awaitable[T]) -> T:
        return await self.loop.create_task(_wait(work), context=self.server_life.context)


async def _wait(work: Awaitable[T]) -> T:
    return await work


def play(script: Callable[[Pair], Awaitable[T]]) -> T:
    loop = WorldLoop()
    pair = Pair(loop)

    async def main() -> T:
        return await script(pair)

    result = loop.run(main())
    assert loop.faults == []
    return result


def test_octets_arrive_in_order_after_the_latency() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        assert client.transport.get_extra_info("peername") == (THERE, PORT)
        assert server.transport.get_extra_info("peername")[0] == HERE
        client.transport.write(b"one ")
        client.transport.writelines([b"two ", memoryview(b"three")])
        await asyncio.sleep(pair.network.latency(HERE, THERE) * 0.9)
        assert server.received == b""
        await asyncio.sleep(1)
        assert server.received == b"one two three"

    play(script)


def test_nobody_listens() -> None:
    async def script(pair: Pair) -> None:
        with pytest.raises(ConnectionRefusedError, match="refused"):
            await pair.connect()

    play(script)


def test_half_close() -> None:
    """The peer hears the end and can still answer."""

    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        client.transport.write(b"question")
        client.transport.write_eof()
        await asyncio.sleep(1)
        assert (server.received, server.told) == (b"question", ["end"])
        server.transport.write(b"answer")
        server.transport.close()
        await asyncio.sleep(1)
        assert (client.received, client.told) == (b"answer", ["end", "closed"])
        assert server.told == ["end", "closed"]

    play(script)


def test_a_crash_resets_connections_and_closes_doors() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        pair.loop.end(pair.server_life)
        pair.network.end(pair.server_life)
        await asyncio.sleep(1)
        assert client.told == ["ConnectionResetError"]
        assert server.told == []  # the dead are told nothing
        with pytest.raises(ConnectionRefusedError):
            await pair.connect()

    play(script)


def test_writing_to_a_closed_connection_resets_it() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        client.transport.close()
        await asyncio.sleep(1)
        server.transport.write(b"too late")
        await asyncio.sleep(1)
        assert client.told == ["closed"]
        assert server.told == ["end", "ConnectionResetError"]

    play(script)


def test_flow_control() -> None:
    """Who does not read makes the writer stop, and gets everything when it reads on."""

    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        server.transport.pause_reading()
        content = bytes(range(256)) * 2000
        client.transport.write(content)
        await asyncio.sleep(1)
        assert client.told == ["pause"]
        assert server.received == b""
        assert client.transport.get_write_buffer_size() > 0
        server.transport.resume_reading()
        await asyncio.sleep(1)
        assert server.received == content
        assert client.told == ["pause", "resume"]
        assert client.transport.get_write_buffer_size() == 0

    play(script)


def test_close_waits_until_the_system_has_the_octets() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        server.transport.pause_reading()
        client.transport.write(b"x" * 200_000)
        client.transport.close()
        await asyncio.sleep(100)
        assert client.lost_at is None
        server.transport.resume_reading()
        await asyncio.sleep(1)
        assert len(server.received) == 200_000
        assert client.told[-1] == "closed"

    play(script)


def test_a_cut_link_holds_everything_until_it_is_mended() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        client.transport.write(b"before ")
        pair.network.cut(HERE, THERE)
        client.transport.write(b"meanwhile ")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await pair.connect()
        assert (server.received, client.told) == (b"", [])
        pair.network.mend(HERE, THERE)
        client.transport.write(b"after")
        await asyncio.sleep(1)
        assert server.received == b"before meanwhile after"
        assert len(pair.accepted) == 1  # nobody waits for the other one any more
        await pair.connect()

    play(script)


@pytest.mark.parametrize(
    ("certificate", "host", "is_verified", "is_accepted"),
    [
        (Certificate(("mail.bob.test",)), "mail.bob.test", True, True),
        (Certificate(("mail.bob.test",)), "mail.eve.test", True, False),
        (Certificate(("mail.bob.test",)), "mail.eve.test", False, True),
        (Certificate(("mail.bob.test",), is_trusted=False), "mail.bob.test", True, False),
        (Certificate(("mail.bob.test",), is_broken=True), "mail.bob.test", False, False),
    ],
)
def test_tls_is_accepted_or_refused(certificate: Certificate, host: str, is_verified: bool, is_accepted: bool) -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        server.transport.pause_reading()
        upgrade = WorldTlsUpgrader(certificate).upgrade(server.transport, server, 30.0, b"")
        upgrading = asyncio.ensure_future(pair.as_server(upgrade))
        start = WorldTlsStarter().start(client.transport, client, host, is_verified=is_verified)
        if not is_accepted:
            with pytest.raises(TlsRefused):
                await pair.as_client(start)
            await asyncio.gather(upgrading, return_exceptions=True)
            return
        _, tls = await pair.as_client(start)
        assert (tls.server_name, tls.is_verified) == (host, is_verified)
        assert (await upgrading)[1].server_name == host
        client.transport.write(b"secret")
        await asyncio.sleep(1)
        assert server.received == b"secret"
        assert not client.transport.can_write_eof()

    play(script)


def test_plaintext_is_no_handshake() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        server.transport.pause_reading()
        client.transport.write(b"EHLO me\r\n")
        with pytest.raises(TlsRefused):
            await pair.as_server(WorldTlsUpgrader(Certificate(())).upgrade(server.transport, server, 30.0, b""))
        assert server.received == b""

    play(script)


def test_dns() -> None:
    async def script(pair: Pair) -> None:
        dns = WorldDns()
        resolver = WorldResolver(dns)
        dns.add_host("mail.bob.test", "192.0.2.2", "2001:db8::2")
        dns.add_mx("bob.test", "mail.bob.test")
        dns.of("bob.test").txt.append(b"v=spf1 mx -all")
        assert await resolver.mx("bob.test") == [MxRecord(10, "mail.bob.test")]
        assert [str(each) for each in await resolver.addresses("mail.bob.test")] == ["192.0.2.2", "2001:db8::2"]
        assert await resolver.txt("bob.test") == [b"v=spf1 mx -all"]
        assert await resolver.names(ipaddress.ip_address("2001:db8::2")) == ["mail.bob.test"]
        assert await resolver.addresses("bob.test") == []
        with pytest.raises(NameNotFound):
            await resolver.mx("eve.test")
        dns.fail("bob.test")
        with pytest.raises(ResolverFault):
            await resolver.mx("bob.test")
        dns.clear("bob.test")
        dns.remove("bob.test")
        with pytest.raises(NameNotFound):
            await resolver.mx("bob.test")

    play(script)
