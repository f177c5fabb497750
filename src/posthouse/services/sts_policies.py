# SPDX-License-Identifier: Apache-2.0
"""The MTA-STS policies of other domains: asked for, fetched, kept, fetched again before they end (RFC 8461 §3.3, §5.1).

Invariant: a policy that was good is obeyed until its time is over, whatever DNS or the web server say or do not say
meanwhile; only another good one takes its place. A domain whose policy cannot be had is not waited for again at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from posthouse.mailauth.mta_sts import (
    MAX_AGE,
    MAX_POLICY,
    Mode,
    PolicyFault,
    StsPolicy,
    is_policy_type,
    parse_policy,
    parse_record,
    policy_url,
    record_name,
)
from posthouse.ports import Clock, Database, NameNotFound, Resolver, ResolverFault, StoreFault, WebClient, WebFault
from posthouse.services.bounded import Bounded
from posthouse.store import sts_policies as rows
from posthouse.store.sts_policies import KeptPolicy
from posthouse.telemetry import logger

# Seconds for a whole policy. §3.3 suggests a minute at most; letters wait for it, and honest servers take under two.
FETCH_SECONDS = 20.0
# Seconds for the record in DNS: where a kept policy can be obeyed without it, and where it is all there is.
RECORD_SECONDS, FIRST_RECORD_SECONDS = 5.0, 15.0
# §3.3: "five minutes or longer per version ID" after a fetch that failed.
PAUSE_AFTER_FAILURE = 300.0
DAY = 86400.0
REFRESH = DAY  # §3.3: once a day
# Who wrote to a domain within this time will want its policy again; others are forgotten when they end.
USED_WITHIN = 30 * DAY
REFRESH_AT_ONCE = 20  # fetches of one turn, one after the other: a web server that is slow delays the others only
IDLE = 3600.0  # seconds between looks at what is to be refreshed, at most: the wall clock may jump
MAX_REMEMBERED = 2_000  # policies in memory, about a kilobyte each
# Octets; a longer one is read from the store each time. A kilobyte of short lines takes some 20 of memory.
MAX_REMEMBERED_POLICY = 1024
MAX_FAILURES = 5_000


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is known of a domain's policy now. `trouble`: the word of RFC 8460 §4.3.2.2 and its reason, where a policy
    should be there and could not be had. `is_silent`: DNS did not say whether there is one."""

    policy: StsPolicy | None
    trouble: tuple[str, str] | None = None
    is_silent: bool = False

    @property
    def is_unsure(self) -> bool:
        """At another time there may be a policy, or another one."""
        return self.is_silent or self.trouble is not None


NOTHING, SILENCE = Fetched(None), Fetched(None, is_silent=True)


@dataclass(frozen=True, slots=True)
class _Known:
    """Kept in the store, read into values."""

    kept: KeptPolicy
    policy: StsPolicy


