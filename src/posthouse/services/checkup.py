# SPDX-License-Identifier: Apache-2.0
"""`posthouse check`: what is wrong and how to mend it. Looks and tells; changes nothing but by `store(repair=True)`.

Invariant: every finding that is not "ok" says what to do about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from posthouse.ports import NameNotFound, Resolver, ResolverFault, Workers
from posthouse.services.dns_records import DnsRecord
from posthouse.services.findings import Finding
from posthouse.services.store_check import StoreCheck

__all__ = ["Checkup", "Finding"]

DNS_SECONDS = 15.0  # for all questions about one record


class Checkup:
    def __init__(
        self,
        store: StoreCheck,
        resolver: Resolver,
        workers: Workers,
        *,
        hostname: str,
        local_checks: Sequence[Callable[[], list[Finding]]],
        network_checks: Sequence[Callable[[], Awaitable[list[Finding]]]] = (),
    ) -> None:
        """`local_checks` look at this machine (ports, disk, certificates); they block briefly. `network_checks` ask
        others, and give up by themselves."""
        self._store = store
        self._resolver = resolver
        self._workers = workers
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

    async def domain(self, records: Sequence[DnsRecord]) -> list[Finding]:
        """Compare what DNS says with what it should say, record by record."""
        return [await self._record(record) for record in records]

    async def store(self, *, repair: bool = False, source: Path | None = None) -> list[Finding]:
        """Recount every counter, follow every reference, read every octet; with `repair` mend what can be mended, with
        whole letters from the backup or data directory at `source`. Raises Refusal."""
        return await self._store.run(repair=repair, source=source)

    async def _host_name(self) -> list[Finding]:
        name = self._hostname
        try:
            async with asyncio.timeout(DNS_SECONDS):
                addresses = await self._resolver.addresses(name)
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
                    names = await self._resolver.names(address)
            except (NameNotFound, ResolverFault, TimeoutError):
                names = []
            if name not in names:
                remedy = f"ask the provider of the address to set its PTR record to {name}"
                findings.append(Finding("dns", "warning", f"{address} does not lead back to {name} (PTR)", remedy))
        return findings

    async def _record(self, record: DnsRecord) -> Finding:
        what = f"{record.kind} {record.name}"
        remedy = f"add this record: {record.zone_line()}"
        try:
            async with asyncio.timeout(DNS_SECONDS):
                found = await self._look_up(record)
        except NameNotFound:
            found = []
        except (ResolverFault, TimeoutError) as fault:
            return Finding("dns", "warning", f"{what}: DNS does not answer ({fault})", "try again later")
        if found is None:
            return Finding("dns", "ok", f"{what}: not looked up")
        if any(_is_same(record.kind, record.value, value) for value in found):
            return Finding("dns", "ok", f"{what} is as it should be")
        level = "warning" if record.is_advice else "error"
        if found and record.kind == "MX":
            return Finding("dns", level, f"{what} is {', '.join(found)}: not this server", remedy)
        kin = [value for value in found if _tag(value) == _tag(record.value)]
        if kin and _tag(record.value) == "v=dkim1":
            return Finding("dns", "error", f"{what} holds another key: what is signed here is not believed", remedy)
        if kin:
            # An own policy that says something else on purpose is not wrong.
            return Finding("dns", "warning", f"{what} is {kin[0]!r}", f"posthouse would say: {record.value}")
        return Finding("dns", level, f"{what} is missing", remedy)

    async def _look_up(self, record: DnsRecord) -> list[str] | None:
        match record.kind:
            case "MX":
                return [f"{each.preference} {each.host}" for each in await self._resolver.mx(record.name)]
            case "TXT":
                return [value.decode("utf-8", "replace") for value in await self._resolver.txt(record.name)]
            case _:
                return None


def _tag(value: str) -> str:
    """What says which kind of policy a TXT record is: `v=spf1`, `v=dkim1`."""
    words = value.partition(";")[0].split()
    return words[0].lower() if words else ""


def _is_same(kind: str, wanted: str, found: str) -> bool:
    """Whether a record says what it should: an MX whatever its preference, a text whatever its blanks."""
    if kind == "MX":
        return wanted.split()[1:] == found.lower().split()[1:]
    return "".join(wanted.split()) == "".join(found.split())
