# SPDX-License-Identifier: Apache-2.0
"""DNS of the world: one set of records that every resolver asks. Invariant: an unknown name is NXDOMAIN."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, field

from posthouse.ports import IPAddress, MxRecord, NameNotFound, ResolverFault

LOOK_UP = 0.030  # seconds for an answer
NO_ANSWER = 5.0  # seconds until a resolver says SERVFAIL: it has asked all name servers in vain


@dataclass(slots=True)
class Records:
    """What one name has."""

    mx: list[MxRecord] = field(default_factory=list)
    addresses: list[IPAddress] = field(default_factory=list)
    txt: list[bytes] = field(default_factory=list)
    ptr: list[str] = field(default_factory=list)


class WorldDns:
    """Filled by the world's script. Names in lower case, without the final dot."""

    def __init__(self) -> None:
        self._records: dict[str, Records] = {}
        self._failing: dict[str, None] = {}

    def of(self, name: str) -> Records:
        """The records of a name, which exists from now on."""
        return self._records.setdefault(name, Records())

    def add_host(self, name: str, *addresses: str) -> None:
        """A and AAAA, and the PTR back."""
        for text in addresses:
            address = ipaddress.ip_address(text)
            self.of(name).addresses.append(address)
            self.of(address.reverse_pointer).ptr.append(name)

    def add_mx(self, domain: str, host: str, preference: int = 10) -> None:
        self.of(domain).mx.append(MxRecord(preference, host))

    def remove(self, name: str) -> None:
        """NXDOMAIN from now on."""
        self._records.pop(name, None)

    def fail(self, name: str) -> None:
        """SERVFAIL from now on, until `recover`."""
        self._failing[name] = None

    def recover(self, name: str) -> None:
        self._failing.pop(name, None)

    async def look_up(self, name: str) -> Records:
        """Raises NameNotFound, ResolverFault."""
        if name in self._failing:
            await asyncio.sleep(NO_ANSWER)
            raise ResolverFault(f"{name}: SERVFAIL")
        await asyncio.sleep(LOOK_UP)
        records = self._records.get(name)
        if records is None:
            raise NameNotFound(name)
        return records


class WorldResolver:
    """The Resolver port. It keeps nothing: what the script changes is true at once."""

    def __init__(self, dns: WorldDns) -> None:
        self._dns = dns

    async def mx(self, domain: str) -> list[MxRecord]:
        return list((await self._dns.look_up(domain)).mx)

    async def addresses(self, host: str) -> list[IPAddress]:
        return list((await self._dns.look_up(host)).addresses)

    async def txt(self, name: str) -> list[bytes]:
        return list((await self._dns.look_up(name)).txt)

    async def names(self, address: IPAddress) -> list[str]:
        return list((await self._dns.look_up(address.reverse_pointer)).ptr)
