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
from posthouse.sim.loop import Life

if TYPE_CHECKING:
    from posthouse.sim.network import Network

# What one read gives at most, as a socket's buffer would.
READ_SIZE = 64 * 1024
# Octets that the system takes from a program before it waits for the other side.
SYSTEM_BUFFER = 64 * 1024
HIGH_WATER = 64 * 1024  # asyncio's own default


@dataclass(frozen=True, slots=True)
class TlsWord:
    """A step of a TLS handshake, among the octets: the client's hello, or the server's answer.

    To somebody who does not expect TLS it is garbage.
    """

    name: str | None = None  # the server name that the client wants (SNI)
    names: tuple[str, ...] = ()  # in the server's certificate
    is_trusted: bool = False  # its issuer
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
        self._here, self._there = here[0], there[0]
        self._peer = self
        self._protocol: asyncio.Protocol | None = None
        self._inbox: deque[Item] = deque()
        self._on_way = 0  # octets that the peer's program has not read yet
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._is_stuck = False
        self._is_reading = True
        self._is_pumping = False
        self._is_eof_sent = False
        self._is_closing = False
        self._is_gone = False
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
        self._pump()

    # --- reading ----------------------------------------------------------------------------------

    def arrive(self, item: Item) -> None:
        """From the network."""
        if self._is_gone:
            if not isinstance(item, _End):
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
        if self._on_way > self._high and not self._is_stuck and self._protocol is not None:
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
        peer = self._peer
        self._network.carry(self._here, self._there, lambda: peer.arrive(item), peer.context)

    def was_read(self, size: int) -> None:
        """The peer's program has read so much."""
        self._on_way -= size
        loop = self._network.loop
        if self._is_stuck and self._on_way <= self._low:
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

    def is_closing(self) -> bool:
        return self._is_closing

    def _reset_peer(self) -> None:
        peer = self._peer
        self._network.carry(self._here, self._there, peer.was_reset, peer.context)

    def was_reset(self) -> None:
        """From the network."""
        self._is_closing = True
        self._lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))

    def _lose(self, error: Exception | None) -> None:
        if self._is_gone:
            return
        self._is_gone = True
        self._network.gone(self)
        self._inbox.clear()
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)
        if self._protocol is not None and not self._is_shaking_hands:
            self._protocol.connection_lost(error)

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
