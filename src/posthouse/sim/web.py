# SPDX-License-Identifier: Apache-2.0
"""The web as servers of the world see it: pages over its network, its TLS and its DNS, or no web at all.

Invariant: as with the real client, only a certificate that is trusted for the name is good enough, and an answer is
read to its limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from posthouse.net.session import TlsRefused
from posthouse.ports import NameNotFound, Resolver, ResolverFault, WebFault, WebReply
from posthouse.sim.strangers_wire import Over, Wire
from posthouse.sim.tls import WorldTlsStarter

PORT = 443
PIECE = 4096


class NoWeb:
    async def get(self, url: str, *, limit: int, seconds: float) -> WebReply:
        raise WebFault(f"{url}: no connection: refused")

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str], limit: int, seconds: float) -> WebReply:
        raise WebFault(f"{url}: no connection: refused")


class WorldWeb(NoWeb):
    """`told` hears of each page that came whole. Nobody takes posts."""

    def __init__(self, resolver: Resolver, told: Callable[[str, WebReply], None] = lambda _url, _reply: None) -> None:
        self._resolver = resolver
        self._told = told

    async def get(self, url: str, *, limit: int, seconds: float) -> WebReply:
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(seconds):
                reply = await self._get(parts.hostname or "", parts.path, limit)
        except TlsRefused as refused:
            raise WebFault(f"{url}: {refused}", result=refused.result) from None
        except (Over, OSError, NameNotFound, ResolverFault, ValueError) as error:
            raise WebFault(f"{url}: no page: {error!r}") from None
        self._told(url, reply)
        return reply

    async def _get(self, host: str, path: str, limit: int) -> WebReply:
        (address, *_) = await self._resolver.addresses(host)
        wire = Wire()
        await asyncio.get_running_loop().create_connection(lambda: wire, str(address), PORT)
        try:
            await WorldTlsStarter().start(wire.end, wire, host, is_verified=True)
            wire.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            status = int((await wire.line()).split()[1])
            headers = {}
            while line := (await wire.line()).decode("latin-1"):
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            length = int(headers.get("content-length", "0"))
            if length > limit:
                raise WebFault(f"{host}: the page is too large")
            body = b""
            while len(body) < length:
                body += await wire.some(min(PIECE, length - len(body)))
        finally:
            wire.close()
        return WebReply(status, headers, body)
