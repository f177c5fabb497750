# SPDX-License-Identifier: Apache-2.0
"""Where mail for a domain goes: fixed routes, address literals, MX records (RFC 5321 §5.1).

Invariant: a route is a list of addresses to try in order, or a `RoutingFault` whose outcome says whether
waiting helps. Mail is never sent to this very host, nor to one less preferred than it (§5.1: that would loop).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from posthouse.mail.address import AddressError, Domain
from posthouse.outcome import BAD_DOMAIN, DNS_FAULT, NO_ROUTE, NULL_MX, ROUTING_LOOP, Outcome, Status
from posthouse.ports import (
    Entropy,
    HostProof,
    IPAddress,
    MxRecord,
    NameNotFound,
    Proven,
    ResolverFault,
    SecureResolver,
    Target,
)
from posthouse.store.queue_rows import SMART_HOST

SMTP_PORT = 25
_PORT = re.compile(r"[0-9]{1,5}")
MAX_MX_HOSTS = 10  # beyond the tenth mail host nobody has a working one; each costs a look-up
MAX_ADDRESSES_PER_HOST = 6  # §5.1 asks for at least two; three of each family
MAX_TARGETS = 12  # each may take five minutes to time out, and a worker is busy meanwhile
CANNOT_ROUTE_NOW = Status(4, 4, 4)  # RFC 3463 §3.5 X.4.4, transient: the fault is in our own configuration


class RoutingFault(Exception):  # noqa: N818 - an answer, as ConnectFault
    """No address to try for that next hop; `outcome` holds for everything that waits for it."""

    def __init__(self, status: Status, diagnostic: str) -> None:
        super().__init__(diagnostic)
        self.outcome = Outcome(status, diagnostic)


class RouteGone(Exception):  # noqa: N818 - an answer, as RoutingFault
    """The smart host is not configured any more: its recipients go by their own domains again."""


@dataclass(frozen=True, slots=True)
class StaticRoute:
    """A fixed next hop. `host` is an IP address or a name whose addresses are looked up (not its MX)."""

    host: str
    port: int = SMTP_PORT
    tls: str = "opportunistic"
    username: str | None = None
    password: str | None = None
    is_lmtp: bool = False

    @classmethod
    def parse(cls, text: str, **fields: str | None) -> StaticRoute:
        """`"127.0.0.1:2626"`, `"[::1]:25"` or `"mail.example.test"`, with the other fields by name. ValueError."""
        host, colon, port = text.rpartition(":")
        if not colon or text.endswith("]") or (":" in host and not host.startswith("[")):
            host, port = text, str(SMTP_PORT)
        if not host or not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
            raise ValueError('write "host:port", for example "127.0.0.1:2626" or "mail.example.test:587"')
        tls = fields.get("tls") or "opportunistic"
        return cls(host.strip("[]"), int(port), tls, fields.get("username"), fields.get("password"))


class Routing:
    """Finds targets for next hops. `own_names` and `own_addresses` are what MX records call this host."""

    def __init__(
        self,
        resolver: SecureResolver,
        entropy: Entropy,
        hostname: str,
        *,
        routes: Mapping[str, StaticRoute] | None = None,
        own_names: Collection[str] = (),
        own_addresses: Collection[str] = (),
    ) -> None:
        self._resolver = resolver
        self._entropy = entropy
        self._hostname = hostname
        self._routes = dict(routes or {})
        self._own_names = {name.lower().removesuffix(".") for name in (hostname, *own_names)}
        self._own_addresses = {ipaddress.ip_address(address) for address in own_addresses}

    def set_routes(self, routes: Mapping[str, StaticRoute]) -> None:
        """The configuration was reloaded."""
        self._routes = dict(routes)

    def next_hop(self, domain: Domain) -> str:
        """What a recipient of this domain waits for: the domain, or the smart host that all others share, so
        that they share its connections, its mail transactions and its back-off."""
        if domain.name not in self._routes and SMART_HOST in self._routes:
            return SMART_HOST
        return domain.name

    async def targets(self, next_hop: str) -> list[Target]:
        """The addresses to try for a next hop, in order; never empty. Raises RoutingFault and RouteGone."""
        route = self._routes.get(next_hop) or self._routes.get(SMART_HOST)
        if route is not None:
            return await self._static(route)
        if next_hop == SMART_HOST:
            raise RouteGone
        try:
            domain = Domain.parse(next_hop)
        except AddressError as error:
            raise RoutingFault(BAD_DOMAIN, f"{next_hop}: {error}") from None
        if domain.is_literal:
            return self._literal(domain)
        return await self._by_mx(domain.name)

    async def _static(self, route: StaticRoute) -> list[Target]:
        address = _ip(route.host)
        found = Proven((address,), False, "") if address else await self._route_addresses(route.host)
        # RFC 7672 §2.2.2, RFC 8461 §3.4: a host named by the operator is a domain of its own. Where a route says what
        # its TLS is to be, that is the last word.
        may_ask = address is None and route.tls == "opportunistic" and not route.is_lmtp
        proof = HostProof(route.host, found.name, False, False, found.name, found.is_authentic) if may_ask else None
        return [
            Target(
                host=route.host,
                address=str(each),
                port=route.port,
                tls=route.tls,
                username=route.username,
                password=route.password,
                helo=self._hostname,
                is_lmtp=route.is_lmtp,
                proof=proof,
                is_way_sure=True,
            )
            for each in found.records[:MAX_ADDRESSES_PER_HOST]
        ]

    async def _route_addresses(self, host: str) -> Proven[IPAddress]:
        # A mistake in our own routes is no reason to return everybody's mail: it waits until it is mended.
        try:
            found = await self._resolver.proven_addresses(host)
        except NameNotFound:
            found = Proven((), is_authentic=False, name=host)
        except ResolverFault as fault:
            raise RoutingFault(DNS_FAULT, f"the address of the fixed route {host} is not known now: {fault}") from fault
        if not found.records:
            raise RoutingFault(CANNOT_ROUTE_NOW, f"the fixed route {host} has no address")
        return found

    def _literal(self, domain: Domain) -> list[Target]:
        address = domain.ip_address
        assert address is not None
        if address in self._own_addresses:
            raise RoutingFault(ROUTING_LOOP, f"{domain} is this host, which has no such mailbox")
        return [self._target(domain.name, address)]

    async def _by_mx(self, domain: str) -> list[Target]:
        try:
            answer = await self._resolver.proven_mx(domain)
        except NameNotFound:
            raise RoutingFault(BAD_DOMAIN, f"the domain {domain} does not exist") from None
        except ResolverFault as fault:
            raise RoutingFault(DNS_FAULT, f"the mail hosts of {domain} are not known now: {fault}") from fault
        if not answer.records:
            # RFC 5321 §5.1: no MX at all means an implicit one, preference 0, pointing to the domain itself.
            return await self._hosts(domain, [MxRecord(0, domain)], answer)
        named = [record for record in answer.records if record.host]
        if not named:
            # RFC 7505 §3: a single "." says that the domain takes no mail.
            raise RoutingFault(NULL_MX, f"the domain {domain} says that it accepts no mail (null MX)")
        usable = self._before_ourselves(self._ordered(named))
        if not usable:
            raise RoutingFault(ROUTING_LOOP, f"mail for {domain} leads back to this host, which does not keep it")
        return await self._hosts(domain, usable[:MAX_MX_HOSTS], answer)

    def _ordered(self, records: Sequence[MxRecord]) -> list[MxRecord]:
        """By preference, equals in random order (RFC 5321 §5.1 MUST)."""
        shuffled = list(dict.fromkeys(records))
        for last in range(len(shuffled) - 1, 0, -1):
            chosen = int.from_bytes(self._entropy.octets(4)) % (last + 1)
            shuffled[last], shuffled[chosen] = shuffled[chosen], shuffled[last]
        return sorted(shuffled, key=lambda record: record.preference)

    def _before_ourselves(self, records: Sequence[MxRecord]) -> list[MxRecord]:
        """Without ourselves and all that are not more preferred than we are (RFC 5321 §5.1)."""
        ours = [record.preference for record in records if record.host.lower().removesuffix(".") in self._own_names]
        return [record for record in records if not ours or record.preference < min(ours)]

    async def _hosts(self, domain: str, records: Sequence[MxRecord], answer: Proven[MxRecord]) -> list[Target]:
        """`answer`: the MX records as DNS gave them; none: the domain is its own host."""
        has_mx = bool(answer.records)
        ranked: list[tuple[int, Target]] = []  # preference, target
        fault: ResolverFault | None = None
        for record in records:
            try:
                proven = await self._resolver.proven_addresses(record.host)
            except NameNotFound:
                if not has_mx:
                    raise RoutingFault(BAD_DOMAIN, f"the domain {domain} does not exist") from None
                continue
            except ResolverFault as error:
                fault = error
                continue
            if self._own_addresses.intersection(proven.records):
                # This host under another name: it and all that are not more preferred are of no use.
                ranked = [each for each in ranked if each[0] < record.preference]
                if not ranked:
                    raise RoutingFault(ROUTING_LOOP, f"mail for {domain} leads back to this host by its address")
                break
            proof = HostProof(
                domain,
                domain_alias=answer.name,
                has_mx=has_mx,
                is_mx_authentic=answer.is_authentic,
                host_name=proven.name,
                is_host_authentic=proven.is_authentic,
            )
            ranked += [
                (record.preference, self._target(record.host, address, proof))
                for address in proven.records[:MAX_ADDRESSES_PER_HOST]
            ]
        if ranked:
            return [target for _, target in ranked[:MAX_TARGETS]]
        if fault is not None:
            raise RoutingFault(DNS_FAULT, f"the addresses of the mail hosts of {domain} are not known now: {fault}")
        raise RoutingFault(NO_ROUTE, f"no mail host of {domain} has an address")

    def _target(self, host: str, address: IPAddress, proof: HostProof | None = None) -> Target:
        return Target(host=host, address=str(address), port=SMTP_PORT, helo=self._hostname, proof=proof)


def _ip(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
