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
from posthouse.services.acme.client import MAX_RETRY_AFTER, AcmeClient
from posthouse.services.acme.issuing import Issuing, Wanted
from posthouse.services.acme.jws import AccountKey
from posthouse.services.acme.renewal import ask_again_in, retry_in, window_of
from posthouse.services.acme.solving import Solver
from posthouse.services.acme.words import AcmeFault, Reason
from posthouse.services.acme.x509 import ServerKey, key_digest, key_kind
from posthouse.services.certificate_keys import CertificateKeys
from posthouse.services.certificate_shelf import CertificateShelf, State
from posthouse.services.certificate_terms import (
    Authority,
    CertificatePlan,
    CertificateStatus,
    Standing,
    Trouble,
    covers,
    status_of,
)
from posthouse.services.challenges import ChallengeKind
from posthouse.services.key_rollover import LOOK, Sight
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
        keys: CertificateKeys,
        *,
        clock: Clock,
        entropy: Entropy,
        workers: Workers,
        metrics: Metrics,
        by_hand: Callable[[], Iterable[str]],
    ) -> None:
        """`by_hand`: the names of the certificates that the settings name, which win."""
        self._plans = {plan.name: plan for plan in plans}
        self._authority = authority
        self._shelf = shelf
        self._accounts = accounts
        self._solvers = solvers
        self._keys = keys
        self._clock = clock
        self._entropy = entropy
        self._workers = workers
        self._metrics = metrics
        self._by_hand = by_hand
        self._troubles: dict[str, Trouble] = {}  # by name: what has kept the last look from being taken
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
        return [
            status_of(each, now, self._troubles.get(each.plan.name), is_by_hand=covers(by_hand, each.plan.names))
            for each in found
        ]

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
        plan = self._running_plan(name)
        async with self._lock:
            standing = await self._standing(plan)
            if new_key and standing.served is not None and not standing.may_use_next(self._clock.wall()):
                standing = await self._keys.make_next(standing)
                standing.state.next_shown_at, standing.state.next_ttl = self._clock.wall(), 0.0
            fault = await self._attempt(standing, "it was asked for")
        self._wake.set()
        if fault is not None:
            raise _refusal(f"no new certificate {name}", fault)
        return await self._status(plan)

    async def revoke(self, name: str, reason: Reason) -> CertificateStatus:
        """RFC 8555 §7.6: the one that is served, and have another at once, with another key where the present one is
        not ours alone any more; after "cessation-of-operation" none. Where the authority gives no other one, the
        calendar goes on trying. Raises Refusal when it is not revoked."""
        plan = self._plan(name)
        try:
            async with self._lock:
                standing = await self._revoke(await self._standing(plan), reason)
                if self._can_be_proven(plan) and standing.reason(self._authority, self._clock.wall()):
                    await self._attempt(standing, f"the one before it is revoked: {reason}")
        finally:
            self._wake.set()
        return await self._status(plan)

    async def rollover(self, name: str) -> tuple[CertificateStatus, Sight | None]:
        """Make the next key known; the server takes it when DNS has shown it for long enough. With what DNS shows now;
        None where nobody looks for this key in DNS. Raises Refusal."""
        plan = self._running_plan(name)
        async with self._lock:
            standing = await self._standing(plan)
            if standing.served is None:
                raise Refusal(INVALID_COMMAND, f"there is no certificate {name} yet whose key could be replaced")
            standing = await self._keys.make_next(standing)
            standing.state.is_rollover_asked = True
            sight = await self._keys.follow_next(standing)
        self._wake.set()
        return await self._status(plan), sight

    def _plan(self, name: str) -> CertificatePlan:
        if not self._plans:
            self._refuse_all()
        plan = self._plans.get(name)
        if plan is None:
            raise Refusal(BAD_MAILBOX, f"there is no certificate {name!r}; [acme] has {', '.join(self._plans)}")
        return plan

    def _running_plan(self, name: str) -> CertificatePlan:
        plan = self._plan(name)
        if not self._can_be_proven(plan):
            text = f"the authority looks at the running server ({plan.challenge}): start it first"
            raise Refusal(INVALID_COMMAND, text)
        return plan

    def _can_be_proven(self, plan: CertificatePlan) -> bool:
        return self._task is not None or plan.challenge == "dns-01"

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
        former = self._troubles.get(plan.name)
        left = 0.0 if former is None else former.until - self._clock.monotonic()
        if left > 0:
            return self._clock.wall() + left
        try:
            async with self._lock:
                due = await self.tend(plan)
        except Exception as fault:  # the others and the next time go on
            failures = 1 if former is None else former.failures + 1
            pause, text = retry_in(failures, None), str(fault) if isinstance(fault, StoreFault) else repr(fault)
            is_new = former is None or former.text != text
            tell = self._log.exception if is_new and not isinstance(fault, StoreFault) else self._log.error
            tell("certificate not looked after", certificate=plan.name, reason=text, failures=failures)
            due = self._clock.wall() + pause
            self._troubles[plan.name] = Trouble(text, failures, self._clock.monotonic() + pause, due)
        else:
            self._troubles.pop(plan.name, None)
        return due

    async def tend(self, plan: CertificatePlan) -> float:
        """Do what is due for one certificate; when something will be due again. Raises StoreFault."""
        if covers(await self._names_by_hand(), plan.names):
            return math.inf  # a reload or a restart brings other settings
        now = self._clock.wall()
        standing = await self._standing(plan)
        state = standing.state
        if standing.served is not None:
            self._ends[plan.name] = standing.served.facts.expires_at
        if state.failures and now < state.retry_at <= now + MAX_RETRY_AFTER:  # further ahead: the clock was wrong
            return state.retry_at
        has_to_wait = standing.served is not None and standing.revoked_for is None
        if standing.next_key is not None and has_to_wait and standing.may_use_next(now):
            await self._keys.follow_next(standing)  # what was seen before a long stop may not be so any more
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
        if standing.next_key is None:
            if key_kind(standing.served.key) != plan.key:  # the settings want another than DNS may tell of
                standing.state.is_rollover_asked = True
                standing = await self._keys.make_next(standing)
            elif standing.notice_at is not None and now >= standing.notice_at:
                standing = await self._keys.make_next(standing)
        looks_at = math.inf
        if standing.next_key is not None:
            await self._keys.follow_next(standing)
            looks_at = self._clock.wall() + LOOK
        renew_at = max(standing.renew_at, standing.left_alone_until)
        times = [renew_at, standing.state.ask_at or math.inf, standing.notice_at or math.inf, looks_at]
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
            facts = None if standing.served is None else standing.served.facts
            state.retry_at = self._clock.wall() + retry_in(state.failures, fault.retry_after, facts)
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
        key, uses_next = await self._keys.choose(standing)

        async def keep(url: str) -> None:
            state.order_url, state.order_names, state.order_uses_next = url, list(plan.names), uses_next
            await self._keep(standing)

        is_same = state.order_names == list(plan.names) and state.order_uses_next == uses_next
        replaces = (
            served.facts.renewal_id if served is not None and state.directory == self._authority.directory else ""
        )
        chain = await Issuing(await self._accounts.client(), solver, self._clock, keep=keep).obtain(
            Wanted(plan.names, key, replaces, plan.profile), order_url=state.order_url if is_same else ""
        )
        await self._install(standing, key, chain, uses_next=uses_next)

    async def _install(self, standing: Standing, key: ServerKey, chain: bytes, *, uses_next: bool) -> None:
        plan, served = standing.plan, standing.served
        state = standing.state
        try:
            await self._workers.run(partial(self._shelf.install, plan.name, key, chain))
        except AcmeFault:
            state.order_url = ""  # it would give the same again
            raise
        self._troubles.pop(plan.name, None)
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
        if uses_next and served is not None:
            is_served = not any(each is False for each in said)
            await self._keys.replaced(plan, served.facts.key_digest, key_digest(key), is_served=is_served)

    async def _revoke(self, standing: Standing, reason: Reason) -> Standing:
        """As it stands then. Nothing is written before the authority has said yes; asking again does no harm."""
        plan, state, served = standing.plan, standing.state, standing.served
        if served is None:
            raise Refusal(INVALID_COMMAND, f"there is no certificate {plan.name} yet")
        if state.directory and state.directory != self._authority.directory:
            text = (
                f"certificate {plan.name} is from {state.directory}: set acme.directory to that and restart the server"
            )
            raise Refusal(INVALID_COMMAND, text)
        is_lost = reason == "key-compromise"
        try:
            client = await self._accounts.client() if not is_lost else await self._witness(served.key)
            await client.revoke(served.certificate, reason)
        except AcmeFault as fault:
            raise _refusal(f"certificate {plan.name} is not revoked", fault) from None
        self._log.warning("certificate revoked", certificate=plan.name, names=list(served.facts.names), reason=reason)
        following = standing.next_key
        if is_lost and following is not None:  # it lay beside the one that was taken
            await self._keys.drop_next(standing)
            following, state.is_rollover_asked = None, False
        state.revoked, state.revoked_for = served.fingerprint, reason
        state.order_url, state.failures = "", 0
        standing = Standing(plan, state, served, following)
        await self._keep(standing)
        return standing

    async def _witness(self, key: ServerKey) -> AcmeClient:
        """Who revokes for a stolen key: the key itself, where our signatures are of its kind. That proves that it is
        stolen, and authorities then also revoke the certificates before, which have the same key."""
        try:
            return self._accounts.bearer(AccountKey.of(key))
        except ValueError:
            return await self._accounts.client()

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
        return Standing(plan, state, served, following, self._keys.watched(plan.name))

    async def _keep(self, standing: Standing) -> None:
        await self._workers.run(partial(self._shelf.keep_state, standing.plan.name, standing.state))

    async def _names_by_hand(self) -> frozenset[str]:
        return frozenset(await self._workers.run(self._by_hand))

    def _chance(self) -> float:
        return int.from_bytes(self._entropy.octets(4), "big") / 0x1_0000_0000


def _refusal(what: str, fault: AcmeFault) -> Refusal:
    return Refusal(SECURITY_TRANSIENT, f"{what}: {fault}".encode("ascii", "backslashreplace").decode("ascii"))
