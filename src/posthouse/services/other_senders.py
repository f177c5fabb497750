# SPDX-License-Identifier: Apache-2.0
"""Who else sends for a domain, as its present SPF record says: a policy against unsigned mail would hit them first.

Invariant: DNS that does not answer is told as such, and is not taken for nobody; nothing waits for it long.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection

from posthouse.mailauth.dmarc_record import Policy, parse_record
from posthouse.ports import IPAddress, NameNotFound, Resolver, ResolverFault
from posthouse.services.dns_records import Senders, Surroundings

DNS_SECONDS = 5.0  # for all questions: `posthouse dns` also works where there is no network yet
_OURS = ("mx", "a")  # of the domain itself
_NOBODY = ("exp=", "v=spf1")


async def other_senders(resolver: Resolver, domain: str, around: Surroundings) -> Senders:
    other = ""
    try:
        async with asyncio.timeout(DNS_SECONDS):
            terms = [term for text in await _texts(resolver, domain) for term in _terms(text)]
            if not terms:
                return Senders()
            hosts = {around.hostname, around.smart_host}
            addresses = {*around.addresses, *await _addresses(resolver, around.hostname)}
            other = next((term for term in terms if not _is_known(term, hosts, addresses)), "")
            return Senders(other, are_judged=bool(other) and await _has_policy(resolver, domain))
    except (ResolverFault, TimeoutError):
        return Senders(other, is_known=False)


def _terms(text: bytes) -> list[str]:
    """Those that let somebody pass (RFC 7208 §4.6)."""
    words = text.decode("ascii", "replace").lower().split(" ")
    if words[0] != "v=spf1":
        return []
    return [word.removeprefix("+") for word in words if word and word[0] not in "-~?" and not word.startswith(_NOBODY)]


def _is_known(term: str, hosts: Collection[str], addresses: Collection[IPAddress]) -> bool:
    name, _, value = term.partition(":")
    if name in ("ip4", "ip6"):
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            return True  # it lets nobody pass; `check` says what is wrong with it
        return network.num_addresses == 1 and (network[0] in addresses or value in hosts)
    return (not value and name in _OURS) or (name in _OURS and value in hosts)


async def _has_policy(resolver: Resolver, domain: str) -> bool:
    records = [parse_record(text) for text in await _texts(resolver, f"_dmarc.{domain}")]
    return any(each is not None and each.policy not in (None, Policy.NONE) for each in records)


async def _texts(resolver: Resolver, name: str) -> list[bytes]:
    try:
        return await resolver.txt(name)
    except NameNotFound:
        return []


async def _addresses(resolver: Resolver, name: str) -> list[IPAddress]:
    try:
        return await resolver.addresses(name)
    except NameNotFound:
        return []
