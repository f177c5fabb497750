# SPDX-License-Identifier: Apache-2.0
"""One certificate from the order to the chain (RFC 8555 §7.1.6: how orders and authorizations go on).

Invariant: it can be broken off anywhere and taken up again with the order's URL; nothing is taken for granted that the
authority has not said about the order itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from posthouse.ports import Clock
from posthouse.services.acme.client import AcmeClient
from posthouse.services.acme.solving import Solver
from posthouse.services.acme.words import AcmeFault, Authorization, Challenge, Order, is_token
from posthouse.services.acme.x509 import ServerKey, TooEarly, signing_request, take_chain

T = TypeVar("T")

# Seconds for the authority to make up its mind about one name, and to sign. Both take seconds, rarely a minute or two.
VALIDATION_SECONDS = 300.0
SIGNING_SECONDS = 600.0
# RFC 8555 §7.5.1: polling begins when the authority has looked. It may look from where we do not see it (a proxy that
# answers for us), so this is no condition.
LOOKS_SECONDS = 20.0
# Seconds between polls where Retry-After says nothing, and what is taken of it where it says something.
FIRST_POLL = 1.0
LAST_POLL = 15.0
MAX_POLL = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A certificate that is to be had. `replaces`: the renewal id of the one before it, "" for none."""

    names: tuple[str, ...]
    key: ServerKey
    replaces: str = ""
    profile: str = ""


class Issuing:
    def __init__(
        self, client: AcmeClient, solver: Solver, clock: Clock, *, keep: Callable[[str], Awaitable[None]]
    ) -> None:
        """`keep` writes down the order's URL before anything is done for it."""
        self._client = client
        self._solver = solver
        self._clock = clock
        self._keep = keep

    async def obtain(self, wanted: Wanted, *, order_url: str = "") -> bytes:
        """The chain in PEM form. `order_url`: an order of an earlier attempt with the same key. Raises AcmeFault."""
        order: Order | None = None
        if order_url:
            with contextlib.suppress(AcmeFault):  # forgotten by the authority, most likely
                order, _ = await self._client.order(order_url)
        is_new = order is None or order.status == "invalid"
        if order is None or is_new:
            order_url, order = await self._client.new_order(
                wanted.names, replaces=wanted.replaces, profile=wanted.profile
            )
            await self._keep(order_url)
        if order.status == "pending":
            # One after the other: records and certificates of one name at a time, and the log tells which one failed.
            for url in order.authorizations:
                await self._authorize(url, wanted.names)
        order = await self._order_until(order_url, ("ready", "processing", "valid"), VALIDATION_SECONDS)
        if order.status == "ready":
            try:
                await self._client.finalize(order, signing_request(wanted.key, wanted.names))
            except AcmeFault as fault:
                if fault.kind != "orderNotReady":  # §7.4: then the order itself says how it stands
                    raise
            order = await self._order_until(order_url, ("valid",), SIGNING_SECONDS)
        elif order.status == "processing":
            order = await self._order_until(order_url, ("valid",), SIGNING_SECONDS)
        if not order.certificate:
            raise AcmeFault("the authority has issued a certificate but does not say where it is")
        chain = await self._client.certificate(order.certificate)
        try:
            return take_chain(chain, wanted.key, wanted.names, self._clock.wall())
        except TooEarly:
            raise
        except AcmeFault:
            # An old order would give the same again, for ever. Of a new one it is asked once more: with a clock that is
            # ahead everything has ended, and authorities count what they issue.
            if not is_new:
                await self._keep("")
            raise

    async def _authorize(self, url: str, names: Sequence[str]) -> None:
        authorization, _ = await self._client.authorization(url)
        if authorization.status == "valid":  # of an earlier order; authorities keep them for days
            return
        name = authorization.identifier.value.lower()
        # RFC 8555 §7.1.3: the policy of the authority says of what it wants proof; a domain above one of ours will do.
        if not any(f".{each}".endswith(f".{name}") for each in names):
            raise AcmeFault(f"{name}: the authority asks for a proof of a name that was not ordered")
        if authorization.status != "pending":
            raise AcmeFault(f"{name}: the authorization is {authorization.status}{_why(authorization)}")
        challenge = self._pick(authorization, name)
        proof = self._client.key.authorization(challenge.token)
        async with self._solver.provide(name, challenge.token, proof) as was_asked:
            if challenge.status == "pending":  # "processing": an attempt that was broken off has answered it
                await self._client.answer(challenge)
            if was_asked is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOKS_SECONDS):
                        await was_asked.wait()
            await self._until_valid(url, name)

    def _pick(self, authorization: Authorization, name: str) -> Challenge:
        kind = self._solver.kind
        for challenge in authorization.challenges:
            if challenge.type == kind and is_token(challenge.token) and challenge.url:
                return challenge
        offered = ", ".join(each.type for each in authorization.challenges) or "none"
        raise AcmeFault(f"{name}: the authority does not offer {kind}, but {offered}")

    async def _until_valid(self, url: str, name: str) -> None:
        async def look() -> tuple[Authorization, float | None]:
            return await self._client.authorization(url)

        found = await _poll(look, lambda each: each.status != "pending", f"{name}: to be validated", VALIDATION_SECONDS)
        if found.status != "valid":
            raise AcmeFault(
                f"{name}: {self._solver.kind} has failed{_why(found)}", kind=_kind(found.challenges) or "unauthorized"
            )

    async def _order_until(self, url: str, states: Sequence[str], seconds: float) -> Order:
        async def look() -> tuple[Order, float | None]:
            return await self._client.order(url)

        order = await _poll(look, lambda each: each.status in (*states, "invalid"), "the order", seconds)
        if order.status == "invalid":
            reason = f": {order.error.text()}" if order.error else ""
            raise AcmeFault(
                f"the authority has given the order up{reason}", kind=order.error.kind if order.error else ""
            )
        return order


async def _poll(
    look: Callable[[], Awaitable[tuple[T, float | None]]], is_done: Callable[[T], bool], what: str, seconds: float
) -> T:
    loop = asyncio.get_running_loop()
    end, pause = loop.time() + seconds, FIRST_POLL
    while True:
        found, after = await look()
        if is_done(found):
            return found
        wait = pause if after is None else min(max(after, FIRST_POLL), MAX_POLL)
        if loop.time() + wait > end:
            raise AcmeFault(f"the authority has taken more than {seconds:.0f} seconds for {what}")
        await asyncio.sleep(wait)
        pause = min(2 * pause, LAST_POLL)


def _kind(challenges: Sequence[Challenge]) -> str:
    return next((each.error.kind for each in challenges if each.error), "")


def _why(authorization: Authorization) -> str:
    return "".join(f": {each.error.text()}" for each in authorization.challenges if each.error)
