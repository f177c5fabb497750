# SPDX-License-Identifier: Apache-2.0
"""Against guessing passwords: how many failures, how fast, how many at once.

Failures count per address and per account. An address from which an account was in use before has a count of
its own with that account: a stranger's guessing shuts out neither the owner nor the office behind one address.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from posthouse.outcome import RATE_LIMITED, SECURITY_TRANSIENT, Refusal
from posthouse.ports import Clock, Peer
from posthouse.services.bounded import Bounded

FAILURE_PERIOD = 600.0  # seconds in which failures are counted together
# Every failure is answered this long after its attempt began at the earliest: longer than any hash takes, so the
# time tells nothing about the name, and a person does not mind. Doubled by each further failure up to the most.
FAILURE_DELAY = 0.5  # seconds
MAX_DELAY = 8.0  # seconds: below what mail clients wait for a reply
FREE_FAILURES = 3  # mistyped passwords before the delay grows

# Verifications at once. Without a bound a thousand connections could each have a guess before the first failure
# is counted; with it an attacker is at most so many guesses ahead.
MAX_AT_ONCE_PER_ADDRESS = 8
# About 4 s of work for two hashing threads; more would only time out in the queue. Strangers get half of it.
MAX_AT_ONCE = 400

# Some 200 octets each. When strangers fill them, the oldest counts are forgotten.
MAX_COUNTS = 50_000
MAX_KNOWN_PAIRS = 50_000
KNOWN_PERIOD = 14 * 86_400.0  # seconds that an address is remembered for an account after a login

IPV6_PREFIX = 64  # bits: what one customer has


@dataclass(slots=True)
class _Count:
    began: float
    failures: int = 0
    last: bytes = b""  # the last wrong guess, as a keyed hash


class Guard:
    def __init__(self, clock: Clock, *, failures_per_address: int = 20, failures_per_account: int = 50) -> None:
        self._clock = clock
        self._per_address = failures_per_address
        self._per_account = failures_per_account
        self._counts: Bounded[tuple[str, str], _Count] = Bounded(MAX_COUNTS)
        self._known: Bounded[tuple[str, str], float] = Bounded(MAX_KNOWN_PAIRS)
        self._lines: dict[str, tuple[asyncio.Semaphore, int]] = {}
        self._at_once = 0

    def check(self, peer: Peer, name: str) -> None:
        """Raises Refusal when this address or this account has failed too often lately."""
        for key, limit in self._keys(peer, name):
            if self._failures(key) >= limit:
                raise Refusal(RATE_LIMITED, "Too many failed logins, try again in some minutes")

    @asynccontextmanager
    async def turn(self, peer: Peer, name: str) -> AsyncIterator[None]:
        """Hold a place for one verification; waits while the address has too many of them. Raises Refusal."""
        self.check(peer, name)
        if self._at_once >= (MAX_AT_ONCE if self._is_known(peer, name) else MAX_AT_ONCE // 2):
            raise Refusal(SECURITY_TRANSIENT, "Too many logins at this moment, try again")
        place = place_of(peer)
        line, users = self._lines.get(place, (asyncio.Semaphore(MAX_AT_ONCE_PER_ADDRESS), 0))
        self._lines[place] = (line, users + 1)
        self._at_once += 1
        try:
            async with line:
                self.check(peer, name)  # others from there may have failed meanwhile
                yield
        finally:
            self._at_once -= 1
            line, users = self._lines[place]
            if users > 1:
                self._lines[place] = (line, users - 1)
            else:
                del self._lines[place]

    def failed(self, peer: Peer, name: str, guess: bytes = b"") -> None:
        """Count a failure. The same guess (a keyed hash of it) again is a device with an old password: no new one."""
        now = self._clock.monotonic()
        for key, _ in self._keys(peer, name):
            count = self._counts.get(key)
            if count is None or now - count.began >= FAILURE_PERIOD:
                count = _Count(now)
                self._counts.put(key, count)
            if not guess or guess != count.last:
                count.failures += 1
            count.last = guess

    def succeeded(self, peer: Peer, name: str) -> None:
        self._known.put((place_of(peer), name), self._clock.monotonic())

    async def delay(self, peer: Peer, name: str, began: float) -> None:
        """Wait before a failure is answered; `began` on the monotonic clock."""
        worst = max((self._failures(key) for key, _ in self._keys(peer, name)), default=0)
        doublings = min(max(0, worst - FREE_FAILURES), 10)
        wait = min(FAILURE_DELAY * 2**doublings, MAX_DELAY) - (self._clock.monotonic() - began)
        if wait > 0:
            await asyncio.sleep(wait)

    def _failures(self, key: tuple[str, str]) -> int:
        count = self._counts.get(key)
        if count is None or self._clock.monotonic() - count.began >= FAILURE_PERIOD:
            return 0
        return count.failures

    def _is_known(self, peer: Peer, name: str) -> bool:
        since = self._known.get((place_of(peer), name))
        return since is not None and self._clock.monotonic() - since < KNOWN_PERIOD

    def _keys(self, peer: Peer, name: str) -> list[tuple[tuple[str, str], int]]:
        place = place_of(peer)
        if self._is_known(peer, name):
            return [((place, name), self._per_address)]
        account = (("", name), self._per_account)
        # Loopback stands for everybody who comes through a proxy or webmail on this machine.
        return [account] if peer.is_loopback else [((place, ""), self._per_address), account]


def place_of(peer: Peer) -> str:
    """What counts as one place: an IPv4 address, an IPv6 network of one customer."""
    if ":" not in peer.address:
        return peer.address
    address = ipaddress.IPv6Address(peer.address.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
