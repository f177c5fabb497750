# SPDX-License-Identifier: Apache-2.0
"""Why others believe what leaves here: rewritten senders, signatures in the host's own name, keys that take turns."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.composing.ground import Ground
from posthouse.composing.identity import Identity
from posthouse.config import Settings
from posthouse.ports import Resolver
from posthouse.services.forwarding import Forwarding
from posthouse.services.host_signing import HostSigning
from posthouse.services.key_rotation import KeyRotation, RotationTerms
from posthouse.services.signing import Signing


@dataclass(frozen=True, slots=True)
class Trust:
    forwarding: Forwarding
    host_signing: HostSigning


def open_trust(ground: Ground, identity: Identity) -> Trust:
    settings = ground.settings
    forwarding = Forwarding(
        ground.database,
        identity.directory,
        ground.machine.clock,
        ground.key,
        hostname=settings.hostname,
        domain=forwarding_domain(settings),
        rewrites=settings.forwarding.srs,
    )
    return Trust(forwarding, HostSigning(Signing(identity.domain_keys), settings.hostname))


def open_key_rotation(ground: Ground, identity: Identity, resolver: Resolver) -> KeyRotation:
    rotation = KeyRotation(
        ground.database,
        ground.bus,
        identity.domain_keys,
        resolver,
        ground.machine.clock,
        ground.key,
        hostname=ground.settings.hostname,
        terms=rotation_terms(ground.settings),
    )
    ground.metrics.gauge(
        "keys_not_in_dns", "DKIM keys that sign, and whose records DNS does not show", lambda: len(rotation.lost())
    )
    return rotation


def forwarding_domain(settings: Settings) -> str:
    return settings.forwarding.domain or settings.hostname


def rotation_terms(settings: Settings) -> RotationTerms:
    return RotationTerms(every=settings.signing.rotate, keep=settings.signing.keep)
