# SPDX-License-Identifier: Apache-2.0
"""What the world has seen itself of the traffic between servers: letters that were taken, sessions that came about,
letters that were handed to them, and servers that ended suddenly.

Invariant: a witness changes nothing, and says nothing that it has from the services whose word is checked by it.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posthouse.mail.envelope import Envelope, TlsWish
from posthouse.outcome import Outcome
from posthouse.ports import Buffer, MailConnection, MailTransport, Target, TlsInfo, TlsTrouble, WebReply

OK = 200


@dataclass(frozen=True, slots=True)
class Arrival:
    """A letter from another server, judged by this one. `authors`: their domains, of one that was refused for them."""

    at: float
    server: str
    message_id: str
    authors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """A connection for letters to that domain, made from `begun` to `at`. `tls` None: in the clear. `is_usual`: its
    letters demand no more and no less than others."""

    begun: float
    at: float
    server: str
    domain: str
    host: str
    tls: TlsInfo | None
    is_usual: bool


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of the web that came whole. `is_good`: as a policy must be sent (RFC 8461 §3.2)."""

    at: float
    server: str
    url: str
    body: bytes
    is_good: bool


@dataclass(frozen=True, slots=True)
class Handover:
    """A letter went into a session, whatever became of it."""

    at: float
    session: Session


@dataclass(slots=True)
class Witness:
    """Times in seconds since the world began; servers by their names. `stops`: every end of a server, `ends`: sudden
    ones."""

    clock: Callable[[], float]
    arrivals: list[Arrival] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    handovers: list[Handover] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    stops: dict[str, list[float]] = field(default_factory=dict)
    ends: dict[str, list[float]] = field(default_factory=dict)

    def hear(self, server: str, event: MutableMapping[str, Any]) -> None:
        """What a server logs."""
        if event["event"] == "accepted" and event.get("kind") == "mx":
            self.arrivals.append(Arrival(self.clock(), server, str(event["message_id"])))
        elif event["event"] == "refused by policy":
            self.arrivals.append(Arrival(self.clock(), server, "", tuple(str(event["author"]).split())))

    def stopped(self, server: str) -> None:
        self.stops.setdefault(server, []).append(self.clock())

    def read(self, server: str, url: str, reply: WebReply) -> None:
        is_good = reply.status == OK and reply.headers.get("content-type") == "text/plain"
        self.pages.append(Page(self.clock(), server, url, reply.body, is_good))

    def ended(self, server: str) -> None:
        self.stopped(server)
        self.ends.setdefault(server, []).append(self.clock())

    def watched(self, server: str, transport: MailTransport) -> MailTransport:
        return _WatchedTransport(self, server, transport)


class _WatchedTransport:
    def __init__(self, witness: Witness, server: str, inner: MailTransport) -> None:
        self._witness = witness
        self._server = server
        self._inner = inner

    async def connect(self, target: Target) -> MailConnection:
        begun = self._witness.clock()
        connection = await self._inner.connect(target)
        domain = "" if target.proof is None else target.proof.domain
        is_usual = target.wish is TlsWish.USUAL
        now = self._witness.clock()
        session = Session(begun, now, self._server, domain, target.host, connection.tls, is_usual)
        self._witness.sessions.append(session)
        return _WatchedConnection(self._witness, session, connection)


class _WatchedConnection:
    def __init__(self, witness: Witness, session: Session, inner: MailConnection) -> None:
        self.extensions = inner.extensions
        self.tls: TlsInfo | None = inner.tls
        self.trouble: TlsTrouble | None = inner.trouble
        self._witness = witness
        self._session = session
        self._inner = inner

    @property
    def is_usable(self) -> bool:
        return self._inner.is_usable

    async def send(self, envelope: Envelope, content: Sequence[Buffer]) -> list[Outcome]:
        self._witness.handovers.append(Handover(self._witness.clock(), self._session))
        return await self._inner.send(envelope, content)

    async def close(self) -> None:
        await self._inner.close()
