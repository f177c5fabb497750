# SPDX-License-Identifier: Apache-2.0
"""One connection of a stranger, as a script reads it: a line, so many octets, all up to the final dot.

Invariant: a script that waits for a connection which has ended, or for octets that will never come, gets `Over`.
"""

from __future__ import annotations

import asyncio

from posthouse.sim.transport import WorldTransport

# Octets of one line. Replies and commands are shorter; more means that somebody talks nonsense.
LONGEST_LINE = 64 * 1024
FINAL_DOT = b"\r\n.\r\n"


class Over(Exception):  # noqa: N818 - an end, not an error
    """The conversation is over: the other side has gone, or we have."""


class Wire(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: WorldTransport | None = None
        self._buffer = bytearray()
        self._has_ended = False  # the other side sends no more
        self._is_lost = False
        self._waiter: asyncio.Future[None] | None = None

    # --- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, WorldTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._wake()

    def eof_received(self) -> bool:
        self._has_ended = True
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended = self._is_lost = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- what a script does -----------------------------------------------------------------------

    @property
    def end(self) -> WorldTransport:
        assert self.transport is not None
        return self.transport

    @property
    def has_more(self) -> bool:
        """Whether the other side has said something that was not read yet."""
        return bool(self._buffer)

    async def line(self) -> bytes:
        """Up to CRLF, or a bare LF, without it."""
        searched = 0
        while (stop := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > LONGEST_LINE:
                raise Over
            await self._more()
        line = bytes(self._buffer[:stop])
        del self._buffer[: stop + 1]
        return line.removesuffix(b"\r")

    async def some(self, count: int) -> bytes:
        """At least one octet, at most so many."""
        while not self._buffer:
            await self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def started(self, count: int) -> None:
        """Wait until that many octets are there, unread."""
        while len(self._buffer) < count:
            await self._more()

    async def until_dot(self) -> bytes:
        """The content before the final dot, with its last CRLF, dots still doubled."""
        searched = 0
        while True:
            if self._buffer.startswith(FINAL_DOT[2:]):
                del self._buffer[: len(FINAL_DOT) - 2]
                return b""
            stop = self._buffer.find(FINAL_DOT, searched)
            if stop >= 0:
                content = bytes(self._buffer[: stop + 2])
                del self._buffer[: stop + len(FINAL_DOT)]
                return content
            searched = max(0, len(self._buffer) - len(FINAL_DOT))
            await self._more()

    async def _more(self) -> None:
        if self._has_ended:
            raise Over
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def pause(self, seconds: float) -> None:
        """Do nothing for a while; Over when the connection is lost by then."""
        await asyncio.sleep(seconds)
        if self._is_lost:
            raise Over

    async def loss(self) -> None:
        """Say and read nothing until the other side has gone."""
        while not self._has_ended:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def write(self, octets: bytes, *, is_dribbling: bool = False) -> None:
        if self._is_lost:
            raise Over
        if is_dribbling:
            for number in range(len(octets)):
                self.end.write(octets[number : number + 1])
        else:
            self.end.write(octets)

    def discard(self) -> None:
        """Forget what was not read (RFC 3207 §4.2)."""
        self._buffer.clear()

    def close(self) -> None:
        self.end.close()

    def abort(self) -> None:
        self.end.abort()
