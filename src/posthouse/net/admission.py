# SPDX-License-Identifier: Apache-2.0
"""How many connections may be open at once: in all, and from one place.

One Admission may be shared by several listeners. Every `enter` that answered None is followed by one `leave`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

# Enough for a company of some hundred people with several devices each; 2 GB hold many more.
TOTAL_CONNECTIONS = 2000
# A mail client opens up to five, a busy relay some twenty; an office behind one address more.
CONNECTIONS_PER_ADDRESS = 100

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Admission:
    """Counts open connections. IPv6 peers count by /64, since one host may use all of it."""

    def __init__(
        self,
        total: int = TOTAL_CONNECTIONS,
        per_address: int = CONNECTIONS_PER_ADDRESS,
        exempt: Sequence[IPNetwork] = (),
    ) -> None:
        """`exempt`: networks that only count in the total (loopback, the company's own)."""
        self._total = total
        self._per_address = per_address
        self._exempt = tuple(exempt)
        self._by_place: dict[str, int] = {}
        self.count = 0

    def enter(self, address: str) -> str | None:
        """None: welcome. Otherwise the reason why not, for the greeting and the log."""
        if self.count >= self._total:
            return "too many connections"
        place = _place(address)
        here = self._by_place.get(place, 0)
        if here >= self._per_address and not self._is_exempt(address):
            return "too many connections from your address"
        self.count += 1
        self._by_place[place] = here + 1
        return None

    def leave(self, address: str) -> None:
        place = _place(address)
        self.count -= 1
        left = self._by_place[place] - 1
        if left:
            self._by_place[place] = left
        else:
            del self._by_place[place]

    def _is_exempt(self, address: str) -> bool:
        if address == "unix":
            return True  # file permissions decide there
        ip = ipaddress.ip_address(address)
        return any(ip in network for network in self._exempt)


@lru_cache(maxsize=4096)  # the same few thousand peers come all day
def _place(address: str) -> str:
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False))
