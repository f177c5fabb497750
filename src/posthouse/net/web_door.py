# SPDX-License-Identifier: Apache-2.0
"""The door for strangers who speak HTTP: admission, TLS and time limits around uvicorn's own protocol.

Invariant: a connection that was let in is in `connections` until it is gone, and it is gone after a bounded time
whatever its peer does or leaves undone.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from posthouse.net.admission import Admission
from posthouse.net.peer import peer_of
from posthouse.net.session import TlsRefused, TlsUpgrader
from posthouse.telemetry import logger

_log = logger("web")


@dataclass(frozen=True, slots=True)
class WebLimits:
    """What a stranger gets."""

    # Octets of request line and header. Browsers send under 2 KiB; cookies of others' making are no business of ours.
    header: int = 16 * 1024
    # Seconds for a whole TLS handshake; honest ones on a bad mobile line take under 10.
    handshake: float = 15.0
    # Seconds from the connection, or from the last answer, until the next answer is with the peer. Requests have a few
    # KiB and so have answers: a telephone line needs three seconds for both.
    exchange: float = 40.0
    # Seconds that a connection is kept for a further request. A mail program asks two or three things in a row.
    idle: int = 10


DEFAULT_LIMITS = WebLimits()


class WebDoor:
    """Makes the connections of one listener. `tls` None: plain HTTP."""

    def __init__(
        self, admission: Admission, tls: TlsUpgrader | None = None, limits: WebLimits = DEFAULT_LIMITS
    ) -> None:
        self.admission = admission
        self.tls = tls
        self.limits = limits
        self.connections: dict[WebConnection, None] = {}
        self.is_closed = False
        # uvicorn tells of every request that is not HTTP, and strangers send those all day; the application tells of
        # its own faults.
        self.log = logging.getLogger("uvicorn.error.door")
        self.log.setLevel(logging.CRITICAL)

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> WebConnection:
        """What uvicorn calls for each connection."""
        return WebConnection(self, config, server_state, app_state, _loop)

    def refuse(self) -> None:
        """Let nobody in any more, and drop those that are still in their handshake: they have asked for nothing."""
        self.is_closed = True
        for connection in tuple(self.connections):
            if not connection.has_begun:
                connection.drop()

    def close(self) -> None:
        """Drop what is left, at once."""
        self.is_closed = True
        for connection in tuple(self.connections):
            connection.drop()


class WebConnection(H11Protocol):
    """One connection. uvicorn's part begins when TLS is there."""

    def __init__(
        self,
        door: WebDoor,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self.logger = door.log
        self._door = door
        self._address = ""
        self._socket: asyncio.Transport | None = None  # what is to be dropped
        self._held: list[bytes] = []  # octets that came before uvicorn's part began
        self.has_begun = False
        self._is_in = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- asyncio.Protocol -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since uvloop's transports are asyncio.Transport by what they do only.
        self._socket = plain = cast("asyncio.Transport", transport)
        self._address = peer_of(transport, "").address
        reason = "the server is stopping" if self._door.is_closed else self._door.admission.enter(self._address)
        if reason is not None:
            _log.info("connection refused", peer=self._address, reason=reason)
            plain.abort()
            return
        self._is_in = True
        self._door.connections[self] = None
        if self._door.tls is None:
            self._begin(plain)
            return
        self._task = self.loop.create_task(self._secure(plain, self._door.tls))

    def data_received(self, data: bytes) -> None:
        if self.has_begun:
            self._receive(data)
        elif self._is_in:
            # The handshake's begin, before our task is awake; or the request, which TLS 1.3 lets come with its end.
            self._held.append(data)

    def eof_received(self) -> None:
        if self.has_begun:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self.has_begun:
            super().connection_lost(exc)

    def pause_writing(self) -> None:
        if self.has_begun:
            super().pause_writing()

    def resume_writing(self) -> None:
        if self.has_begun:
            super().resume_writing()

    # --- uvicorn's ----------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        self._set_timer()  # before: a further request may have come already
        try:
            super().on_response_complete()
        except h11.LocalProtocolError:
            self.drop()  # as in _receive

    # --- time and end -------------------------------------------------------------------------------

    def drop(self) -> None:
        """Now, whatever is going on. May be called twice."""
        if self._task is not None:
            self._task.cancel()
        if self._socket is not None:
            self._socket.abort()
        if not self.has_begun:
            self._leave()  # asyncio tells us nothing of a connection that ends in its handshake

    async def _secure(self, transport: asyncio.Transport, tls: TlsUpgrader) -> None:
        if transport.is_closing():
            self._leave()
            return
        # Here, not when the connection is made: uvloop begins to read after that. Nothing may come from now on, for it
        # would be taken for what TLS has let through.
        transport.pause_reading()
        early, self._held = b"".join(self._held), []
        try:
            secured, info = await tls.upgrade(transport, self, self._door.limits.handshake, early)
        except TlsRefused as refused:
            _log.debug("tls refused", peer=self._address, reason=str(refused))
            transport.abort()
            self._leave()
            return
        except asyncio.CancelledError:
            transport.abort()
            self._leave()
            raise
        _log.debug("tls", peer=self._address, version=info.version, name=info.server_name)
        if not self._is_in:  # gone in the same moment
            secured.abort()
            return
        self._socket = secured
        self._begin(secured)

    def _begin(self, transport: asyncio.Transport) -> None:
        self.has_begun = True
        self._set_timer()
        super().connection_made(transport)
        held, self._held = b"".join(self._held), []
        if held:
            self._receive(held)

    def _receive(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.LocalProtocolError:
            self.drop()  # nonsense behind a request that is being answered: no answer to it fits any more

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self._door.limits.exchange, self._late) if self._is_in else None

    def _late(self) -> None:
        _log.info("too slow", peer=self._address)
        self.drop()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_in:
            self._is_in = False
            del self._door.connections[self]
            self._door.admission.leave(self._address)
