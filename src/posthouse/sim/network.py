# SPDX-License-Identifier: Apache-2.0
"""The network of the world: hosts by IP address, their doors and connections, and every fault of a network.

Invariant: what one side writes reaches the other in order and once, or the connection breaks, or the link does
not pass. A connection that lived through the silence of one of its hosts never carries anything again.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable
from contextvars import Context
from random import Random

from posthouse.sim.links import BARE_PACKET, Links, Packet
from posthouse.sim.loop import OUTSIDE, Handle, Life, WorldLoop, current_life
from posthouse.sim.transport import WorldTransport

FIRST_EPHEMERAL_PORT = 49152  # RFC 6335 §6
# Seconds until the system gives up a connection that nobody answers: six SYNs of Linux, 1 + 2 + … + 64 s.
SYN_SECONDS = 127.0
# The longest pause between two tries of TCP to send the same octets again (RFC 6298 §2.5 and Linux: 120 s).
LONGEST_RETRANSMISSION = 120.0

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Network:
    """Hosts are named by their address. Times are seconds, sizes octets."""

    def __init__(self, loop: WorldLoop, seed: str) -> None:
        self.loop = loop
        self._links = Links(loop, seed)
        self._chance = Random(f"{seed}/network")  # noqa: S311 - reproducible on purpose
        self._doors: dict[tuple[str, int], WorldServer] = {}
        self._transports: dict[WorldTransport, None] = {}
        self._refusing: dict[str, None] = {}
        self._unreachable: dict[str, None] = {}
        self._ports = FIRST_EPHEMERAL_PORT - 1

    # --- links ------------------------------------------------------------------------------------

    def cut(self, here: str, there: str) -> None:
        """Nothing passes between these two until `mend`; nobody is told, and nothing is lost."""
        self._links.cut(here, there)

    def mend(self, here: str, there: str) -> None:
        self._links.mend(here, there)

    def partition(self, one: Iterable[str], other: Iterable[str] | None = None) -> None:
        """As `cut` between each of one group and each of the other; None: everybody else. Until `heal`."""
        self._links.partition(one, other)

    def heal(self) -> None:
        """End all partitions. Links that were cut stay so."""
        self._links.heal()

    def slow(self, host: str, octets_per_second: float | None) -> None:
        """All that comes to and from this host shares a line of that speed each way; None: as fast as the others."""
        self._links.slow(host, octets_per_second)

    def delay(self, host: str, seconds: float) -> None:
        """Every packet to and from this host takes so much longer; 0: no more."""
        self._links.delay(host, seconds)

    def latency(self, here: str, there: str) -> float:
        """One way, without delays."""
        return self._links.latency(here, there)

    # --- hosts ------------------------------------------------------------------------------------

    def silence(self, host: str) -> None:
        """All packets to and from this host vanish until `unsilence`, as when its power fails: both sides of its
        connections become half-open and nobody is told."""
        for transport in self._of(host):
            transport.forget()
        self._links.silence(host)

    def unsilence(self, host: str) -> None:
        """The host is there again, and knows nothing of connections from before: it answers them with a reset.
        Who has sent octets in vain sends them again, by and by, and so hears of it."""
        silent = self._links.unsilence(host)
        for transport in self._of(host):
            if transport.is_starving:
                pause = self._chance.uniform(0, min(silent, LONGEST_RETRANSMISSION))
                self.later(pause, transport.send_again, transport.context)

    def reset(self, host: str) -> None:
        """Every connection of this host breaks for both sides with ECONNRESET."""
        for transport in self._of(host):
            self.loop.call_soon(transport.was_reset, context=transport.context)

    def refuse(self, host: str) -> None:
        """Connections to this host are refused, as if nobody listened, until `accept`. Old ones go on."""
        self._refusing[host] = None

    def accept(self, host: str) -> None:
        """End `refuse` and `unreachable`."""
        self._refusing.pop(host, None)
        self._unreachable.pop(host, None)

    def unreachable(self, host: str) -> None:
        """A router says that there is no way to this host (EHOSTUNREACH), until `accept`. Old connections go on."""
        self._unreachable[host] = None

    def end(self, life: Life) -> None:
        """That program is gone: the system closes its doors and resets its connections."""
        for place in [place for place, door in self._doors.items() if door.life is life]:
            del self._doors[place]
        for transport in [each for each in self._transports if each.life is life]:
            transport.vanish()

    def connections(self, host: str) -> int:
        """Ends of connections that are open on this host."""
        return sum(transport.here == host for transport in self._transports)

    def belongings(self, life: Life) -> list[str]:
        """Doors and connections that this program holds open, the doors first. One that was given up while the answer
        was on its way is none: the program has closed its socket."""
        doors = [f"the door {host}:{port}" for (host, port), door in self._doors.items() if door.life is life]
        mine = [each for each in self._transports if each.life is life and each.is_begun and not each.is_closing()]
        return doors + [f"a connection with {each.there}" for each in mine]

    def _of(self, host: str) -> list[WorldTransport]:
        """Both ends of every connection of that host."""
        return [each for each in self._transports if host in (each.here, each.there)]

    # --- what loops and transports ask of it ------------------------------------------------------

    def carry(
        self,
        here: str,
        there: str,
        arrive: Callable[[], None],
        context: Context,
        *,
        size: int = BARE_PACKET,
        vanished: Callable[[], None] | None = None,
        is_urgent: bool = False,
    ) -> None:
        """Call `arrive` in that context when a packet from here has come there; `vanished` if it never will."""
        self._links.carry(Packet(here, there, arrive, context, size=size, vanished=vanished, is_urgent=is_urgent))

    def later(self, seconds: float, call: Callable[[], None], context: Context) -> Handle:
        """What the system of a host does then, and not a program on it."""
        return self._links.later(seconds, call, context)

    def segment(self, here: str, there: str) -> int | None:
        """Octets that one packet carries at most; None: as many as one likes."""
        return self._links.segment(here, there)

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
        """Raises ConnectionRefusedError, OSError (EHOSTUNREACH) and, late, TimeoutError (ETIMEDOUT)."""
        life = current_life()
        if life is None:
            raise RuntimeError("only somebody in the world can connect")
        answered: asyncio.Future[WorldTransport] = self.loop.create_future()
        # Nobody may be left to ask for its error when the life has ended meanwhile.
        answered.add_done_callback(lambda done: done.cancelled() or done.exception(), context=OUTSIDE)
        self._ports += 1
        source = (life.address, self._ports)
        if not self._links.passes(life.address, host):
            self._unanswered(life, answered)
        self.carry(
            life.address,
            host,
            lambda: self._arrived(life, source, (host, port), answered),
            OUTSIDE,
            vanished=lambda: self._unanswered(life, answered),
        )
        transport = await answered
        protocol = factory()
        transport.begin(protocol)
        return transport, protocol

    def _arrived(
        self, life: Life, source: tuple[str, int], target: tuple[str, int], answered: asyncio.Future[WorldTransport]
    ) -> None:
        host = target[0]
        door = self._doors.get(target)
        if answered.done():
            return  # nobody waits for it any more
        if host in self._unreachable or door is None or host in self._refusing:
            why = errno.EHOSTUNREACH if host in self._unreachable else errno.ECONNREFUSED
            self.carry(host, source[0], lambda: _fail(answered, why), life.context)
            return
        here = WorldTransport(self, life, source, target)
        there = WorldTransport(self, door.life, target, source)
        here.join(there)
        there.join(here)
        self._transports[here] = self._transports[there] = None
        self.loop.call_soon(there.begin, door.factory, context=door.life.context)

        def not_answered() -> None:
            here.vanish()
            self._unanswered(life, answered)

        self.carry(host, source[0], lambda: _accept(answered, here), life.context, vanished=not_answered)

    def _unanswered(self, life: Life, answered: asyncio.Future[WorldTransport]) -> None:
        self.later(SYN_SECONDS, lambda: _fail(answered, errno.ETIMEDOUT), life.context)

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


def _fail(answered: asyncio.Future[WorldTransport], code: int) -> None:
    if not answered.done():
        # OSError makes itself the subclass that belongs to the code.
        answered.set_exception(OSError(code, os.strerror(code)))


def _accept(answered: asyncio.Future[WorldTransport], transport: WorldTransport) -> None:
    if answered.done():
        transport.abort()
    else:
        answered.set_result(transport)
