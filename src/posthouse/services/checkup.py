# SPDX-License-Identifier: Apache-2.0
"""`posthouse check`: what is wrong and how to mend it. Looks and tells; changes nothing but by `store(repair=True)`.

Invariant: every finding that is not "ok" says what to do about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from posthouse.ports import (
    Clock,
    MailTransport,
    NameNotFound,
    Resolver,
    ResolverFault,
    WebClient,
    Workers,
)
from posthouse.services.dns_records import DnsRecord, Senders, Surroundings
from posthouse.services.domain_check import DomainCheck
from posthouse.services.findings import Finding
from posthouse.services.other_senders import other_senders
from posthouse.services.store_check import StoreCheck

__all__ = ["Checkup", "Finding"]

DNS_SECONDS = 15.0  # for one question about the host


class Checkup:
    def __init__(
        self,
        store: StoreCheck,
        resolver: Callable[[], Resolver],
        web: Callable[[Resolver], WebClient],
        transport: Callable[[], MailTransport],
        workers: Workers,
        clock: Clock,
        *,
        hostname: str,
        local_checks: Sequence[Callable[[], list[Finding]]],
        network_checks: Sequence[Callable[[], Awaitable[list[Finding]]]] = (),
    ) -> None:
        """`resolver` makes a new one for each check, which remembers nothing: what was mended a minute ago is seen.
        `local_checks` look at this machine (ports, disk, certificates); they block briefly. `network_checks` ask
        others, and give up by themselves."""
        self._store = store
        self._resolver = resolver
        self._web = web
        self._transport = transport
        self._workers = workers
        self._clock = clock
        self._hostname = hostname
        self._local_checks = tuple(local_checks)
        self._network_checks = tuple(network_checks)

    async def machine(self) -> list[Finding]:
        found: list[Finding] = []
        for check in self._local_checks:
            found += await self._workers.run(check)
        found += await self._host_name()
        for look in self._network_checks:
            found += await look()
        return found

    async def senders(self, domain: str, around: Surroundings) -> Senders:
        """Who sends for the domain beside this host."""
        return await other_senders(self._resolver(), domain, around)

    async def domain(self, domain: str, records: Sequence[DnsRecord], around: Surroundings) -> list[Finding]:
        """Compare what the world sees with what it should see, record by record, and try what can be tried."""
        resolver = self._resolver()
        check = DomainCheck(resolver, self._web(resolver), self._transport(), self._clock, around)
        return await check.findings(domain, records)

    async def store(self, *, repair: bool = False, source: Path | None = None) -> list[Finding]:
        """Recount every counter, follow every reference, read every octet; with `repair` mend what can be mended, with
        whole letters from the backup or data directory at `source`. Raises Refusal."""
        return await self._store.run(repair=repair, source=source)

    async def _host_name(self) -> list[Finding]:
        name, resolver = self._hostname, self._resolver()
        try:
            async with asyncio.timeout(DNS_SECONDS):
                addresses = await resolver.addresses(name)
        except NameNotFound:
            addresses = []
        except (ResolverFault, TimeoutError) as fault:
            return [
                Finding("dns", "warning", f"{name}: DNS does not answer ({fault})", "check [resolver] and the network")
            ]
        if not addresses:
            remedy = f"add an A record (and AAAA) for {name}, or set hostname to a name that has one"
            return [Finding("dns", "error", f"the host name {name} has no address in DNS", remedy)]
        findings = [Finding("dns", "ok", f"{name} has {', '.join(map(str, addresses))}")]
        for address in addresses:
            try:
                async with asyncio.timeout(DNS_SECONDS):
                    names = await resolver.names(address)
            except (NameNotFound, ResolverFault, TimeoutError):
                names = []
            if name not in names:
                remedy = f"ask the provider of the address to set its PTR record to {name}"
                findings.append(Finding("dns", "warning", f"{address} does not lead back to {name} (PTR)", remedy))
        return findings
