# SPDX-License-Identifier: Apache-2.0
"""What the driver wants from a session, and from whoever starts TLS. The edges and `tls.py` fulfil it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from posthouse.ports import Peer, TlsInfo
from posthouse.protocol.engine import Engine


class TlsRefused(Exception):  # noqa: N818 - the peer's answer, not a fault of ours
    """The handshake failed, was broken off or took too long; the connection is of no more use. `result`: what TLSRPT
    calls it (RFC 8460 §4.3). `is_judged`: its certificate was seen, and is not good."""

    def __init__(self, reason: str, *, result: str = "validation-failure", is_judged: bool = False) -> None:
        super().__init__(reason)
        self.result = result
        self.is_judged = is_judged


class TlsUpgrader(Protocol):
    """Starts TLS as server on an accepted connection. In a simulation it only says what was agreed on."""

    async def upgrade(
        self, transport: asyncio.Transport, protocol: asyncio.Protocol, limit: float, early: bytes
    ) -> tuple[asyncio.Transport, TlsInfo]:
        """Do the handshake within `limit` seconds; the new transport replaces the old. Raises TlsRefused.

        Reading is paused. `early`: octets of the handshake that were read already (implicit TLS only).
        """


class Session(Protocol):
    """Translates one connection's events into calls of services, and their outcomes into answers."""

    @property
    def engine(self) -> Engine[Any]: ...

    async def answer(self, event: Any) -> None:
        """Answer one event through the engine. On return the engine must be ready for `next_event`."""

    def secured(self, tls: TlsInfo) -> None:
        """TLS was started in the middle of the session; `engine.tls_started` has been called."""

    async def closed(self) -> None:
        """The conversation is over, however it ended. Called exactly once; release locks here."""


@runtime_checkable
class Wakeful(Protocol):
    """A session that has something to say though its peer has said nothing (IMAP's IDLE)."""

    def watch(self, wake: Callable[[], None]) -> None:
        """Told once, first. `wake` may be called at any time in the loop's thread: `woken` follows soon."""

    async def woken(self) -> None:
        """Say through the engine what is new. Never while an event is being answered."""


# With implicit TLS the handshake is done before the session exists: whoever makes the session tells it and its
# engine (`engine.tls_started` before the first event); `secured` is not called then.
SessionFactory = Callable[[Peer, TlsInfo | None], Session]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Seconds. The engine's own `wait_limit` governs the time between commands."""

    handshake: float = 30.0  # a whole TLS handshake; honest ones on a bad mobile line take under 10
    write_stall: float = 300.0  # the peer accepts nothing at all (RFC 5321 §4.5.3.2: no limit under 2 minutes)
    linger: float = 2.0  # after our last word, for the peer to read it before the socket is closed
    close: float = 10.0  # for the last octets and TLS's close_notify, then the socket is reset
