# SPDX-License-Identifier: Apache-2.0
"""The directory as the hot path asks it: cached answers, dropped as soon as the directory changes.

An answer that was read before a change and comes back after it is given out, but never kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from posthouse.mail.address import Address, AddressError, Domain, parse_address
from posthouse.ports import Change, ChangeBus, Database, Reader
from posthouse.services.bounded import Bounded
from posthouse.store import lookup
from posthouse.store.lookup import Account, House, Resolution

# At most 2 KB each: some 20 MB at worst. Strangers can ask for any name, so the oldest ones give way.
MAX_CACHED_ADDRESSES = 10_000
# An address with more than SMALL members takes 110 octets for each, and strangers can make up thousands of names for
# one list (list+1@, list+2@, …): those have a cache of their own, 11 MB at worst.
SMALL = 16
MAX_CACHED_LISTS = 100
MAX_CACHED_DOMAINS = 10_000  # mostly the remote domains that users write to
MAX_CACHED_SENDERS = 10_000  # (account, address) pairs
MAX_CACHED_NAMES = 10_000

TOPIC = "directory"

T = TypeVar("T")
K = TypeVar("K")


class Directory:
    """Who is who, here."""

    def __init__(
        self,
        database: Database,
        bus: ChangeBus,
        *,
        hostname: str,
        detail_separator: str = "+",
        alias_may_send: bool = True,
        default_domain: str = "",
    ) -> None:
        """`default_domain`: completes a login name without a domain; empty: such names are unknown."""
        self._database = database
        self._house = House(Domain.parse(hostname).name, detail_separator)
        self._alias_may_send = alias_may_send
        self._default_domain = default_domain
        self._resolutions: Bounded[tuple[str, str], Resolution] = Bounded(MAX_CACHED_ADDRESSES)
        self._lists: Bounded[tuple[str, str], Resolution] = Bounded(MAX_CACHED_LISTS)
        self._domains: Bounded[str, tuple[bool]] = Bounded(MAX_CACHED_DOMAINS)
        self._senders: Bounded[tuple[int, str, str], tuple[bool]] = Bounded(MAX_CACHED_SENDERS)
        self._accounts: Bounded[tuple[str, str], tuple[Account | None]] = Bounded(MAX_CACHED_NAMES)
        self._changes = 0
        self._unsubscribe = bus.subscribe(TOPIC, 0, self._forget)

    def close(self) -> None:
        self._unsubscribe()

    async def resolve(self, address: Address) -> Resolution:
        """Where letters for this address go."""
        key = address.key
        known = self._resolutions.get(key) or self._lists.get(key)
        if known is None:
            if not await self.is_local_domain(address.domain.name):
                return Resolution(address, domain_is_local=False, remote=(address,))
            changes = self._changes
            known = await self._list_of(address)
            if known is None:
                known = await self._database.read(partial(lookup.resolve, house=self._house, address=address))
            if changes == self._changes:
                is_small = len(known.accounts) + len(known.remote) <= SMALL
                (self._resolutions if is_small else self._lists).put(key, known)
        return known if known.address == address else replace(known, address=address)

    async def _list_of(self, address: Address) -> Resolution | None:
        """The members of a known list of which this is a detail form: a thousand of them are not looked up anew for
        each of list+1@, list+2@, …"""
        base = lookup.without_detail(self._house, address.local_part)
        if base == address.local_part:
            return None
        known = self._lists.get(Address(base, address.domain).key)
        if known is None or await self._database.read(partial(lookup.has_own_row, address=address)):
            return None
        return known

    async def postmaster(self) -> Resolution:
        """Where letters for `<postmaster>` without a domain go (RFC 5321 §4.5.1)."""
        return await self.resolve(Address("postmaster", Domain(self._house.hostname)))

    async def is_local_domain(self, name: str) -> bool:
        """Whether mail for this domain is for here: a domain, a domain alias, or the host's own name."""
        if name == self._house.hostname:
            return True
        known = self._domains.get(name)
        if known is None:
            known = await self._ask(self._domains, name, lambda reader: (lookup.find_domain(reader, name) is not None,))
        return known[0]

    async def account(self, name_or_address: str) -> Account | None:
        """The account with this address, active or not; None when there is none."""
        address = self.login_address(name_or_address)
        if address is None:
            return None
        known = self._accounts.get(address.key)
        if known is None:
            known = await self._ask(self._accounts, address.key, lambda reader: (lookup.find_account(reader, address),))
        return known[0]

    def login_address(self, name: str) -> Address | None:
        """The address that a login name means; None when it can mean none."""
        text = name if "@" in name or not self._default_domain else f"{name}@{self._default_domain}"
        try:
            return parse_address(text)
        except AddressError:
            return None

    async def may_send_as(self, account: Account, address: Address) -> bool:
        """Whether a letter of this account may carry this address as its sender.

        Its own addresses, their twins in domain aliases and their detail forms; where the setting allows it
        also aliases (and catch-alls) that deliver to the account.
        """
        place = (account.id, *address.key)
        known = self._senders.get(place)
        if known is None:
            known = await self._ask(
                self._senders, place, lambda reader: (lookup.owns(reader, self._house, account.id, address),)
            )
        if known[0] or not self._alias_may_send:
            return known[0]
        resolution = await self.resolve(address)
        return resolution.is_alias and any(each.id == account.id for each in resolution.accounts)

    async def _ask(self, cache: Bounded[K, T], key: K, query: Callable[[Reader], T]) -> T:
        changes = self._changes
        answer = await self._database.read(query)
        if changes == self._changes:
            cache.put(key, answer)
        return answer

    def _forget(self, _change: Change) -> None:
        self._changes += 1
        self._resolutions.clear()
        self._lists.clear()
        self._domains.clear()
        self._senders.clear()
        self._accounts.clear()


__all__ = ["TOPIC", "Account", "Directory", "Resolution"]
