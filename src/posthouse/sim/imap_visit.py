# SPDX-License-Identifier: Apache-2.0
"""One IMAP session of a person, over TLS, one command at a time; what the server tells goes to a listener.

Invariant: a command that is not answered raises; nothing that came before it is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from posthouse.protocol.engine import RemoteProtocolError, Signal
from posthouse.protocol.imap.client import Challenge, Event, Idling, ImapClient, Status
from posthouse.sim.tls import WorldTlsStarter
from posthouse.sim.transport import READ_SIZE, WorldTransport

Heard = Callable[[Event], None]


class Refused(Exception):  # noqa: N818 - an answer
    """NO or BAD: nothing was done."""

    def __init__(self, status: Status) -> None:
        super().__init__(f"{status.kind} [{status.code}] {status.text}")
        self.status = status


class Dismissed(Exception):  # noqa: N818 - an answer
    """The server says BYE."""


class ImapVisit:
    def __init__(self, reader: asyncio.StreamReader, transport: WorldTransport) -> None:
        self.client = ImapClient()
        self.hear: Heard = lambda _event: None
        self._reader = reader
        self._transport = transport
        self._is_leaving = False

    @classmethod
    async def begin(cls, host: str, address: str) -> ImapVisit:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        transport, protocol = await loop.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), address, 993
        )
        assert isinstance(transport, WorldTransport)
        assert isinstance(protocol, asyncio.Protocol)
        await WorldTlsStarter().start(transport, protocol, host, is_verified=True)
        visit = cls(reader, transport)
        await visit._next()  # the greeting
        return visit

    def end(self) -> None:
        self._transport.close()

    async def ask(self, command: str) -> Status:
        """Say something plain, and hear its answer. Raises Refused, Dismissed."""
        return await self.answer(self.client.command(command))

    async def answer(self, tag: str) -> Status:
        while True:
            event = await self._next()
            if isinstance(event, Status) and event.tag == tag:
                if not event.is_ok:
                    raise Refused(event)
                return event
            self._take(event)

    async def leave(self) -> None:
        """LOGOUT. Whoever must not stay just closes (`end`)."""
        self._is_leaving = True
        await self.answer(self.client.logout())

    async def idle(self, seconds: float, is_enough: Callable[[], bool]) -> None:
        """Wait for news, so long or until there is enough of it."""
        tag = self.client.idle()
        while not isinstance(event := await self._next(), Idling):
            self._take(event)
        try:
            async with asyncio.timeout(seconds):
                while not is_enough():
                    self._take(await self._next())
        except TimeoutError:
            pass  # nothing came
        self.client.done()
        await self.answer(tag)

    def _take(self, event: Event) -> None:
        if isinstance(event, Status) and event.kind == "BYE" and not self._is_leaving:
            raise Dismissed(event.text)
        if isinstance(event, Challenge | Idling):
            raise RemoteProtocolError(f"{event} was not expected")
        self.hear(event)

    async def _next(self) -> Event:
        while True:
            event = self.client.next_event()
            if event is Signal.NEED_DATA:
                self._transport.writelines(self.client.data_to_send())
                self.client.receive_data(await self._reader.read(READ_SIZE))
            elif isinstance(event, Signal):
                raise RemoteProtocolError(f"{event} was not expected")
            else:
                return event
