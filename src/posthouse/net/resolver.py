# SPDX-License-Identifier: Apache-2.0
"""DNS: the Resolver port on dnspython, over UDP and, where an answer is too long for it, TCP.

Invariant: what is not a sound answer is a ResolverFault ("try later"), never NameNotFound: a letter is
returned only because DNS said no, not because DNS said nothing. Where one server's word on DNSSEC is taken, and it
refuses a forged answer, no answer of a server whose word is not taken is put in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Sequence
from typing import Literal

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from posthouse.net.dns_cache import Answer, DnsCache, Faulty, Found, Missing
from posthouse.ports import Clock, IPAddress, MxRecord, NameNotFound, Proven, ResolverFault, TlsaRecord
from posthouse.telemetry import logger

_log = logger("dns")

# Seconds that one server gets for one try; a recursive server that must ask around needs 1 or 2.
TRY_SECONDS = 3.0
# Seconds for a question in all, over all servers and tries.
QUESTION_SECONDS = 12.0
# Octets of a UDP answer that pass without fragments everywhere (DNS flag day 2020); longer ones come by TCP.
UDP_PAYLOAD = 1232
# Questions under way at once: each holds a socket, and a server that is asked more at once drops some.
MAX_IN_FLIGHT = 100
DNS_PORT = 53
# Octets of an answer that is kept, with those of its objects: strangers choose what we ask, and one by TCP has 64 KiB.
MAX_KEPT_ANSWER, RECORD_OVERHEAD = 8192, 100
# The root is signed and every validating resolver has its key: what it says of the root tells what it does.
PROBE_NAME, PROBE_KIND = ".", "SOA"
Dnssec = Literal["auto", "trust", "off"]


class DnsResolver:
    """Caches by TTL; equal questions asked at once become one. Servers are tried in their order; in a list where some
    are on this machine, those alone with `dnssec` auto: SERVFAIL of a validating one is an answer."""

    def __init__(
        self,
        clock: Clock,
        servers: Sequence[str] = (),
        *,
        try_seconds: float = TRY_SECONDS,
        dnssec: Dnssec = "auto",
        probe: tuple[str, str] = (PROBE_NAME, PROBE_KIND),
    ) -> None:
        """`servers`: "192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:5353"; none: the system's. `dnssec`: whose word is
        taken that an answer was validated: `auto` that of servers on this machine, `trust` that of all (the operator
        answers for the way to them), `off` nobody's. `probe`: the name and type whose answer shows it.

        Raises ValueError for text that is no such thing. A system without DNS servers is a fault of each
        question, not of the start: the network may come up later.
        """
        self._try_seconds = try_seconds
        self._dnssec = dnssec
        self._probe = probe
        self._has_seen_proof = False  # an authentic answer, to whatever question
        self._configured: tuple[dns.nameserver.Nameserver, ...] = tuple(map(nameserver, servers))
        self._cache = DnsCache(clock.monotonic)
        self._in_flight: dict[tuple[str, str], asyncio.Task[Answer]] = {}
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._engine: dns.asyncresolver.Resolver | None = None
        self._passed_over: list[str] = []

    async def mx(self, domain: str) -> list[MxRecord]:
        """Sorted by preference and host. The null MX (RFC 7505) has the host ""."""
        return list((await self.proven_mx(domain)).records)

    async def proven_mx(self, domain: str) -> Proven[MxRecord]:
        found = await self._found(domain, "MX")
        records = sorted(
            (MxRecord(record.preference, _text(record.exchange)) for record in found.records),
            key=lambda mx: (mx.preference, mx.host),
        )
        return Proven(tuple(records), found.is_authentic, found.name)

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        """AAAA, then A, each sorted. One of the two missing or faulty does not hide the other."""
        if version:
            records = (await self._found(host, "A" if version == 4 else "AAAA")).records
            return sorted(ipaddress.ip_address(record.address) for record in records)
        return list((await self.proven_addresses(host)).records)

    async def proven_addresses(self, host: str) -> Proven[IPAddress]:
        """As `addresses`; authentic when all that was found is."""
        wide, narrow = await asyncio.gather(self._answer(host, "AAAA"), self._answer(host, "A"))
        found: list[IPAddress] = []
        used = [answer for answer in (wide, narrow) if isinstance(answer, Found) and answer.records]
        for each in used:
            found += sorted(ipaddress.ip_address(record.address) for record in each.records)
        if used:
            is_authentic = all(each.is_authentic and each.name == used[0].name for each in used)
            return Proven(tuple(found), is_authentic, used[0].name)
        # RFC 8020 §2: NXDOMAIN is about the name, whatever type was asked for. Yet some name servers say it to AAAA
        # alone, so it is believed only when the other question was answered too.
        for answer in (wide, narrow):
            if isinstance(answer, Faulty):
                raise ResolverFault(f"{host}: {answer.reason}")
        if isinstance(wide, Missing) or isinstance(narrow, Missing):
            raise NameNotFound(host)
        return Proven((), is_authentic=False, name=host)

    async def txt(self, name: str) -> list[bytes]:
        """Sorted; the strings of one record joined (RFC 7208 §3.3)."""
        return sorted(b"".join(record.strings) for record in (await self._found(name, "TXT")).records)

    async def names(self, address: IPAddress) -> list[str]:
        """PTR, sorted."""
        found = await self._found(address.reverse_pointer, "PTR")
        return sorted(_text(record.target) for record in found.records)

    async def proven_alias(self, host: str) -> Proven[str]:
        found = await self._found(host, "CNAME")
        return Proven(tuple(_text(record.target) for record in found.records), found.is_authentic, found.name)

    async def tlsa(self, name: str) -> Proven[TlsaRecord]:
        found = await self._found(name, "TLSA")
        records = sorted((record.usage, record.selector, record.mtype, record.cert) for record in found.records)
        return Proven(tuple(TlsaRecord(*record) for record in records), found.is_authentic, found.name)

    async def distrust(self) -> str:
        """Why no answer is authentic here; "" where DNSSEC works, by any answer so far or by one to the probe."""
        if self._dnssec == "off":
            return "resolver.dnssec is off"
        if self._has_seen_proof:
            return ""
        name, kind = self._probe
        try:
            found = await self._found(name, kind)
        except (NameNotFound, ResolverFault) as fault:
            return f"DNS does not answer ({fault})"
        if found.is_authentic:
            return ""
        asked = self._get_engine().nameservers
        servers = ", ".join(map(_written, asked))
        if self._dnssec == "auto" and not any(_is_near(str(server)) for server in asked):
            return f"the name servers ({servers}) are not on this machine, so their word on DNSSEC is not taken"
        return f"the name servers ({servers}) do not validate DNSSEC"

    async def passed_over(self) -> list[str]:
        with contextlib.suppress(dns.exception.DNSException):  # a system without name servers
            self._get_engine()
        return list(self._passed_over)

    async def records(self, name: str, kind: str) -> list[str]:
        """Sorted; names in their values as DNS has them."""
        return sorted(record.to_text() for record in (await self._found(name, kind)).records)

    def forget(self) -> None:
        """Empty the cache, and read the system's configuration again at the next question (reload)."""
        self._cache.clear()
        self._engine = None
        self._has_seen_proof = False

    async def close(self) -> None:
        """Give up what is still asked."""
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- questions --------------------------------------------------------------------------------

    async def _found(self, name: str, kind: str) -> Found:
        answer = await self._answer(name, kind)
        match answer:
            case Found():
                return answer
            case Missing():
                raise NameNotFound(name)
            case Faulty(reason):
                raise ResolverFault(f"{name} {kind}: {reason}")

    async def _answer(self, name: str, kind: str) -> Answer:
        key = (name.lower().removesuffix("."), kind)
        known = self._cache.get(key)
        if known is not None:
            return known
        task = self._in_flight.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key))
            self._in_flight[key] = task
            task.add_done_callback(lambda _: self._in_flight.pop(key, None))
        # Shielded: whoever else waits for the same answer still wants it when one of them is cancelled.
        return await asyncio.shield(task)

    async def _ask(self, key: tuple[str, str]) -> Answer:
        if not key[0].isascii():
            return Missing()  # the port speaks A-labels; anything else has no meaning in DNS
        try:
            qname = dns.name.from_text(f"{key[0]}.")
        except (dns.exception.DNSException, UnicodeError):
            return Missing()  # what cannot be a name in DNS is not there either
        async with self._slots:
            answer, ttl = await self._query(qname, key[1])
        records = answer.records if isinstance(answer, Found) else ()
        if sum(len(record.to_wire()) + RECORD_OVERHEAD for record in records) <= MAX_KEPT_ANSWER:
            self._cache.put(key, answer, ttl)
        return answer

    async def _query(self, qname: dns.name.Name, kind: str) -> tuple[Answer, float]:
        try:
            engine = self._get_engine()
            reply = await engine.resolve(qname, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            return Missing(), _negative_ttl(error, qname)
        except (dns.exception.DNSException, OSError, EOFError) as error:
            # SERVFAIL and REFUSED from all servers, time-outs, broken messages, CNAME loops.
            return Faulty(reason_of(error)), 0.0
        chain = reply.chaining_result
        is_authentic = bool(reply.response.flags & dns.flags.AD) and self._is_trusted(reply.nameserver)
        self._has_seen_proof = self._has_seen_proof or is_authentic
        return Found(tuple(reply.rrset or ()), is_authentic, _text(chain.canonical_name)), float(chain.minimum_ttl)

    def _is_trusted(self, server: str | None) -> bool:
        """Whether the word of this server, "it is validated", is taken (RFC 4035 §4.9.3: only over a secure way)."""
        return self._dnssec == "trust" or (self._dnssec == "auto" and _is_near(server or ""))

    def _get_engine(self) -> dns.asyncresolver.Resolver:
        if self._engine is None:
            engine = dns.asyncresolver.Resolver(configure=not self._configured)
            if self._configured:
                engine.nameservers = list(self._configured)
            self._passed_over = []
            near = [server for server in engine.nameservers if _is_near(str(server))]
            if near and self._dnssec == "auto" and len(near) < len(engine.nameservers):
                self._passed_over = [_written(server) for server in engine.nameservers if server not in near]
                _log.warning("name_servers_passed_over", servers=self._passed_over, asked=[*map(_written, near)])
                engine.nameservers = near
            engine.timeout = self._try_seconds
            engine.lifetime = max(QUESTION_SECONDS, self._try_seconds)
            engine.cache = None  # ours counts by the port's clock
            engine.use_edns(0, 0, UDP_PAYLOAD)
            # RFC 6840 §5.7: AD in a question asks for AD in its answer, without the signatures that DO would bring.
            engine.set_flags(dns.flags.RD | dns.flags.AD)
            self._engine = engine
        return self._engine


def nameserver(text: str) -> dns.nameserver.Do53Nameserver:
    host, port = text, DNS_PORT
    try:
        if text.startswith("["):
            inner, _, rest = text[1:].partition("]")
            host, port = inner, int(rest.removeprefix(":")) if rest else DNS_PORT
        elif text.count(":") == 1:
            host, _, rest = text.partition(":")
            port = int(rest)
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address, with or without a port") from None
    if not 0 < port < 65536:
        raise ValueError(f"{text!r}: there is no port {port}")
    return dns.nameserver.Do53Nameserver(str(address), port)


def _is_near(server: str) -> bool:
    """Whether a name server, as "Do53:127.0.0.1@53" or by its address alone, is on this machine."""
    try:
        return ipaddress.ip_address(server.removeprefix("Do53:").rpartition("@")[0] or server).is_loopback
    except ValueError:
        return False


def _written(server: object) -> str:
    """As an operator writes it."""
    address, _, port = str(server).removeprefix("Do53:").partition("@")
    if port in ("", str(DNS_PORT)):
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _text(name: dns.name.Name) -> str:
    """Lower case, without the final dot; the root is "" ."""
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _negative_ttl(error: dns.resolver.NXDOMAIN, qname: dns.name.Name) -> float:
    """RFC 2308 §5: from the SOA in the answer; dnspython has a short default where there is none."""
    try:
        response = error.response(qname)  # type: ignore[no-untyped-call]  # dnspython left it without types
        return float(response.resolve_chaining().minimum_ttl)
    except (dns.exception.DNSException, KeyError):
        return 0.0


def reason_of(error: BaseException) -> str:
    match error:
        case dns.resolver.NoResolverConfiguration():
            return "the system has no DNS server configured"
        case dns.resolver.LifetimeTimeout():
            return "no answer in time"
        case dns.resolver.NoNameservers():
            return "no server gave an answer (SERVFAIL, REFUSED or nonsense)"
        case _:
            return " ".join(str(error).split()) or type(error).__name__
