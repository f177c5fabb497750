# SPDX-License-Identifier: Apache-2.0
"""Which key a certificate is for: the one that is served already, as TLSA records name it, or the one that follows it.

Invariant: a key is on the disk before anything names it, and it is not chosen before those who look in DNS must know
it; unless somebody else has the present one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from posthouse.ports import Clock, Entropy, Workers
from posthouse.services.acme.x509 import ServerKey, key_digest, key_kind, make_key
from posthouse.services.certificate_shelf import CertificateShelf
from posthouse.services.certificate_terms import CertificatePlan, Standing, covers
from posthouse.services.key_rollover import KeyNotice, Sight
from posthouse.telemetry import logger

_log = logger("acme")


class CertificateKeys:
    def __init__(
        self,
        plans: Sequence[CertificatePlan],
        shelf: CertificateShelf,
        notice: KeyNotice,
        *,
        clock: Clock,
        entropy: Entropy,
        workers: Workers,
        hostname: str,
        first_key: Callable[[], ServerKey | None],
    ) -> None:
        """`first_key`: the key that is served now for `hostname` and may be noted in DNS already; the first certificate
        for it takes that one."""
        # TLSA records name its key: of two certificates for the host the first is served.
        self._for_host = next((plan for plan in plans if covers(plan.names, [hostname])), None)
        self._shelf = shelf
        self._notice = notice
        self._clock = clock
        self._entropy = entropy
        self._workers = workers
        self._hostname = hostname
        self._first_key = first_key
        self._shown_since: dict[str, float] = {}  # by the monotonic clock, for keys whose record has come in this run

    async def choose(self, standing: Standing) -> tuple[ServerKey, bool]:
        """The key of the next certificate, and whether it is the one in next.pem."""
        served, plan = standing.served, standing.plan
        if standing.next_key is not None and (served is None or standing.may_use_next(self._clock.wall())):
            return standing.next_key, True
        if served is not None and standing.revoked_for != "key-compromise":
            return served.key, False
        key = await self._served_key(plan) if served is None else None
        if key is None:
            key = await self._new_key(plan)
        await self._workers.run(partial(self._shelf.keep_next_key, plan.name, key))
        return key, True

    async def make_next(self, standing: Standing) -> Standing:
        """The key that will follow, durable."""
        if standing.next_key is not None or standing.served is None:
            return standing
        plan, state = standing.plan, standing.state
        key = await self._new_key(plan)
        state.next_made_at, state.next_shown_at, state.next_ttl = self._clock.wall(), 0.0, 0.0
        await self._workers.run(partial(self._shelf.keep_next_key, plan.name, key))
        await self._keep(standing)
        _log.info("next key made", certificate=plan.name, digest=key_digest(key))
        return Standing(plan, state, standing.served, key)

    async def follow_next(self, standing: Standing) -> Sight | None:
        """Tell of the next key in the zone where we can write, and see whether DNS shows it, and since when."""
        plan, state, served = standing.plan, standing.state, standing.served
        sight = None
        if plan == self._for_host and served is not None:
            await self._notice.put(self._hostname, served.facts.key_digest, standing.next_digest)
            sight = await self._notice.look(self._hostname, standing.next_digest)
        if sight is None or not sight.is_used or sight.is_shown:
            # A time that is still to come was noted by a clock that was ahead.
            if not 0 < state.next_shown_at <= self._clock.wall():
                state.next_shown_at, self._shown_since[plan.name] = self._clock.wall(), self._clock.monotonic()
            state.next_ttl = max(state.next_ttl, 0.0 if sight is None else sight.ttl)
        else:
            state.next_shown_at, state.next_ttl = 0.0, 0.0
            _log.info("next key waits for its TLSA record", certificate=plan.name, reason=sight.text)
        await self._keep(standing)
        return sight

    def watched(self, name: str) -> float:
        """Seconds for which this run has known a next key to be shown, whatever the wall clock does; infinite where an
        earlier run has seen it."""
        since = self._shown_since.get(name)
        return math.inf if since is None else self._clock.monotonic() - since

    async def drop_next(self, standing: Standing) -> None:
        if standing.plan == self._for_host and standing.served is not None:
            await self._notice.take_away(self._hostname, standing.served.facts.key_digest, standing.next_digest)
        await self._workers.run(partial(self._shelf.drop_next_key, standing.plan.name))

    async def replaced(self, plan: CertificatePlan, old: str, new: str, *, is_served: bool) -> None:
        """The key with one digest is in the place of the one with another: where we can write, DNS says so.
        `is_served`: it is served already; until then the record of the old one must stay (RFC 7671 §8.1)."""
        if plan == self._for_host:
            # It stands there already after a rollover, not where the key was changed at once.
            await self._notice.put(self._hostname, old, new)
            if is_served:
                await self._notice.take_away(self._hostname, new, old)

    async def _served_key(self, plan: CertificatePlan) -> ServerKey | None:
        """For the first certificate. A key of another kind than the settings want is taken only where DNS tells of it;
        then the wanted one follows by a rollover."""
        if plan != self._for_host:
            return None
        key = await self._workers.run(self._first_key)
        if key is not None and key_kind(key) != plan.key:
            sight = await self._notice.look(self._hostname, key_digest(key))
            return key if sight.is_used else None
        return key

    async def _new_key(self, plan: CertificatePlan) -> ServerKey:
        return await self._workers.run(partial(make_key, plan.key, self._entropy), pool="hash")

    async def _keep(self, standing: Standing) -> None:
        await self._workers.run(partial(self._shelf.keep_state, standing.plan.name, standing.state))
