# SPDX-License-Identifier: Apache-2.0
"""What DNS says of a client and of the sender it names, iprev and SPF: worked out once for letters that follow each
other.

Invariant: a verdict is believed for KEPT_SECONDS, and only for the very client, sender and name in EHLO; one that
DNS did not let us know is not kept.
"""

from __future__ import annotations

from posthouse.mailauth.iprev import IprevResult, IprevVerdict, check_iprev
from posthouse.mailauth.spf import SpfResult, SpfVerdict, check_hello, check_mail_from
from posthouse.ports import Clock, IPAddress, Resolver
from posthouse.services.bounded import Bounded

# The letters of a busy session come within seconds of each other. Records that were changed are believed for that much
# longer than their TTL says, which is less than one check may take (RFC 7208 §4.6.4).
KEPT_SECONDS = 10.0
# Of each kind, 2 KB at most: more clients do not send letter after letter at once.
MAX_KEPT = 1000


class ClientChecks:
    def __init__(self, clock: Clock, *, receiver: str) -> None:
        """`receiver`: our own name, which SPF's macros may ask for."""
        self._clock = clock
        self._receiver = receiver
        self._names: Bounded[IPAddress, tuple[float, IprevVerdict]] = Bounded(MAX_KEPT)
        # Macros may bring the whole sender and the name in EHLO into a question (RFC 7208 §7.2).
        self._senders: Bounded[tuple[IPAddress, str, str], tuple[float, SpfVerdict]] = Bounded(MAX_KEPT)

    async def iprev(self, resolver: Resolver, address: IPAddress) -> IprevVerdict:
        now = self._clock.monotonic()
        kept = self._names.get(address)
        if kept is not None and now < kept[0]:
            return kept[1]
        verdict = await check_iprev(resolver, address)
        if verdict.result is not IprevResult.TEMPERROR:
            self._names.put(address, (now + KEPT_SECONDS, verdict))
        return verdict

    async def spf(self, resolver: Resolver, address: IPAddress, sender: str, hello: str) -> SpfVerdict:
        """`sender`: the reverse-path, "" for the null one."""
        now = self._clock.monotonic()
        key = address, sender, hello
        kept = self._senders.get(key)
        if kept is not None and now < kept[0]:
            return kept[1]
        wall = self._clock.wall()
        # The null sender's MAIL FROM identity is that of the HELO (RFC 7208 §2.4), and is told as such.
        if sender:
            verdict = await check_mail_from(resolver, address, sender, hello, receiver=self._receiver, now=wall)
        else:
            verdict = await check_hello(resolver, address, hello, receiver=self._receiver, now=wall)
        if verdict.result is not SpfResult.TEMPERROR:
            self._senders.put(key, (now + KEPT_SECONDS, verdict))
        return verdict
