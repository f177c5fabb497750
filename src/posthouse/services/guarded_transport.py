# SPDX-License-Identifier: Apache-2.0
"""The MailTransport that obeys what other domains ask for: decide, connect, count how it went.

Invariant: no session is handed out that its target's policy forbids, but for letters that say TLS-Required: No.
"""

from __future__ import annotations

from dataclasses import replace

from posthouse.mail.envelope import TlsWish
from posthouse.ports import ConnectFault, MailConnection, MailTransport, Target
from posthouse.services.protection import Guarded, Protection
from posthouse.services.tls_journal import TlsJournal
from posthouse.telemetry import logger

REQUIRETLS = "REQUIRETLS"


class GuardedTransport:
    def __init__(self, inner: MailTransport, protection: Protection, journal: TlsJournal) -> None:
        self._inner = inner
        self._protection = protection
        self._journal = journal
        self._log = logger("smtp-client")

    async def connect(self, target: Target) -> MailConnection:
        """Raises ConnectFault."""
        try:
            guarded = await self._protection.guard(target)
            return await self._connect(guarded)
        except ConnectFault as fault:
            if target.wish is not TlsWish.OPTIONAL or not fault.is_policy:
                raise
            # RFC 8689 §4.2.2: the policy is followed as far as it goes, but nothing fails for it.
            self._log.info("policy_passed_over", host=target.host, reason=fault.outcome.diagnostic)
            return await self._inner.connect(replace(target, proof=None))

    async def _connect(self, guarded: Guarded) -> MailConnection:
        target = guarded.target
        try:
            connection = await self._inner.connect(target)
        except ConnectFault as fault:
            if fault.trouble is not None:
                self._count(guarded, fault)
            raise
        self._count(guarded, connection)
        return connection

    def _count(self, guarded: Guarded, end: MailConnection | ConnectFault) -> None:
        """Not what only a letter demands, nor a second try for one that demands nothing."""
        target = guarded.target
        if target.proof is None or target.wish is not TlsWish.USUAL:
            return
        self._journal.note(guarded.policy, target, end.trouble or guarded.trouble)


def keeps_promise(connection: MailConnection) -> bool:
    """Whether a letter with REQUIRETLS may go this way (RFC 8689 §2): the host is the right one, it is authenticated,
    and it promises the same."""
    tls = connection.tls
    return tls is not None and tls.is_verified and tls.is_way_sure and REQUIRETLS in connection.extensions
