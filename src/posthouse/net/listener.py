# SPDX-License-Identifier: Apache-2.0
"""Accepts connections on one service's sockets, counts them, and ends them when the server stops.

Invariant: a connection is in `connections` from the moment it was welcome until its socket is gone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from posthouse.net.admission import Admission
from posthouse.net.connection import Connection, Terms
from posthouse.net.session import ConnectionLimits, SessionFactory, TlsUpgrader
from posthouse.net.sockets import BACKLOG
from posthouse.ports import Entropy, Peer
from posthouse.telemetry import logger, trace_id

_log = logger("net")

# A bound socket, or host and port for a loop that has no real sockets (the simulated world).
Endpoint = socket.socket | tuple[str, int]
DEFAULT_LIMITS = ConnectionLimits()


class Listener:
    """One service (`smtp`, `pop3s`, …) on one or more sockets."""

    def __init__(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        new_session: SessionFactory,
        *,
        entropy: Entropy,
        admission: Admission,
        refusal: Callable[[Peer, str], bytes] | None = None,
        tls: TlsUpgrader | None = None,
        is_implicit_tls: bool = False,
        limits: ConnectionLimits = DEFAULT_LIMITS,
    ) -> None:
        """`refusal(peer, reason)` gives the farewell for a connection too many (`421 …`); without it and on
        listeners with implicit TLS the socket is just closed. `tls` serves STARTTLS and implicit TLS alike."""
        self.name = name
        self.connections: dict[Connection, None] = {}  # in the order of arrival, so that runs can be repeated
        self.refused = 0  # connections turned away since the start
        self.accepted = 0
        self._endpoints = tuple(endpoints)
        self._admission = admission
        self._servers: list[asyncio.AbstractServer] = []
        self._is_closed = False
        self._terms = Terms(
            new_session=new_session,
            new_trace=lambda: trace_id(entropy.octets(8)),
            opened=self._opened,
            closed=self._closed,
            refusal=refusal,
            tls=tls,
            is_implicit_tls=is_implicit_tls,
            limits=limits,
        )

    async def start(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()

        def accept() -> Connection:
            return Connection(self._terms, loop)

        for endpoint in self._endpoints:
            server: asyncio.AbstractServer
            if isinstance(endpoint, tuple):
                server = await loop.create_server(accept, *endpoint, backlog=BACKLOG)
            elif hasattr(socket, "AF_UNIX") and endpoint.family == socket.AF_UNIX:
                server = await loop.create_unix_server(accept, sock=endpoint, backlog=BACKLOG)
            else:
                server = await loop.create_server(accept, sock=endpoint, backlog=BACKLOG)
            self._servers.append(server)

    @property
    def ports(self) -> list[int]:
        """The TCP ports that were really bound, in the order of the endpoints."""
        return [
            end[1] if isinstance(end, tuple) else end.getsockname()[1]
            for end in self._endpoints
            if isinstance(end, tuple) or end.family in (socket.AF_INET, socket.AF_INET6)
        ]

    def close(self) -> None:
        """Accept no more. Connections go on."""
        self._is_closed = True
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def stop(self, grace: float) -> None:
        """Accept no more, let every session say goodbye, and after `grace` seconds drop those that are left."""
        self.close()
        for connection in tuple(self.connections):
            connection.shut_down()
        await self._wait_for_all(grace)
        left = tuple(self.connections)
        if left:
            _log.warning("connections dropped", listener=self.name, count=len(left), grace=grace)
            for connection in left:
                connection.abort()
            await self._wait_for_all(grace)

    async def _wait_for_all(self, limit: float) -> None:
        tasks = [connection.task for connection in self.connections if connection.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=limit)

    def _opened(self, connection: Connection) -> str | None:
        peer = connection.peer
        reason = "the server is stopping" if self._is_closed else self._admission.enter(peer.address)
        if reason is not None:
            self.refused += 1
            _log.info("connection refused", listener=self.name, peer=peer.address, trace=peer.trace, reason=reason)
            return reason
        self.accepted += 1
        self.connections[connection] = None
        return None

    def _closed(self, connection: Connection) -> None:
        del self.connections[connection]
        self._admission.leave(connection.peer.address)