class StsPolicies:
    """`told` hears of refreshes that failed: domain, and what is known of its policy."""

    def __init__(
        self,
        database: Database,
        resolver: Resolver,
        web: WebClient,
        clock: Clock,
        *,
        told: Callable[[str, Fetched], None] = lambda _domain, _fetched: None,
    ) -> None:
        self._database = database
        self._resolver = resolver
        self._web = web
        self._clock = clock
        self._told = told
        self._known: Bounded[str, _Known | None] = Bounded(MAX_REMEMBERED)
        self._failed: Bounded[str, tuple[str, float, tuple[str, str]]] = Bounded(MAX_FAILURES)  # id, until, why
        self._under_way: dict[str, asyncio.Task[Fetched]] = {}
        self._task: asyncio.Task[None] | None = None
        self._log = logger("mta-sts")

    def start(self) -> None:
        """Begin to refresh what is kept."""
        self._task = asyncio.create_task(self._refresh_for_ever())

    async def stop(self) -> None:
        tasks = [*self._under_way.values(), *([self._task] if self._task is not None else [])]
        self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def of(self, domain: str) -> Fetched:
        """What the domain asks for now. Equal questions at once become one; never raises."""
        task = self._under_way.get(domain)
        if task is None:
            task = asyncio.create_task(self._find(domain))
            self._under_way[domain] = task
            task.add_done_callback(lambda _: self._under_way.pop(domain, None))
        return await asyncio.shield(task)

    async def _find(self, domain: str) -> Fetched:
        try:
            known = await self._recall(domain)
        except StoreFault as fault:
            self._log.error("policy_not_readable", domain=domain, reason=str(fault))
            known = None
        ident: str | None = None
        try:
            ident = await self._record(domain, is_needed=known is None)
        except ResolverFault:
            if known is None:
                return SILENCE
        if known is None:
            return NOTHING if ident is None else await self._try_to_fetch(domain, ident, None)
        await self._note_use(known)
        if ident is not None and ident != known.kept.policy_id:
            return await self._try_to_fetch(domain, ident, known)
        return Fetched(known.policy)

    async def _record(self, domain: str, *, is_needed: bool) -> str | None:
        """The id in DNS; None where there is none. Raises ResolverFault."""
        try:
            async with asyncio.timeout(FIRST_RECORD_SECONDS if is_needed else RECORD_SECONDS):
                return parse_record(await self._resolver.txt(record_name(domain)))
        except NameNotFound:
            return None
        except TimeoutError:
            raise ResolverFault(f"{record_name(domain)}: no answer in time") from None

    async def _try_to_fetch(self, domain: str, ident: str, known: _Known | None) -> Fetched:
        """A new policy in the place of the old one, if there is one."""
        policy = None if known is None else known.policy
        failed = self._failed.get(domain)
        if failed is not None and failed[0] == ident and self._clock.monotonic() < failed[1]:
            return Fetched(policy, failed[2])
        try:
            policy, body = await self._fetch(domain)
        except (WebFault, PolicyFault) as fault:
            trouble = _trouble(fault)
            self._failed.put(domain, (ident, self._clock.monotonic() + PAUSE_AFTER_FAILURE, trouble))
            # §3.3: administrators are to learn of it, unless the policy is "none".
            if policy is None or policy.mode is not Mode.NONE:
                self._log.warning("policy_not_fetched", domain=domain, result=trouble[0], reason=trouble[1])
            return Fetched(policy, trouble)
        self._failed.drop(domain)
        await self._keep(domain, ident, policy, body)
        return Fetched(policy)

    async def _fetch(self, domain: str) -> tuple[StsPolicy, bytes]:
        """Raises WebFault, PolicyFault."""
        url = policy_url(domain)
        reply = await self._web.get(url, limit=MAX_POLICY, seconds=FETCH_SECONDS)
        if reply.status != 200:  # §3.3: redirects are not followed
            raise WebFault(f"{url} is answered with {reply.status}")
        if not is_policy_type(reply.headers.get("content-type", "")):
            raise PolicyFault("the policy is not text/plain")
        return parse_policy(reply.body), reply.body

    async def _keep(self, domain: str, ident: str, policy: StsPolicy, body: bytes) -> None:
        now = self._clock.wall()
        expires_at = now + policy.max_age
        kept = KeptPolicy(
            domain=domain,
            policy_id=ident,
            body=body,
            fetched_at=now,
            expires_at=expires_at,
            # One with a short life is fetched again at half of it, as long as letters go there.
            refresh_at=now + max(PAUSE_AFTER_FAILURE, min(REFRESH, policy.max_age / 2)),
            used_at=now,
        )
        self._remember(_Known(kept, policy))
        self._log.info("policy_fetched", domain=domain, mode=policy.mode.value, id=ident, max_age=policy.max_age)
        try:
            await self._database.write(partial(rows.keep, policy=kept))
        except StoreFault as fault:  # it is obeyed all the same, a short one until the next start
            self._log.error("policy_not_kept", domain=domain, reason=str(fault))

    async def _recall(self, domain: str) -> _Known | None:
        """The policy that is kept and not over. Raises StoreFault."""
        known = self._known.get(domain)
        if known is None:
            kept = await self._database.read(partial(rows.find, domain=domain))
            known = None if kept is None else _read(kept)
            if known is not None:
                self._remember(known)
        now = self._clock.wall()
        # One that lives longer than any policy may was fetched while the clock was wrong.
        return known if known is not None and now < known.kept.expires_at <= now + MAX_AGE + DAY else None

    def _remember(self, known: _Known) -> None:
        self._known.drop(known.kept.domain)
        if len(known.kept.body) <= MAX_REMEMBERED_POLICY:
            self._known.put(known.kept.domain, known)

    async def _note_use(self, known: _Known) -> None:
        """Once a day."""
        kept, now = known.kept, self._clock.wall()
        if now - kept.used_at < DAY:
            return
        self._remember(replace(known, kept=replace(kept, used_at=now)))
        await self._quietly(partial(rows.note_use, domain=kept.domain, at=now))

    # --- refreshing -------------------------------------------------------------------------------

    async def _refresh_for_ever(self) -> None:
        while True:
            pause = IDLE
            try:
                pause = await self.refresh()
            except StoreFault as fault:
                self._log.error("policies_not_readable", reason=str(fault))
            except Exception as defect:
                self._log.exception("refresh_failed", reason=repr(defect))
            await asyncio.sleep(pause)

    async def refresh(self) -> float:
        """Fetch again what is due, forget what is over; seconds until the next time. Raises StoreFault."""
        now = self._clock.wall()
        await self._database.write(partial(rows.forget_expired, now=now))
        due = await self._database.read(
            partial(rows.to_refresh, now=now, used_since=now - USED_WITHIN, limit=REFRESH_AT_ONCE)
        )
        for kept in due:
            await self._refresh_one(kept)
        ready_at = await self._database.read(partial(rows.next_refresh, used_since=now - USED_WITHIN))
        return IDLE if ready_at is None else min(max(1.0, ready_at - self._clock.wall()), IDLE)

    async def _refresh_one(self, kept: KeptPolicy) -> None:
        known = _read(kept)
        # Put off first: whatever comes of it, it is not due again at once.
        later = self._clock.wall() + max(PAUSE_AFTER_FAILURE, min(REFRESH, (kept.expires_at - kept.fetched_at) / 8))
        await self._database.write(partial(rows.postpone, domain=kept.domain, refresh_at=later))
        try:
            ident = await self._record(kept.domain, is_needed=False)
        except ResolverFault:
            ident = None
        fetched = await self._try_to_fetch(kept.domain, ident or kept.policy_id, known)
        if fetched.trouble is not None:
            self._told(kept.domain, fetched)
            return
        # It was not used just now: only letters count.
        await self._quietly(partial(rows.note_use, domain=kept.domain, at=kept.used_at))
        found = self._known.get(kept.domain)
        if found is not None:
            self._remember(replace(found, kept=replace(found.kept, used_at=kept.used_at)))

    async def _quietly(self, unit: Callable[..., None]) -> None:
        try:
            await self._database.write(unit)
        except StoreFault as fault:
            self._log.error("policy_not_kept", reason=str(fault))


def _read(kept: KeptPolicy) -> _Known | None:
    try:
        return _Known(kept, parse_policy(kept.body))
    except PolicyFault:  # it was good when it was kept: the disk, or a newer program that is stricter
        return None


def _trouble(fault: WebFault | PolicyFault) -> tuple[str, str]:
    """RFC 8460 §4.3.2.2."""
    match fault:
        case PolicyFault():
            return "sts-policy-invalid", str(fault)
        case WebFault(result=""):
            return "sts-policy-fetch-error", str(fault)
        case WebFault():
            return "sts-webpki-invalid", str(fault)
