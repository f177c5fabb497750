# SPDX-License-Identifier: Apache-2.0
"""One end of a connection in the world: an asyncio transport without a socket.

Invariant: its protocol is told of the connection, of octets in order, of the end of input at most once, and
exactly once that the connection is lost, as asyncio promises.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from posthouse.ports import TlsInfo
from posthouse.sim.links import BARE_PACKET
from posthouse.sim.loop import OUTSIDE, Handle, Life

if TYPE_CHECKING:
    from posthouse.sim.network import Network

# What one read gives at most, as a socket's buffer would.
READ_SIZE = 64 * 1024
# Octets that the system takes from a program before it waits for the other side.
SYSTEM_BUFFER = 64 * 1024
# Pieces that one connection has on a slow line at once: the rest waits in its own buffer, so that connections
# share the line, and what was given up is not sent.
FLYING = 2
HIGH_WATER = 64 * 1024  # asyncio's own default
# Seconds for which the system sends octets again that nobody acknowledges, before it gives the connection up:
# net.ipv4.tcp_retries2 = 15 of Linux.
RETRANSMISSION_SECONDS = 924.6


@dataclass(frozen=True, slots=True)
class TlsWord:
    """A step of a TLS handshake, among the octets: the client's hello, or the server's answer.

    To somebody who does not expect TLS it is garbage.
    """

    name: str | None = None  # the server name that the client wants (SNI)
    names: tuple[str, ...] = ()  # in the server's certificate
    is_trusted: bool = False  # its issuer
    key: bytes = b""  # by which TLSA records know it
    is_refused: bool = False

    octets = b"\x16\x03\x01\x02\x00\x01"  # how a TLS record begins


class _End:
    """The peer sends no more."""


END = _End()
Item = bytes | TlsWord | _End


class WorldTransport(asyncio.Transport):
    def __init__(self, network: Network, life: Life, here: tuple[str, int], there: tuple[str, int]) -> None:
        super().__init__({"sockname": here, "peername": there})
        self.life = life
        self.tls: TlsInfo | None = None
        self._network = network
        self.context: Context = life.context
        self.here, self.there = here[0], there[0]
        self._peer = self
        self._protocol: asyncio.Protocol | None = None
        self._inbox: deque[Item] = deque()
        self._outbox: deque[Item] = deque()  # waits for a slow line
        self._flying = 0  # items of it that are on the line
        self._on_way = 0  # octets that the peer's program has not read yet
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._is_stuck = False
        self._is_reading = True
        self._is_pumping = False
        self._is_eof_sent = False
        self._is_closing = False
        self._is_gone = False
        self._error: Exception | None = None  # why it is gone
        self._is_forgotten = False  # one of the hosts went silent: it knows no such connection any more
        self._hunger: Handle | None = None  # octets have vanished: runs out when the system gives up
        self._taker: asyncio.Future[None] | None = None  # the handshake that takes items itself
        self._is_shaking_hands = False

    def join(self, peer: WorldTransport) -> None:
        self._peer = peer

    def begin(self, protocol: Callable[[], asyncio.BaseProtocol] | asyncio.BaseProtocol) -> None:
        """Give it its protocol (or what makes one), and the protocol its connection."""
        made = protocol if isinstance(protocol, asyncio.BaseProtocol) else protocol()
        assert isinstance(made, asyncio.Protocol)
        self._protocol = made
        made.connection_made(self)
        if self._is_gone:  # reset before its program was awake
            made.connection_lost(self._error)
        self._pump()

    # --- reading ----------------------------------------------------------------------------------

    def arrive(self, item: Item) -> None:
        """From the network."""
        if self._is_gone or self._is_forgotten:
            if self._is_forgotten or not isinstance(item, _End):
                self._reset_peer()  # there is nobody to read it
            return
        self._inbox.append(item)
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)
        self._pump()

    def _pump(self) -> None:
        if self._protocol is None or self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self._inbox and self._is_reading and not self._is_shaking_hands:
                item = self._inbox.popleft()
                if isinstance(item, _End):
                    if not self._protocol.eof_received():
                        self.close()
                    continue
                self._protocol.data_received(self._octets(item))
        finally:
            self._is_pumping = False

    def _octets(self, item: bytes | TlsWord) -> bytes:
        """What one read gives: what has come together, but no more than a buffer takes."""
        if isinstance(item, TlsWord):
            return item.octets
        parts, size = [item], len(item)
        while self._inbox and size < READ_SIZE and isinstance(self._inbox[0], bytes):
            following = self._inbox.popleft()
            assert isinstance(following, bytes)
            parts.append(following)
            size += len(following)
        octets = b"".join(parts)
        if size > READ_SIZE:
            self._inbox.appendleft(octets[READ_SIZE:])
            octets = octets[:READ_SIZE]
        self._peer.was_read(len(octets))
        return octets

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        if not self._is_closing:
            self._is_reading = True
            self._network.loop.call_soon(self._pump, context=self.context)

    def is_reading(self) -> bool:
        return self._is_reading and not self._is_closing

    # --- writing ----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        octets = bytes(data)
        if not octets or self._is_closing or self._is_eof_sent:
            return
        self._on_way += len(octets)
        self._send(octets)
        if self.get_write_buffer_size() > self._high and not self._is_stuck and self._protocol is not None:
            self._is_stuck = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._is_eof_sent and not self._is_closing:
            self._is_eof_sent = True
            self._send(END)

    def can_write_eof(self) -> bool:
        return self.tls is None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return max(0, self._on_way - SYSTEM_BUFFER)

    def _send(self, item: Item) -> None:
        most = self._network.segment(self.here, self.there)
        if most is None and not self._outbox:
            self._put(item, self._peer.arrive)
            return
        if most is not None and isinstance(item, bytes):
            self._outbox += [item[start : start + most] for start in range(0, len(item), most)]
        else:
            self._outbox.append(item)
        self._send_more()

    def _send_more(self) -> None:
        while self._outbox and self._flying < FLYING:
            self._flying += 1
            self._put(self._outbox.popleft(), self._landed)

    def _landed(self, item: Item) -> None:
        self._flying -= 1
        self._peer.arrive(item)
        self._send_more()

    def _put(self, item: Item, arrive: Callable[[Item], None]) -> None:
        peer = self._peer
        # Where the peer's program has died, its system answers.
        context = peer.context if peer.life.is_alive else OUTSIDE
        size = BARE_PACKET + len(item) if isinstance(item, bytes) else BARE_PACKET
        self._network.carry(self.here, self.there, lambda: arrive(item), context, size=size, vanished=self._vanished)

    def was_read(self, size: int) -> None:
        """The peer's program has read so much."""
        self._on_way -= size
        loop = self._network.loop
        if self._is_stuck and self.get_write_buffer_size() <= self._low:
            self._is_stuck = False
            loop.call_soon(self._resume_writing, context=self.context)
        if self._is_closing and not self._is_gone and self._on_way <= SYSTEM_BUFFER:
            loop.call_soon(self._lose, None, context=self.context)

    def _resume_writing(self) -> None:
        if not self._is_stuck and not self._is_gone and self._protocol is not None:
            self._protocol.resume_writing()

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._is_reading = False
        if any(isinstance(item, bytes) for item in self._inbox):
            self._reset_peer()  # octets that nobody will read: the system says so, rudely (RFC 1122 §4.2.2.13)
        elif not self._is_eof_sent:
            self._is_eof_sent = True
            self._send(END)
        if self._on_way <= SYSTEM_BUFFER:
            self._network.loop.call_soon(self._lose, None, context=self.context)

    def abort(self) -> None:
        if self._is_gone:
            return
        self._is_closing = True
        self._reset_peer()
        self._network.loop.call_soon(self._lose, None, context=self.context)

    def vanish(self) -> None:
        """Its program has died; the system tells the peer."""
        self._is_closing = self._is_gone = True
        self._network.gone(self)
        self._reset_peer()

    @property
    def is_begun(self) -> bool:
        """Its program knows of it."""
        return self._protocol is not None

    def is_closing(self) -> bool:
        return self._is_closing

    def _reset_peer(self) -> None:
        peer = self._peer
        self._outbox.clear()
        self._network.carry(self.here, self.there, peer.was_reset, peer.context, is_urgent=True)

    def was_reset(self) -> None:
        """From the network."""
        self._break(errno.ECONNRESET)

    def _break(self, code: int) -> None:
        self._is_closing = True
        self._outbox.clear()
        self._lose(OSError(code, os.strerror(code)))  # OSError makes itself the subclass that belongs to the code

    def _lose(self, error: Exception | None) -> None:
        if self._is_gone:
            return
        self._is_gone = True
        self._error = error
        self._network.gone(self)
        self._inbox.clear()
        if self._hunger is not None:
            self._hunger.cancel()
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)
        if self._protocol is not None and not self._is_shaking_hands:
            self._protocol.connection_lost(error)

    # --- silence ----------------------------------------------------------------------------------

    def forget(self) -> None:
        """One of the two hosts went silent: nothing passes any more, and later the answer is a reset."""
        self._is_forgotten = True

    @property
    def is_starving(self) -> bool:
        """Whether octets were sent that nobody will ever acknowledge."""
        return self._hunger is not None and not self._is_gone

    def _vanished(self) -> None:
        if self._hunger is None and not self._is_gone:
            self._hunger = self._network.later(RETRANSMISSION_SECONDS, self._starved, self.context)

    def _starved(self) -> None:
        self._break(errno.ETIMEDOUT)

    def send_again(self) -> None:
        """The system tries the vanished octets once more."""
        if not self._is_gone:
            self._send(b"")

    # --- TLS (sim/tls.py) -------------------------------------------------------------------------

    def say(self, word: TlsWord) -> None:
        if not self._is_closing:
            self._send(word)

    def begin_handshake(self) -> None:
        """From now on the protocol hears nothing; `take` does."""
        self._is_shaking_hands = True

    async def take(self) -> Item | None:
        """The next thing that comes; None when the connection is lost."""
        while not self._inbox:
            if self._is_gone:
                return None
            self._taker = self._network.loop.create_future()
            try:
                await self._taker
            finally:
                self._taker = None
        return self._inbox.popleft()

    def end_handshake(self, tls: TlsInfo) -> None:
        self.tls = tls
        self._is_shaking_hands = False
        self.resume_reading()

    # --- facts ------------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self.tls
        return super().get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol
