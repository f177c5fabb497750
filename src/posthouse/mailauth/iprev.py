# SPDX-License-Identifier: Apache-2.0
"""The names that an IP address says it has and that say so too: iprev (RFC 8601 §3), and SPF's ptr and %{p}.

Invariant: a name counts only when DNS leads from it back to the address; at most MAX_NAMES are asked about.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from posthouse.ports import IPAddress, NameNotFound, Resolver, ResolverFault

MAX_NAMES = 10  # RFC 7208 §4.6.4, and RFC 8601 §3 after it: who owns the address chooses how many names it has

MAX_SECONDS = 20.0  # of one check, as SPF's: ten names may lie on ten dead servers


class IprevResult(StrEnum):
    """RFC 8601 §2.7.3."""

    PASS = "pass"  # noqa: S105 - the result's name
    FAIL = "fail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


@dataclass(frozen=True, slots=True)
class IprevVerdict:
    """`name`: one that leads back to the address, "" without. `reason`: one line, "" for a pass."""

    result: IprevResult
    address: IPAddress
    name: str = ""
    reason: str = ""


async def check_iprev(resolver: Resolver, address: IPAddress) -> IprevVerdict:
    """Never raises for what DNS says. One PTR question, then one for each name until one leads back."""
    address = plain_address(address)
    try:
        async with asyncio.timeout(MAX_SECONDS):
            return await _check(resolver, address)
    except TimeoutError:
        return IprevVerdict(IprevResult.TEMPERROR, address, reason=f"no result in {MAX_SECONDS:.0f} seconds")


async def _check(resolver: Resolver, address: IPAddress) -> IprevVerdict:
    try:
        names = await resolver.names(address)
    except NameNotFound:
        names = []
    except ResolverFault as fault:
        return IprevVerdict(IprevResult.TEMPERROR, address, reason=str(fault))
    if not names:
        return IprevVerdict(IprevResult.PERMERROR, address, reason="the address has no name")
    trouble = ""
    for name in names[:MAX_NAMES]:
        try:
            if await _leads_back(resolver, name, address):
                return IprevVerdict(IprevResult.PASS, address, name)
        except ResolverFault as fault:
            trouble = str(fault)
    if trouble:
        return IprevVerdict(IprevResult.TEMPERROR, address, reason=trouble)
    return IprevVerdict(IprevResult.FAIL, address, reason=f"{names[0]} is not at that address")


async def validated_names(resolver: Resolver, address: IPAddress) -> list[str]:
    """RFC 7208 §5.5: the names that lead back, of the first MAX_NAMES; what DNS fails to say is left out.

    Raises NameNotFound where the address has no names at all.
    """
    try:
        names = await resolver.names(address)
    except ResolverFault:
        return []
    found: list[str] = []
    for name in names[:MAX_NAMES]:
        try:
            if await _leads_back(resolver, name, address):
                found.append(name)
        except ResolverFault:
            continue
    return found


async def _leads_back(resolver: Resolver, name: str, address: IPAddress) -> bool:
    try:
        return bool(name) and address in await resolver.addresses(name, address.version)
    except NameNotFound:
        return False


def plain_address(address: IPAddress) -> IPAddress:
    """IPv4 addresses that come as IPv6 (RFC 4291 §2.5.5.2) are IPv4."""
    mapped = address.ipv4_mapped if address.version == 6 else None
    return address if mapped is None else mapped
