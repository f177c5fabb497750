# SPDX-License-Identifier: Apache-2.0
"""Who is who: addresses, passwords, keys of the domains, logins."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.composing.ground import Ground
from posthouse.services.administration import Administration
from posthouse.services.directory import Directory
from posthouse.services.guard import Guard
from posthouse.services.keys import DomainKeys
from posthouse.services.login import Login
from posthouse.services.passwords import Passwords


@dataclass(frozen=True, slots=True)
class Identity:
    directory: Directory
    administration: Administration
    domain_keys: DomainKeys
    login: Login


def open_identity(ground: Ground) -> Identity:
    settings, machine, database, bus = ground.settings, ground.machine, ground.database, ground.bus
    clock, entropy, key, auth = machine.clock, machine.entropy, ground.key, ground.settings.auth
    directory = Directory(database, bus, hostname=settings.hostname, alias_may_send=settings.submission.alias_may_send)
    scram = ("SCRAM-SHA-256", "SCRAM-SHA-1") if auth.scram_sha_1 else ("SCRAM-SHA-256",)
    passwords = Passwords(
        ground.workers, entropy, mechanisms=scram, iterations=auth.scram_iterations, cost=machine.password_cost
    )
    guard = Guard(clock, failures_per_address=auth.failures_per_address, failures_per_account=auth.failures_per_account)
    domain_keys = DomainKeys(database, bus, ground.workers, entropy, key, algorithms=machine.dkim_algorithms)
    return Identity(
        directory=directory,
        administration=Administration(database, bus, passwords, domain_keys, clock=clock, entropy=entropy, key=key),
        domain_keys=domain_keys,
        login=Login(
            directory,
            database,
            bus,
            passwords,
            guard,
            clock=clock,
            entropy=entropy,
            key=key,
            mechanisms=(*scram, "PLAIN", "LOGIN"),
        ),
    )
