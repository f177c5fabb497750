# SPDX-License-Identifier: Apache-2.0
"""DNS of the world: one set of records that every resolver asks, and what can be wrong with it.

Invariant: an unknown name is NXDOMAIN, a known one without such records gives none; a name that fails says
nothing else, whatever its records are.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from posthouse.ports import IPAddress, MxRecord, NameNotFound, Proven, ResolverFault, TlsaRecord

LOOK_UP = 0.030  # seconds for an answer
NO_ANSWER = 5.0  # seconds until a resolver says SERVFAIL: it has asked all name servers in vain
NOTHING = 12.0  # seconds until one gives up a question that nobody answers, as net/resolver.py


class Trouble(Enum):
    """What can be wrong with a name."""

    NXDOMAIN = "nxdomain"
    SERVFAIL = "servfail"
    TIMEOUT = "timeout"


@dataclass(slots=True)
class Records:
    """What one name has."""

    mx: list[MxRecord] = field(default_factory=list)
    addresses: list[IPAddress] = field(default_factory=list)
    txt: list[bytes] = field(default_factory=list)
    ptr: list[str] = field(default_factory=list)
    tlsa: list[TlsaRecord] = field(default_factory=list)


class WorldDns:
    """Filled by the world's script, changed at any time. Names in lower case, without the final dot. `is_signed`: every
    answer is authentic."""

    def __init__(self) -> None:
        self._records: dict[str, Records] = {}
        self._failing: dict[str, tuple[Trouble, float | None]] = {}  # and until when
        self.is_signed = False

    # --- records ----------------------------------------------------------------------------------

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

    def add_txt(self, name: str, text: bytes) -> None:
        self.of(name).txt.append(text)

    def add_tlsa(self, host: str, record: TlsaRecord, port: int = 25) -> None:
        """For a mail host's SMTP (RFC 7672 §3.1)."""
        self.of(f"_{port}._tcp.{host}").tlsa.append(record)

    def replace_mx(self, domain: str, *hosts: str | MxRecord) -> None:
        """The domain's mail goes there from now on; plain names get preference 10. None: it has no MX."""
        self.of(domain).mx = [host if isinstance(host, MxRecord) else MxRecord(10, host) for host in hosts]

    def replace_addresses(self, name: str, *addresses: str) -> None:
        """The host has moved. The old PTR stays, as it often does."""
        self.of(name).addresses = []
        self.add_host(name, *addresses)

    def remove(self, name: str) -> None:
        """NXDOMAIN from now on."""
        self._records.pop(name, None)

    # --- faults -----------------------------------------------------------------------------------

    def fail(self, name: str, kind: str = "servfail", *, until: float | None = None) -> None:
        """`kind`: "nxdomain", "servfail" or "timeout"; `until`: the loop's time at which it is over, None: when
        `clear` says so. ValueError for any other kind."""
        self._failing[name] = (Trouble(kind), until)

    def clear(self, name: str) -> None:
        """The name answers again."""
        self._failing.pop(name, None)

    def names(self) -> Iterable[str]:
        """All that exist, in the order of their making."""
        return tuple(self._records)

    # --- questions --------------------------------------------------------------------------------

    async def look_up(self, name: str) -> Records:
        """Raises NameNotFound, ResolverFault."""
        match self._trouble(name):
            case Trouble.SERVFAIL:
                await asyncio.sleep(NO_ANSWER)
                raise ResolverFault(f"{name}: SERVFAIL")
            case Trouble.TIMEOUT:
                await asyncio.sleep(NOTHING)
                raise ResolverFault(f"{name}: no answer in time")
            case Trouble.NXDOMAIN:
                await asyncio.sleep(LOOK_UP)
                raise NameNotFound(name)
            case None:
                await asyncio.sleep(LOOK_UP)
            case trouble:
                assert_never(trouble)
        records = self._records.get(name)
        if records is None:
            raise NameNotFound(name)
        return records

    def _trouble(self, name: str) -> Trouble | None:
        trouble, until = self._failing.get(name, (None, None))
        if until is not None and asyncio.get_running_loop().time() >= until:
            del self._failing[name]
            return None
        return trouble


class WorldResolver:
    """The Resolver port. It keeps nothing: what the script changes is true at once."""

    def __init__(self, dns: WorldDns) -> None:
        self._dns = dns

    async def mx(self, domain: str) -> list[MxRecord]:
        return list((await self._dns.look_up(domain)).mx)

    async def addresses(self, host: str, version: int = 0) -> list[IPAddress]:
        found = (await self._dns.look_up(host)).addresses
        return [address for address in found if version in (0, address.version)]

    async def txt(self, name: str) -> list[bytes]:
        return list((await self._dns.look_up(name)).txt)

    async def names(self, address: IPAddress) -> list[str]:
        return list((await self._dns.look_up(address.reverse_pointer)).ptr)

    async def proven_mx(self, domain: str) -> Proven[MxRecord]:
        return Proven(tuple(await self.mx(domain)), self._dns.is_signed, domain)

    async def proven_addresses(self, host: str) -> Proven[IPAddress]:
        return Proven(tuple(await self.addresses(host)), self._dns.is_signed, host)

    async def proven_alias(self, host: str) -> Proven[str]:
        await self._dns.look_up(host)
        return Proven((), self._dns.is_signed, host)

    async def tlsa(self, name: str) -> Proven[TlsaRecord]:
        """A name without any has usually no such name at all."""
        return Proven(tuple((await self._dns.look_up(name)).tlsa), self._dns.is_signed, name)

    async def distrust(self) -> str:
        return "" if self._dns.is_signed else "the DNS of this world is not signed"

    async def passed_over(self) -> list[str]:
        return []

    async def records(self, name: str, kind: str) -> list[str]:
        """TLSA; the world has no other types that are asked for so."""
        found = (await self._dns.look_up(name)).tlsa if kind == "TLSA" else []
        return [str(each) for each in found]
