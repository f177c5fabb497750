# SPDX-License-Identifier: Apache-2.0
"""Whose policy applies to a domain, and which domains belong together: the DNS Tree Walk (RFC 9989 §4.10).

Invariant: one walk asks at most MAX_QUERIES questions, however many labels a domain has, and none twice.
"""

from __future__ import annotations

from typing import NamedTuple

from posthouse.mailauth.dmarc_record import DmarcRecord, parse_record
from posthouse.ports import NameNotFound, Resolver

MAX_QUERIES = 8  # RFC 9989 §4.10: "Author Domains with more than eight labels do not result in more than eight"


class Published(NamedTuple):
    """A record and the domain at whose `_dmarc` it lies."""

    domain: str
    record: DmarcRecord


class TreeWalk:
    """The records of one letter's domains. Domains are A-labels in lower case without a final dot.

    Its methods raise ResolverFault where DNS gives no answer: then nothing is known (RFC 9989 §5.3.6).
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._records: dict[str, DmarcRecord | None] = {}
        self.problems: list[str] = []  # for the reports of the domain's owner (RFC 9990 §3.1.5)

    async def policy_for(self, author: str) -> Published | None:
        """§4.10.1: the record of the author's domain, else of its organization, else of the public suffix above."""
        own = await self._record(author)
        if own is not None:
            return Published(author, own)
        found = await self._walk(author)
        if not found:
            return None
        organization = _select(author, found)
        for published in found:
            if published.domain == organization:
                return published
        return found[-1]  # the walk stopped there because of psd=y, one label above the organization

    async def organization_of(self, domain: str) -> str:
        """§4.10.2."""
        return _select(domain, await self._walk(domain))

    async def exists(self, domain: str) -> bool:
        """§3.2.13: only NXDOMAIN says that it does not."""
        try:
            await self._resolver.txt(domain)
        except NameNotFound:
            return False
        return True

    async def _walk(self, domain: str) -> list[Published]:
        """What was found, from the longest name to the shortest."""
        found: list[Published] = []
        for target in walk_targets(domain):
            record = await self._record(target)
            if record is not None:
                found.append(Published(target, record))
                if record.psd != "u":
                    break
        return found

    async def _record(self, domain: str) -> DmarcRecord | None:
        if domain in self._records:
            return self._records[domain]
        try:
            texts = await self._resolver.txt(f"_dmarc.{domain}")
        except NameNotFound:
            texts = []
        records = [record for text in texts if (record := parse_record(text)) is not None]
        if len(records) > 1:
            self.problems.append(f"_dmarc.{domain} has {len(records)} DMARC records")
        only = records[0] if len(records) == 1 else None
        self._records[domain] = only
        return only


def walk_targets(domain: str) -> list[str]:
    """§4.10, steps 1 to 7: the domain, then its parents; of long names only those of seven labels and fewer."""
    labels = domain.split(".")
    parents = labels[-min(len(labels) - 1, MAX_QUERIES - 1) :] if len(labels) > 1 else []
    return [domain, *(".".join(parents[at:]) for at in range(len(parents)))]


def may_be_related(one: str, other: str) -> bool:
    """Whether two domains might be of one organization, without asking DNS: two labels in common. It takes too many for
    one, and none of one for two, but for owners of a top level domain."""
    return one.split(".")[-2:] == other.split(".")[-2:]


def _select(domain: str, found: list[Published]) -> str:
    """§4.10.2, the three rules."""
    for name, record in found:
        if record.psd == "n":
            return name
        if record.psd == "y" and name != domain:
            return ".".join(domain.split(".")[-name.count(".") - 2 :])
    return found[-1].domain if found else domain
