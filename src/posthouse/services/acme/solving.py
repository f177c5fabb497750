# SPDX-License-Identifier: Apache-2.0
"""How a challenge is met: by our own web server, our own TLS, or a record in the zone.

Invariant: what was provided for the authority is taken away again, however the order ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from posthouse.ports import PublicDns, ZoneEditor, ZoneFault, ZoneRecord
from posthouse.services.acme.jws import encode
from posthouse.services.acme.words import AcmeFault
from posthouse.services.challenges import ChallengeKind, Challenges
from posthouse.telemetry import logger

TXT_TTL = 60  # seconds: the record lives for minutes
# Seconds between looks at the authoritative servers. A NOTIFY brings the change in one or two, a hoster's queue in
# minutes; a question costs nobody anything.
FIRST_PAUSE = 1.0
LAST_PAUSE = 15.0

_log = logger("acme")


class Solver(Protocol):
    """`provide` yields an event that is set when the authority has looked, or None where that cannot be seen."""

    @property
    def kind(self) -> ChallengeKind: ...

    def provide(
        self, name: str, token: str, authorization: str
    ) -> AbstractAsyncContextManager[asyncio.Event | None]: ...


@dataclass(frozen=True, slots=True)
class HttpSolver:
    challenges: Challenges
    kind: ChallengeKind = "http-01"

    def provide(self, name: str, token: str, authorization: str) -> AbstractAsyncContextManager[asyncio.Event | None]:
        return self.challenges.http(token, authorization)


@dataclass(frozen=True, slots=True)
class TlsSolver:
    challenges: Challenges
    kind: ChallengeKind = "tls-alpn-01"

    def provide(self, name: str, token: str, authorization: str) -> AbstractAsyncContextManager[asyncio.Event | None]:
        return self.challenges.tls(name, authorization)


@dataclass(frozen=True, slots=True)
class DnsSolver:
    """RFC 8555 §8.4. `patience`: seconds until every authoritative server must show the record."""

    editor: ZoneEditor
    public: PublicDns
    patience: float
    kind: ChallengeKind = "dns-01"

    @contextlib.asynccontextmanager
    async def provide(self, name: str, token: str, authorization: str) -> AsyncIterator[asyncio.Event | None]:
        value = encode(hashlib.sha256(authorization.encode()).digest())
        try:
            # Many lead this one name by a CNAME into a zone that programs may write to.
            where = await self.public.canonical(f"_acme-challenge.{name}")
            zone = await self.editor.zone_of(where)
            record = ZoneRecord(where, "TXT", value, TXT_TTL)
            # Others of this name stay: a wildcard and its parent need two at once.
            await self.editor.change(zone, add=[record], remove=[])
        except ZoneFault as fault:
            raise AcmeFault(f"dns-01 for {name}: {fault}") from None
        try:
            await self._until_shown(record)
            yield None
        finally:
            try:
                await self.editor.change(zone, add=[], remove=[record])
            except ZoneFault as fault:  # it does no harm there, and the certificate may be good
                _log.warning("challenge record not removed", name=where, reason=str(fault))

    async def _until_shown(self, record: ZoneRecord) -> None:
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + self.patience, FIRST_PAUSE
        while True:
            try:
                servers = await self.public.shown(record.name, record.kind)
            except ZoneFault as fault:
                raise AcmeFault(f"{record.name}: {fault}") from None
            missing = [each.server for each in servers if each.records is not None and record not in each.records]
            silent = [each.server for each in servers if each.records is None]
            if not missing and not silent:
                return
            if loop.time() + pause > end:
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)
        if missing or len(silent) == len(servers):
            text = ", ".join(missing or silent)
            raise AcmeFault(f"{record.name}: not shown within {self.patience:.0f} seconds by {text}")
        # A name server that is down for us may be down for everybody: the authority asks the others then.
        _log.warning("name servers do not answer", name=record.name, servers=silent)
