# SPDX-License-Identifier: Apache-2.0
"""The certificates that the settings want: had, renewed in time, and given a new key when that is wished.

Invariant: what is served stays until its successor is durable and complete. An attempt that fails changes nothing but
the time of the next one, and is told in the log, the metrics, `posthouse certificate list` and `posthouse check`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from posthouse.outcome import BAD_MAILBOX, INVALID_COMMAND, SECURITY_TRANSIENT, Refusal
from posthouse.ports import Clock, Entropy, StoreFault, Workers
from posthouse.services.acme.accounts import Accounts
from posthouse.services.acme.client import MAX_RETRY_AFTER
from posthouse.services.acme.issuing import Issuing, Wanted
from posthouse.services.acme.renewal import ask_again_in, retry_in, window_of
from posthouse.services.acme.solving import Solver
from posthouse.services.acme.words import AcmeFault
from posthouse.services.acme.x509 import ServerKey, key_digest, key_kind, make_key
from posthouse.services.certificate_shelf import CertificateShelf, State
from posthouse.services.certificate_terms import (
    Authority,
    CertificatePlan,
    CertificateStatus,
    Standing,
    covers,
    status_of,
)
from posthouse.services.challenges import ChallengeKind
from posthouse.services.key_rollover import LOOK, KeyNotice, Sight
from posthouse.telemetry import Metrics, logger

# Wall clocks jump, and a machine that slept does not know it: nobody sleeps longer than that without a look.
LONGEST_SLEEP = 6 * 3600.0
SHORTEST_SLEEP = 1.0


@dataclass(frozen=True, slots=True)
class KeyDigests:
    """For TLSA records: of the key that is served for a host, and of the one that follows it; "" for none."""

    present: str
    following: str


class Certificates:
    def __init__(
        self,
        plans: Sequence[CertificatePlan],
        authority: Authority,
        shelf: CertificateShelf,
        accounts: Accounts,
        solvers: Mapping[ChallengeKind, Solver],
        notice: KeyNotice,
        *,
        clock: Clock,
        entropy: Entropy,
        workers: Workers,
        metrics: Metrics,
        hostname: str,
        by_hand: Callable[[], Iterable[str]],
        first_key: Callable[[], ServerKey | None],
    ) -> None:
        """`by_hand`: the names of the certificates that the settings name, which win. `first_key`: the key that is
        served now for `hostname` and may be noted in DNS already; the first certificate for it takes that one."""
        self._plans = {plan.name: plan for plan in plans}
        self._authority = authority
        self._shelf = shelf
        self._accounts = accounts
        self._solvers = solvers
        self._notice = notice
        self._clock = clock
        self._entropy = entropy
        self._workers = workers
        self._metrics = metrics
        self._hostname = hostname
        self._by_hand = by_hand
        self._first_key = first_key
        self._ends: dict[str, float] = {}  # by name: when what is served ends, as of the last look
        self._installed: list[Callable[[], object]] = []
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()  # one at a time: an order holds challenges, and authorities count
        self._log = logger("acme")

    def watch(self, installed: Callable[[], object]) -> None:
        """`installed` is called whenever a new certificate is in its place; False: it is not served yet."""
        self._installed.append(installed)

    def start(self) -> None:
        """From now on certificates are had and renewed; the listeners that answer for us must be up."""
        if self._plans:
            self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def first_end(self) -> float:
        """When the first of the certificates ends, in seconds since the epoch; 0 where there is none."""
        return min(self._ends.values(), default=0.0)

    # --- what people ask --------------------------------------------------------------------------

    async def list(self) -> list[CertificateStatus]:
        now = self._clock.wall()
        by_hand = await self._names_by_hand()
        found = [await self._workers.run(partial(self._read, plan)) for plan in self._plans.values()]
        return [status_of(each, now, is_by_hand=covers(by_hand, each.plan.names)) for each in found]

    def digests(self, host: str) -> KeyDigests:
        """Of the certificate that we serve for a host; both "" where we have none for it. Reads some small files."""
        if not covers(self._by_hand(), [host]):
            for plan in self._plans.values():
                standing = self._read(plan)
                if standing.served is not None and covers(standing.served.facts.names, [host]):
                    return KeyDigests(standing.served.facts.key_digest, standing.next_digest)
        return KeyDigests("", "")

    async def renew(self, name: str, *, new_key: bool = False) -> CertificateStatus:
        """Now, whatever the calendar says. `new_key`: with another key at once, though DNS may still tell the old one.
        Raises Refusal."""
        plan = self._plan(name)
        async with self._lock:
            standing = await self._standing(plan)
            if new_key and standing.served is not None and not standing.may_use_next(self._clock.wall()):
                standing = await self._make_next(standing)
                standing.state.next_shown_at, standing.state.next_ttl = self._clock.wall(), 0.0
            fault = await self._attempt(standing, "it was asked for")
        self._wake.set()
        if fault is not None:
            text = f"no new certificate {name}: {fault}".encode("ascii", "backslashreplace").decode("ascii")
            raise Refusal(SECURITY_TRANSIENT, text)
        return await self._status(plan)

    async def rollover(self, name: str) -> tuple[CertificateStatus, Sight | None]:
        """Make the next key known; the server takes it when DNS has shown it for long enough. With what DNS shows now;
        None where nobody looks for this key in DNS. Raises Refusal."""
        plan = self._plan(name)
        async with self._lock:
            standing = await self._standing(plan)
            if standing.served is None:
                raise Refusal(INVALID_COMMAND, f"there is no certificate {name} yet whose key could be replaced")
            standing = await self._make_next(standing)
            standing.state.is_rollover_asked = True
            sight = await self._follow_next(standing)
        self._wake.set()
        return await self._status(plan), sight

    def _plan(self, name: str) -> CertificatePlan:
        if not self._plans:
            self._refuse_all()
        plan = self._plans.get(name)
        if plan is None:
            raise Refusal(BAD_MAILBOX, f"there is no certificate {name!r}; [acme] has {', '.join(self._plans)}")
        if self._task is None and plan.challenge != "dns-01":
            text = f"the authority looks at the running server ({plan.challenge}): start it first"
            raise Refusal(INVALID_COMMAND, text)
        return plan

    def _refuse_all(self) -> NoReturn:
        raise Refusal(INVALID_COMMAND, "no certificate is wanted of an authority: see [acme] in posthouse.toml")

    async def _status(self, plan: CertificatePlan) -> CertificateStatus:
        return next(each for each in await self.list() if each.name == plan.name)

    # --- the calendar -----------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            self._wake.clear()
            due = math.inf
            for plan in self._plans.values():
                due = min(due, await self._tend_safely(plan))
            pause = min(max(due - self._clock.wall(), SHORTEST_SLEEP), LONGEST_SLEEP)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _tend_safely(self, plan: CertificatePlan) -> float:
        try:
            async with self._lock:
                return await self.tend(plan)
        except StoreFault as fault:
            self._log.error("certificate not looked after", certificate=plan.name, reason=str(fault))
        except Exception as fault:  # the others and the next time go on
            self._log.exception("certificate not looked after", certificate=plan.name, reason=repr(fault))
        return self._clock.wall() + retry_in(1, None)

    async def tend(self, plan: CertificatePlan) -> float:
        """Do what is due for one certificate; when something will be due again. Raises StoreFault."""
        if covers(await self._names_by_hand(), plan.names):
            return math.inf  # a reload or a restart brings other settings
        now = self._clock.wall()
        standing = await self._standing(plan)
        state = standing.state
        if state.failures and now < state.retry_at <= now + MAX_RETRY_AFTER:  # further ahead: the clock was wrong
            return state.retry_at
        if standing.next_key is not None and standing.served is not None and standing.may_use_next(now):
            await self._follow_next(standing)  # what was seen before a long stop may not be so any more
        reason = standing.reason(self._authority, now)
        if reason:
            await self._attempt(standing, reason)
            standing = await self._standing(plan)
            if standing.state.failures:
                return standing.state.retry_at
        if standing.served is None:
            return now
        self._ends[plan.name] = standing.served.facts.expires_at
        await self._ask_renewal_info(standing)
        if standing.notice_at is not None and standing.next_key is None and now >= standing.notice_at:
            standing = await self._make_next(standing)
        looks_at = math.inf
        if standing.next_key is not None:
            await self._follow_next(standing)
            looks_at = self._clock.wall() + LOOK
        times = [standing.renew_at, standing.state.ask_at or math.inf, standing.notice_at or math.inf, looks_at]
        if standing.state.is_rollover_asked:
            times.append(standing.next_ready_at or math.inf)
        # What is in the past was done just now, or waits for something that has a time of its own.
        return min([each for each in times if each > now], default=now + LONGEST_SLEEP)

    async def _ask_renewal_info(self, standing: Standing) -> None:
        """RFC 9773 §4.3: after issuance, and again when the authority wants it; never once it has ended."""
        served, state, now = standing.served, standing.state, self._clock.wall()
        if served is None or not served.facts.renewal_id or now >= served.facts.expires_at:
            return
        if now < state.ask_at <= now + ask_again_in(math.inf):
            return
        pause = ask_again_in(None)
        try:
            client = await self._accounts.stranger()
            answer = await client.renewal_info(served.facts.renewal_id)
        except AcmeFault as fault:
            self._log.info("no renewal information", certificate=standing.plan.name, reason=str(fault))
            pause = max(pause, fault.retry_after or 0.0)
        else:
            window = None
            if answer is not None:
                info, after = answer
                window, pause = window_of(info), ask_again_in(after)
            if window is not None and window != state.window:
                state.window, state.chance = window, self._chance()
                self._log.info(
                    "renewal suggested",
                    certificate=standing.plan.name,
                    start=window.start,
                    end=window.end,
                    chosen=standing.renew_at,
                    explanation=window.explanation,
                )
        state.ask_at = now + pause
        await self._keep(standing)

    # --- keys -------------------------------------------------------------------------------------

    async def _make_next(self, standing: Standing) -> Standing:
        """The key that will follow, durable, and told in the zone where we can write."""
        if standing.next_key is not None or standing.served is None:
            return standing
        plan, state = standing.plan, standing.state
        key = await self._new_key(plan)
        state.next_made_at, state.next_shown_at, state.next_ttl = self._clock.wall(), 0.0, 0.0
        await self._workers.run(partial(self._shelf.keep_next_key, plan.name, key))
        await self._keep(standing)
        self._log.info("next key made", certificate=plan.name, digest=key_digest(key))
        return Standing(plan, state, standing.served, key)

    async def _follow_next(self, standing: Standing) -> Sight | None:
        """See whether DNS shows the next key, and since when."""
        plan, state, served = standing.plan, standing.state, standing.served
        sight = None
        if covers(plan.names, [self._hostname]) and served is not None:
            await self._notice.put(self._hostname, served.facts.key_digest, standing.next_digest)
            sight = await self._notice.look(self._hostname, standing.next_digest)
        if sight is None or not sight.is_used or sight.is_shown:
            state.next_shown_at = state.next_shown_at or self._clock.wall()
            state.next_ttl = max(state.next_ttl, 0.0 if sight is None else sight.ttl)
        else:
            state.next_shown_at, state.next_ttl = 0.0, 0.0
            self._log.info("next key waits for its TLSA record", certificate=plan.name, reason=sight.text)
        await self._keep(standing)
        return sight

    async def _key_for(self, standing: Standing) -> tuple[ServerKey, bool]:
        """The key of the next certificate, and whether it is the one in next.pem."""
        served, plan = standing.served, standing.plan
        if standing.next_key is not None and (served is None or standing.may_use_next(self._clock.wall())):
            return standing.next_key, True
        if served is not None:
            return served.key, False
        key = await self._workers.run(self._first_key) if covers(plan.names, [self._hostname]) else None
        if key is None or key_kind(key) != plan.key:
            key = await self._new_key(plan)
        await self._workers.run(partial(self._shelf.keep_next_key, plan.name, key))
        return key, True

    async def _new_key(self, plan: CertificatePlan) -> ServerKey:
        return await self._workers.run(partial(make_key, plan.key, self._entropy), pool="hash")

    # --- orders -----------------------------------------------------------------------------------

    async def _attempt(self, standing: Standing, reason: str) -> AcmeFault | None:
        plan, state = standing.plan, standing.state
        self._log.info("certificate wanted", certificate=plan.name, names=list(plan.names), reason=reason)
        try:
            try:
                await self._obtain(standing)
            except AcmeFault as fault:
                if fault.kind != "accountDoesNotExist":
                    raise
                await self._accounts.forget()
                await self._obtain(standing)
        except AcmeFault as fault:
            state.failures += 1
            state.error = str(fault)
            state.retry_at = self._clock.wall() + retry_in(state.failures, fault.retry_after)
            self._metrics.certificates.labels("failed").inc()
            self._log.error(
                "no certificate",
                certificate=plan.name,
                reason=str(fault),
                kind=fault.kind,
                failures=state.failures,
                retry_at=state.retry_at,
            )
            await self._keep(standing)
            return fault
        self._metrics.certificates.labels("issued").inc()
        return None

    async def _obtain(self, standing: Standing) -> None:
        plan, state, served = standing.plan, standing.state, standing.served
        solver = self._solvers.get(plan.challenge)
        if solver is None:
            raise AcmeFault(f"{plan.challenge} cannot be used here: set [dns_update] for dns-01, or another challenge")
        key, uses_next = await self._key_for(standing)

        async def keep(url: str) -> None:
            state.order_url, state.order_names, state.order_uses_next = url, list(plan.names), uses_next
            await self._keep(standing)

        is_same = state.order_names == list(plan.names) and state.order_uses_next == uses_next
        replaces = (
            served.facts.renewal_id if served is not None and state.directory == self._authority.directory else ""
        )
        chain = await Issuing(await self._accounts.client(), solver, keep=keep).obtain(
            Wanted(plan.names, key, replaces, plan.profile), order_url=state.order_url if is_same else ""
        )
        await self._install(standing, key, chain, uses_next=uses_next)

    async def _install(self, standing: Standing, key: ServerKey, chain: bytes, *, uses_next: bool) -> None:
        plan, served = standing.plan, standing.served
        await self._workers.run(partial(self._shelf.install, plan.name, key, chain))
        state = standing.state
        fresh = State(
            directory=self._authority.directory,
            installed_at=self._clock.wall(),
            renewals=0 if uses_next else state.renewals + 1,
            chance=self._chance(),
        )
        if not uses_next:
            fresh.next_made_at, fresh.next_shown_at, fresh.next_ttl = (
                state.next_made_at,
                state.next_shown_at,
                state.next_ttl,
            )
            fresh.is_rollover_asked = state.is_rollover_asked
        await self._workers.run(partial(self._shelf.keep_state, plan.name, fresh))
        if uses_next:
            await self._workers.run(partial(self._shelf.drop_next_key, plan.name))
        said = [told() for told in self._installed]
        self._log.info("certificate installed", certificate=plan.name, names=list(plan.names), new_key=uses_next)
        # While the old key is still served, its record must stay (RFC 7671 §8.1).
        is_served = not any(each is False for each in said)
        if is_served and uses_next and served is not None and covers(plan.names, [self._hostname]):
            await self._notice.take_away(self._hostname, key_digest(key), served.facts.key_digest)

    # --- what is there ----------------------------------------------------------------------------

    async def _standing(self, plan: CertificatePlan) -> Standing:
        """For who holds the lock."""
        return await self._workers.run(partial(self._read, plan, mends=True))

    def _read(self, plan: CertificatePlan, *, mends: bool = False) -> Standing:
        """`mends`: what a crash has left is tidied up; without the lock it may be an installation in progress."""
        state, served = self._shelf.state(plan.name), self._shelf.served(plan.name)
        following = self._shelf.next_key(plan.name)
        if served is not None and following is not None and key_digest(following) == served.facts.key_digest:
            # The server stopped between the new certificate and the forgetting of what led to it.
            state = State(directory=state.directory or self._authority.directory, installed_at=state.installed_at)
            if mends:
                self._shelf.keep_state(plan.name, state)
                self._shelf.drop_next_key(plan.name)
            following = None
        return Standing(plan, state, served, following)

    async def _keep(self, standing: Standing) -> None:
        await self._workers.run(partial(self._shelf.keep_state, standing.plan.name, standing.state))

    async def _names_by_hand(self) -> frozenset[str]:
        return frozenset(await self._workers.run(self._by_hand))

    def _chance(self) -> float:
        return int.from_bytes(self._entropy.octets(4), "big") / 0x1_0000_0000
