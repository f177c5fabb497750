# SPDX-License-Identifier: Apache-2.0
"""How connections to other servers are protected: policies of others, what is demanded of them, what is counted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from posthouse.composing.ground import Ground
from posthouse.config import Settings, TransportDomain
from posthouse.ports import MailTransport, SecureResolver
from posthouse.services.guarded_transport import GuardedTransport
from posthouse.services.protection import Protection, Require, RuleBook, Rules
from posthouse.services.secure_dns import tell_about_dnssec
from posthouse.services.sts_policies import Fetched, StsPolicies
from posthouse.services.tls_journal import TlsJournal


@dataclass(slots=True)
class TransportRoom:
    transport: MailTransport
    protection: Protection
    policies: StsPolicies
    journal: TlsJournal
    resolver: SecureResolver
    _telling: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.policies.start()
        if self.protection.rules.default.dane:
            self._telling = asyncio.create_task(tell_about_dnssec(self.resolver))

    async def stop(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        await self.policies.stop()
        await self.journal.stop()

    def set_rules(self, settings: Settings) -> None:
        """The configuration was reloaded."""
        self.protection.rules = rules_of(settings)
        self.journal.is_on = settings.transport.results


def open_transport(ground: Ground, resolver: SecureResolver) -> TransportRoom:
    machine, database, settings = ground.machine, ground.database, ground.settings
    journal = TlsJournal(database, machine.clock, is_on=settings.transport.results)

    def not_refreshed(domain: str, fetched: Fetched) -> None:
        journal.note_policy(domain, fetched.policy, fetched.trouble)

    policies = StsPolicies(database, resolver, ground.web_for_strangers(resolver), machine.clock, told=not_refreshed)
    protection = Protection(resolver, policies, journal, rules_of(settings))
    return TransportRoom(
        transport=GuardedTransport(machine.transport(), protection, journal),
        protection=protection,
        policies=policies,
        journal=journal,
        resolver=resolver,
    )


def rules_of(settings: Settings) -> RuleBook:
    wanted = settings.transport
    default = Rules(mta_sts=wanted.mta_sts, dane=wanted.dane)
    return RuleBook(default, {name: _exception(default, each) for name, each in wanted.domains.items()})


def _exception(default: Rules, domain: TransportDomain) -> Rules:
    return Rules(
        mta_sts=default.mta_sts if domain.mta_sts is None else domain.mta_sts,
        dane=default.dane if domain.dane is None else domain.dane,
        require=Require(domain.require),
    )
