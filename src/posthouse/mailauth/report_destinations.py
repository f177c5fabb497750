# SPDX-License-Identifier: Apache-2.0
"""Who may get a domain's DMARC reports: addresses of its own organization, and others that say they want them
(RFC 9990 §4).

Invariant: nobody who has not agreed gets a report, whatever a stranger publishes; where DNS does not answer nothing is
decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.mail.address import Address
from posthouse.mailauth.dmarc_record import DmarcRecord, parse_record
from posthouse.mailauth.organization import TreeWalk
from posthouse.mailauth.report_uri import parse_target
from posthouse.ports import NameNotFound, Resolver

MAX_DESTINATIONS = 8  # RFC 9990 §3.5 leaves the limit to us; RFC 7489 §6.2 asked for two at least
MAX_NAME = 253  # characters of a name in DNS (RFC 1035 §2.3.4), without the final dot


@dataclass(frozen=True, slots=True)
class Destinations:
    """`addresses` may get the report. `refused`: URIs that do not count, each with why, for the log and for people."""

    addresses: tuple[Address, ...]
    refused: tuple[tuple[str, str], ...]


async def destinations_of(resolver: Resolver, policy_domain: str, uris: Sequence[str]) -> Destinations:
    """Of a policy's rua, in its order (§3.5). Raises ResolverFault."""
    walk = TreeWalk(resolver)
    addresses: dict[Address, None] = {}
    refused: list[tuple[str, str]] = []
    for uri in uris:
        target = parse_target(uri)
        if not isinstance(target, Address):
            refused.append((uri, "no mailto address"))
        elif len(addresses) >= MAX_DESTINATIONS:
            refused.append((uri, f"only {MAX_DESTINATIONS} get a report"))
        elif target.domain.is_literal:
            refused.append((uri, "its host has no name that could be asked whether it wants reports"))
        else:
            agreed, why = await _agreed(resolver, walk, policy_domain, target)
            addresses.update(dict.fromkeys(agreed))
            refused += [(uri, why)] * bool(why)
    return Destinations(tuple(addresses)[:MAX_DESTINATIONS], tuple(refused))


async def _agreed(
    resolver: Resolver, walk: TreeWalk, policy_domain: str, wanted: Address
) -> tuple[Sequence[Address], str]:
    """The addresses in place of this one, and why there are none."""
    host = wanted.domain.name
    if await walk.organization_of(policy_domain) == await walk.organization_of(host):
        return (wanted,), ""
    name = f"{policy_domain}._report._dmarc.{host}"
    if len(name) > MAX_NAME:  # step 4
        return (), f"{host} cannot be asked: the name is too long"
    try:
        texts = await resolver.txt(name)
    except NameNotFound:
        texts = []
    records = [record for text in texts if (record := parse_record(text)) is not None]
    if not records:  # step 7
        return (), f"{host} does not say that it wants them ({name})"
    instead = [target for record in records for target in _overriding(record)]
    if not instead:
        return (wanted,), ""
    # Step 9: an address at yet another host means that neither gets one.
    if any(not isinstance(target, Address) or target.domain.name != host for target in instead):
        return (), f"{name} names an address at another host"
    return [target for target in instead if isinstance(target, Address)], ""


def _overriding(record: DmarcRecord) -> list[Address | str | None]:
    return [parse_target(uri) for uri in record.rua]
