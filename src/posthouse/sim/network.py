# SPDX-License-Identifier: Apache-2.0
"""The network of the world: hosts by IP address, connections with latency, links that can be cut.

Invariant: what one side writes reaches the other in order and once, or the connection breaks; what is on its way
when a link is cut arrives when the link is mended (TCP sends it again), and nothing overtakes it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from random import Random

from posthouse.sim.loop import OUTSIDE, Life, WorldLoop, current_life
from posthouse.sim.transport import WorldTransport

# Seconds from host to host, one way: from the same city to the other side of the earth.
LATENCY = (0.002, 0.150)
FIRST_EPHEMERAL_PORT = 49152  # RFC 6335 §6

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


@dataclass(frozen=True, slots=True)
class _Packet:
    """`arrive` is called in `context` when it has come to the other side."""

    number: int
    pair: tuple[str, str]
    arrive: Callable[[], None]
    context: Context


class Network:
    def __init__(self, loop: WorldLoop, seed: str) -> None:
        self.loop = loop
        self._seed = seed
        self._doors: dict[tuple[str, int], WorldServer] = {}
        self._transports: dict[WorldTransport, None] = {}
        self._latencies: dict[tuple[str, str], float] = {}
        self._cut: dict[tuple[str, str], list[_Packet]] = {}  # with what waits there
        self._packets = 0
        self._ports = FIRST_EPHEMERAL_PORT - 1

    # --- what the world does to it ----------------------------------------------------------------

    def cut(self, here: str, there: str) -> None:
        """Nothing passes between these two addresses until `mend`; nobody is told."""
        self._cut.setdefault(_pair(here, there), [])

    def mend(self, here: str, there: str) -> None:
        # What was on its way when the link was cut came to wait after what was sent then; it goes first.
        for packet in sorted(self._cut.pop(_pair(here, there), []), key=lambda packet: packet.number):
            self._send(packet)

    def end(self, life: Life) -> None:
        """That program is gone: the system closes its doors and resets its connections."""
        for place in [place for place, door in self._doors.items() if door.life is life]:
            del self._doors[place]
        for transport in [each for each in self._transports if each.life is life]:
            transport.vanish()

    # --- what loops and transports ask of it ------------------------------------------------------

    def latency(self, here: str, there: str) -> float:
        pair = _pair(here, there)
        known = self._latencies.get(pair)
        if known is None:
            chance = Random(f"{self._seed}/{pair}")  # noqa: S311 - reproducible on purpose
            known = self._latencies[pair] = chance.uniform(*LATENCY)
        return known

    def carry(self, here: str, there: str, arrive: Callable[[], None], context: Context) -> None:
        """Call `arrive` in that context when a packet from here has come there."""
        self._packets += 1
        packet = _Packet(self._packets, _pair(here, there), arrive, context)
        waiting = self._cut.get(packet.pair)
        if waiting is None:
            self._send(packet)
        else:
            waiting.append(packet)

    def _send(self, packet: _Packet) -> None:
        self.loop.call_later(self.latency(*packet.pair), self._land, packet, context=packet.context)

    def _land(self, packet: _Packet) -> None:
        waiting = self._cut.get(packet.pair)
        if waiting is None:
            packet.arrive()
        else:  # cut while it was on its way
            waiting.append(packet)

    def listen(self, factory: ProtocolFactory, host: str, port: int) -> WorldServer:
        life = current_life()
        if life is None or not life.is_alive:
            raise RuntimeError("only the living can listen")
        if (host, port) in self._doors:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        door = WorldServer(self, life, factory, (host, port))
        self._doors[host, port] = door
        return door

    async def connect(
        self, factory: ProtocolFactory, host: str, port: int
    ) -> tuple[WorldTransport, asyncio.BaseProtocol]:
        """Raises ConnectionRefusedError; waits for ever where the link is cut, so the caller sets a limit."""
        life = current_life()
        if life is None:
            raise RuntimeError("only somebody in the world can connect")
        answered: asyncio.Future[WorldTransport] = self.loop.create_future()
        self._ports += 1
        source = (life.address, self._ports)
        self.carry(life.address, host, lambda: self._arrived(life, source, (host, port), answered), OUTSIDE)
        transport = await answered
        protocol = factory()
        transport.begin(protocol)
        return transport, protocol

    def _arrived(
        self, life: Life, source: tuple[str, int], target: tuple[str, int], answered: asyncio.Future[WorldTransport]
    ) -> None:
        door = self._doors.get(target)
        if answered.done():
            return  # nobody waits for it any more
        if door is None:
            self.carry(target[0], source[0], lambda: _refuse(answered), life.context)
            return
        here = WorldTransport(self, life, source, target)
        there = WorldTransport(self, door.life, target, source)
        here.join(there)
        there.join(here)
        self._transports[here] = self._transports[there] = None
        self.loop.call_soon(there.begin, door.factory, context=door.life.context)
        self.carry(target[0], source[0], lambda: _accept(answered, here), life.context)

    def gone(self, transport: WorldTransport) -> None:
        self._transports.pop(transport, None)

    def close(self, door: WorldServer) -> None:
        if self._doors.get(door.place) is door:
            del self._doors[door.place]


class WorldServer(asyncio.AbstractServer):
    """An open door: what create_server gives."""

    def __init__(self, network: Network, life: Life, factory: ProtocolFactory, place: tuple[str, int]) -> None:
        self.life = life
        self.factory = factory
        self.place = place
        self._network = network

    def close(self) -> None:
        self._network.close(self)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._network.loop

    async def start_serving(self) -> None:
        """It does from the start."""

    async def serve_forever(self) -> None:
        await self.get_loop().create_future()

    async def wait_closed(self) -> None:
        """Connections that were accepted go on."""

    def is_serving(self) -> bool:
        return self.life.is_alive


def _pair(here: str, there: str) -> tuple[str, str]:
    return (here, there) if here <= there else (there, here)


def _refuse(answered: asyncio.Future[WorldTransport]) -> None:
    if not answered.done():
        answered.set_exception(ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))


def _accept(answered: asyncio.Future[WorldTransport], transport: WorldTransport) -> None:
    if answered.done():
        transport.abort()
    else:
        answered.set_result(transport)
