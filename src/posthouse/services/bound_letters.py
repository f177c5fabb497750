# SPDX-License-Identifier: Apache-2.0
"""Letters with REQUIRETLS whose destination's ordinary session is not good enough for them (RFC 8689 §4.2.1).

Invariant: such a letter is sent on a session that keeps its promise, or not at all; it fails only when no host of the
destination can be expected to keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from posthouse.mail.envelope import TlsWish
from posthouse.outcome import ENCRYPTION_NEEDED, REQUIRETLS_NEEDED, SYSTEM_FAULT, Outcome
from posthouse.ports import ConnectFault, MailTransport, Target
from posthouse.services.fitting import envelope, obstacle
from posthouse.services.guarded_transport import keeps_promise
from posthouse.services.routing import RouteGone, Routing, RoutingFault
from posthouse.store.queue_rows import ClaimedLetter, ClaimedRecipient


class BoundLetters:
    def __init__(self, routing: Routing, transport: MailTransport) -> None:
        self._routing = routing
        self._transport = transport

    async def send(
        self, next_hop: str, letter: ClaimedLetter, recipients: Sequence[ClaimedRecipient], content: memoryview
    ) -> list[Outcome]:
        """Look at each host in turn, over a connection of its own; one outcome per recipient."""
        try:
            targets = await self._routing.targets(next_hop)
        except RoutingFault as fault:
            return [fault.outcome] * len(recipients)
        except RouteGone:
            return [Outcome(SYSTEM_FAULT, "the route is gone")] * len(recipients)
        refusals: list[Outcome] = []
        for target in targets:
            found = await self._try(_demanding(target), letter, recipients, content)
            if not isinstance(found, Outcome):
                return found
            refusals.append(found)
        # One that may be better next time is a reason to wait; else the plain word that REQUIRETLS is not offered.
        refusals.sort(key=lambda each: (each.is_failed, each.status != REQUIRETLS_NEEDED))
        return refusals[:1] * len(recipients)

    async def _try(
        self, target: Target, letter: ClaimedLetter, recipients: Sequence[ClaimedRecipient], content: memoryview
    ) -> list[Outcome] | Outcome:
        """Outcomes of the letter, or why this host cannot have it."""
        try:
            connection = await self._transport.connect(target)
        except ConnectFault as fault:
            return _as_refusal(fault)
        try:
            if not keeps_promise(connection):
                tls = connection.tls.words if connection.tls else ""
                why = "the letter requires REQUIRETLS, the host does not offer it"
                return Outcome(REQUIRETLS_NEEDED, why, target.host, target.address, tls)
            size = len(letter.prefix) + len(content)
            found = obstacle(connection, letter, recipients, size)
            if found is not None:
                return [replace(found, host=target.host, address=target.address)] * len(recipients)
            paths = envelope(letter, recipients, size, keeps_promise=True)
            return await connection.send(paths, (letter.prefix, content))
        finally:
            await connection.close()


def is_bound(letter: ClaimedLetter) -> bool:
    """RFC 8689 §5: for want of REQUIRETLS no report is dropped; it goes as it can."""
    return letter.reverse_path.wish is TlsWish.REQUIRED and not letter.reverse_path.is_null


def _demanding(target: Target) -> Target:
    """On a route whose TLS the operator left open, the letter has the say."""
    is_open = target.proof is None and target.tls in ("opportunistic", "require")
    return replace(target, tls="verify" if is_open else target.tls, wish=TlsWish.REQUIRED)


def _as_refusal(fault: ConnectFault) -> Outcome:
    """Where the host is seen to have no encryption or the wrong certificate it is final (§4.2.1); silence, DNS that
    fails and a handshake that breaks are not."""
    if not fault.is_policy or fault.trouble is None or not fault.trouble.is_judged:
        return fault.outcome
    return replace(fault.outcome, status=ENCRYPTION_NEEDED)
