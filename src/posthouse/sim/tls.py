# SPDX-License-Identifier: Apache-2.0
"""TLS in the world: both seams, without cryptography. A handshake says accepted, refused, and the names.

Invariant: as with the real thing, plaintext where a handshake should be breaks it, and a client that insists on
a certificate gets a trusted one for that name or none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from posthouse.net.session import TlsRefused
from posthouse.net.smtp_tls import HANDSHAKE_SECONDS
from posthouse.ports import DaneDemand, TlsInfo
from posthouse.sim.transport import TlsWord, WorldTransport

SMTP_PORT = 25
VERSION, CIPHER = "TLSv1.3", "TLS_AES_256_GCM_SHA384"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a server shows. `is_broken`: it refuses every handshake."""

    names: tuple[str, ...]
    is_trusted: bool = True
    is_broken: bool = False
    key: bytes = b""  # by which TLSA records know it


@dataclass(frozen=True, slots=True)
class WorldTls(TlsInfo):
    """What a client has agreed on, and what it was shown."""

    shown: Certificate | None = None


class WorldTlsUpgrader:
    """TlsUpgrader: the server's side. `at_smtp`: what other servers are shown, at port 25."""

    def __init__(self, certificate: Certificate) -> None:
        self.at_smtp = certificate
        self._certificate = certificate

    async def upgrade(
        self, transport: asyncio.Transport, protocol: asyncio.Protocol, limit: float, early: bytes
    ) -> tuple[asyncio.Transport, TlsInfo]:
        assert isinstance(transport, WorldTransport)
        is_smtp = transport.get_extra_info("sockname")[1] == SMTP_PORT
        certificate = self.at_smtp if is_smtp else self._certificate
        word = await _hear(transport, limit) if not early else None
        if word is None:
            transport.abort()
            raise TlsRefused("the peer does not speak TLS")
        transport.say(
            TlsWord(
                word.name,
                certificate.names,
                certificate.is_trusted,
                key=certificate.key,
                is_refused=certificate.is_broken,
            )
        )
        if certificate.is_broken:
            transport.close()
            raise TlsRefused("no cipher in common")
        tls = TlsInfo(VERSION, CIPHER, word.name)
        transport.end_handshake(tls)
        return transport, tls


class WorldTlsStarter:
    """TlsStarter: the client's side."""

    async def start(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        host: str,
        *,
        is_verified: bool,
        dane: DaneDemand | None = None,
    ) -> tuple[asyncio.Transport, TlsInfo]:
        assert isinstance(transport, WorldTransport)
        transport.say(TlsWord(host))
        word = await _hear(transport, HANDSHAKE_SECONDS)
        if word is None or word.is_refused:
            transport.abort()
            raise TlsRefused("the handshake failed")
        is_named = dane is None or any(record.data == word.key for record in dane.records)
        if not is_named or (is_verified and not (word.is_trusted and host in word.names)):
            transport.abort()
            raise TlsRefused("the certificate is bad", result="certificate-not-trusted", is_judged=True)
        trust = "certificate" if dane is None else "DANE-EE"
        is_checked = is_verified or dane is not None
        shown = Certificate(word.names, word.is_trusted, key=word.key)
        tls = WorldTls(VERSION, CIPHER, host, is_checked, trust=trust if is_checked else "", shown=shown)
        transport.end_handshake(tls)
        return transport, tls


async def _hear(transport: WorldTransport, limit: float) -> TlsWord | None:
    transport.begin_handshake()
    try:
        async with asyncio.timeout(limit):
            item = await transport.take()
    except TimeoutError:
        return None
    return item if isinstance(item, TlsWord) else None
