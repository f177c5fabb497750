# SPDX-License-Identifier: Apache-2.0
"""Web servers that serve MTA-STS policies of domains of the world (RFC 8461 §3.3), well or badly.

Invariant: the record in DNS names the policy that the host serves now, unless the script has said otherwise.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto

from posthouse.net.session import TlsRefused
from posthouse.services.own_policy import WELL_KNOWN_PATH, OwnPolicy
from posthouse.sim.dns import WorldDns
from posthouse.sim.loop import Life
from posthouse.sim.network import Network
from posthouse.sim.strangers_wire import Over, Wire
from posthouse.sim.tls import Certificate, WorldTlsUpgrader
from posthouse.sim.web import PORT

PATIENCE = 30.0  # seconds of one request
SLOW = 25.0  # longer than anybody waits for a policy


class Mood(Enum):
    """What the host does with each request."""

    GOOD = auto()
    BROKEN = auto()  # 500
    MOVED = auto()  # a redirect, which nobody may follow
    NONSENSE = auto()  # a page that is no policy
    HTML = auto()  # the policy, as another type
    SLOW = auto()
    WRONG_NAME = auto()  # its certificate is for another host
    UNTRUSTED = auto()
    GONE = auto()  # it breaks every connection


class PolicyHost:
    def __init__(self, domain: str, address: str, policy: OwnPolicy, *, network: Network, dns: WorldDns) -> None:
        self.domain = domain
        self.name = f"mta-sts.{domain}"
        self.mood = Mood.GOOD
        self.versions: dict[bytes, OwnPolicy] = {}  # all that were ever served, by their text
        self.change(policy)
        self._life = Life(self.name, address)
        self._network = network
        self._dns = dns
        self._tasks: dict[asyncio.Task[None], None] = {}
        dns.add_host(self.name, address)
        self.announce()

    @property
    def url(self) -> str:
        return f"https://{self.name}{WELL_KNOWN_PATH}"

    def change(self, policy: OwnPolicy) -> None:
        """The page, not the record."""
        self.policy = policy
        self.versions[policy.text.encode()] = policy

    def announce(self) -> None:
        """The record says which policy there is."""
        self._dns.of(f"_mta-sts.{self.domain}").txt[:] = [self.policy.record.encode()]

    async def start(self) -> None:
        loop, address = self._network.loop, self._life.address
        await loop.create_task(loop.create_server(self._welcome, address, PORT), context=self._life.context)

    def end(self) -> None:
        self._network.loop.end(self._life)
        self._network.end(self._life)

    def _welcome(self) -> Wire:
        return _Visitor(self)

    def serve(self, wire: Wire) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(wire))
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _serve(self, wire: Wire) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._answer(wire)
        except (Over, OSError, TimeoutError, TlsRefused):
            pass
        finally:
            wire.close()

    async def _answer(self, wire: Wire) -> None:
        if self.mood is Mood.GONE:
            wire.abort()
            return
        certificate = Certificate(
            ("elsewhere.example",) if self.mood is Mood.WRONG_NAME else (self.name,),
            is_trusted=self.mood is not Mood.UNTRUSTED,
        )
        await WorldTlsUpgrader(certificate).upgrade(wire.end, wire, PATIENCE, b"")
        while await wire.line():
            pass
        if self.mood is Mood.SLOW:
            await wire.pause(SLOW)
        status = {Mood.BROKEN: "500 Oh no", Mood.MOVED: "301 Elsewhere"}.get(self.mood, "200 OK")
        body = b"<p>Welcome to our new site</p>" if self.mood is Mood.NONSENSE else self.policy.text.encode()
        kind = "text/html" if self.mood is Mood.HTML else "text/plain"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        moved = "Location: https://elsewhere.example/policy\r\n" if self.mood is Mood.MOVED else ""
        wire.write(f"{head}{moved}\r\n".encode() + body)


class _Visitor(Wire):
    """A connection to a policy host."""

    def __init__(self, host: PolicyHost) -> None:
        super().__init__()
        self._host = host

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._host.serve(self)
