# SPDX-License-Identifier: Apache-2.0
"""The PublicDns port: a zone's authoritative servers, asked one by one, as a resolver would see them.

Invariant: an answer counts only when the server says that it is authoritative; silence is not "nothing there".
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

from posthouse.net.resolver import UDP_PAYLOAD, nameserver, reason_of
from posthouse.ports import Shown, ZoneFault, ZoneRecord

TRY_SECONDS = 5.0  # for one address of one server
LOOKUP_SECONDS = 15.0  # for who the servers are
MAX_SERVERS = 16  # names of one zone; there were never more than 13 anywhere that mattered
MAX_ADDRESSES = 4  # of one server
TXT_STRING = 255  # octets (RFC 1035 §3.3)


class AuthoritativeDns:
    def __init__(self, resolvers: Sequence[str] = (), *, servers: Sequence[str] = ()) -> None:
        """`resolvers`: as of DnsResolver, for the names and addresses of the servers. `servers`: ask these instead of
        those that the zone's NS records name. Raises ValueError for what is no address."""
        self._resolvers = [nameserver(text) for text in resolvers]
        self._servers = [(text, nameserver(text)) for text in servers]

    async def shown(self, name: str, kind: str) -> list[Shown]:
        """Raises ZoneFault."""
        if self._servers:
            found = [(text, [(server.address, server.port)]) for text, server in self._servers]
        else:
            found = await self._servers_of(name)
        asked = (self._ask_server(server, places, name, kind) for server, places in found)
        return list(await asyncio.gather(*asked))

    async def canonical(self, name: str) -> str:
        """Raises ZoneFault."""
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await self._engine().canonical_name(f"{name}.")
        except (dns.exception.DNSException, OSError, TimeoutError) as error:
            raise ZoneFault(f"{name}: DNS does not answer ({reason_of(error)})") from None
        return found.to_text(omit_final_dot=True).lower()

    def _engine(self) -> dns.asyncresolver.Resolver:
        """A new one: it keeps no cache, so what it says is what the resolver knows now."""
        try:
            engine = dns.asyncresolver.Resolver(configure=not self._resolvers)
        except dns.resolver.NoResolverConfiguration:
            raise ZoneFault("the system has no DNS server configured") from None
        if self._resolvers:
            engine.nameservers = list(self._resolvers)
        engine.lifetime = LOOKUP_SECONDS
        engine.use_edns(0, 0, UDP_PAYLOAD)
        return engine

    async def _servers_of(self, name: str) -> list[tuple[str, list[tuple[str, int]]]]:
        engine = self._engine()
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                zone = await dns.asyncresolver.zone_for_name(f"{name}.", resolver=engine)
                answer = await engine.resolve(zone, "NS")
                hosts = sorted(record.target.to_text() for record in answer)[:MAX_SERVERS]
                addresses = await asyncio.gather(*(self._addresses(engine, host) for host in hosts))
        except (dns.exception.DNSException, OSError, TimeoutError) as error:
            raise ZoneFault(f"{name}: its name servers cannot be found ({reason_of(error)})") from None
        return [(host.removesuffix("."), places) for host, places in zip(hosts, addresses, strict=True)]

    async def _addresses(self, engine: dns.asyncresolver.Resolver, host: str) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for kind in ("A", "AAAA"):
            try:
                answer = await engine.resolve(host, kind, raise_on_no_answer=False)
            except dns.exception.DNSException:
                continue
            found += [(record.address, 53) for record in answer.rrset or ()]
        return found[:MAX_ADDRESSES]

    async def _ask_server(self, server: str, places: Sequence[tuple[str, int]], name: str, kind: str) -> Shown:
        for address, port in places:
            records = await _ask(address, port, name, kind)
            if records is not None:
                return Shown(server, tuple(records))
        return Shown(server, None)


async def _ask(address: str, port: int, name: str, kind: str) -> list[ZoneRecord] | None:
    query = dns.message.make_query(f"{name}.", kind, use_edns=0, payload=UDP_PAYLOAD)
    query.flags &= ~dns.flags.RD  # RFC 1034 §4.3.1: it is to say what it has, not to ask around
    query.id = random.SystemRandom().randrange(1 << 16)
    try:
        reply, _ = await dns.asyncquery.udp_with_fallback(query, address, TRY_SECONDS, port)
    except (dns.exception.DNSException, OSError, EOFError):
        return None
    is_answer = reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) and bool(reply.flags & dns.flags.AA)
    return records_in(reply, name, kind) if is_answer else None


def records_in(reply: dns.message.Message, name: str, kind: str) -> list[ZoneRecord]:
    """The records of a name in an answer; its CNAME where that stands instead."""
    owner = dns.name.from_text(f"{name}.")
    kinds = (dns.rdatatype.from_text(kind), dns.rdatatype.CNAME)
    return [
        record for rrset in reply.answer if rrset.name == owner and rrset.rdtype in kinds for record in plain(rrset)
    ]


def plain(rrset: dns.rrset.RRset) -> list[ZoneRecord]:
    """As the port has them."""
    name = rrset.name.to_text(omit_final_dot=True).lower()
    kind = dns.rdatatype.to_text(rrset.rdtype)
    found = []
    for record in rrset:
        if rrset.rdtype == dns.rdatatype.TXT:
            value = b"".join(record.strings).decode("utf-8", "surrogateescape")
        else:
            value = record.to_text()
        found.append(ZoneRecord(name, kind, value, rrset.ttl))
    return sorted(found, key=lambda each: each.value)
