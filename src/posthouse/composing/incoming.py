# SPDX-License-Identifier: Apache-2.0
"""What arrives: letters of other servers, of neighbours over LMTP, of users."""

from __future__ import annotations

from posthouse.composing.ground import Ground
from posthouse.composing.identity import Identity
from posthouse.composing.reports import report_addresses
from posthouse.composing.trust import Trust
from posthouse.config import Settings
from posthouse.ports import Clock, Resolver
from posthouse.services.acceptance import Acceptance
from posthouse.services.disposition import Action, Terms
from posthouse.services.dmarc_tally import DmarcTally
from posthouse.services.entry_check import EntryCheck
from posthouse.services.limits import RateLimit, RoomCheck
from posthouse.services.reception import Reception
from posthouse.services.signing import Signing
from posthouse.services.submission import Submission
from posthouse.services.verification import Verifier
from posthouse.telemetry import Metrics


def open_entry_check(ground: Ground, resolver: Resolver, tally: DmarcTally) -> EntryCheck:
    return entry_check_of(ground.settings, resolver, ground.machine.clock, ground.metrics, tally)


def entry_check_of(
    settings: Settings, resolver: Resolver, clock: Clock, metrics: Metrics, tally: DmarcTally
) -> EntryCheck:
    wanted = settings.authentication
    verifier = Verifier(
        resolver,
        clock,
        authserv_id=wanted.authserv_id or settings.hostname,
        hostname=settings.hostname,
        is_on=wanted.verify,
        includes_loopback=wanted.loopback,
        trusted_sealers=wanted.trusted_sealers,
    )
    terms = Terms(
        quarantine=Action(wanted.quarantine),
        reject=Action(wanted.reject),
        malformed_from=Action(wanted.malformed_from),
        spf_fail=Action(wanted.spf_fail),
        iprev_fail=Action(wanted.iprev_fail),
        defers_temperror=wanted.temperror == "defer",
        domains={name: Action(each.fail) for name, each in wanted.domains.items()},
    )
    return EntryCheck(verifier, terms, metrics, tally=tally, reports=report_addresses(settings))


def open_reception(
    ground: Ground,
    identity: Identity,
    acceptance: Acceptance,
    room: RoomCheck,
    trust: Trust,
    *,
    kind: str,
    entry_check: EntryCheck | None = None,
) -> Reception:
    smtp, clock = ground.settings.smtp, ground.machine.clock
    return Reception(
        identity.directory,
        acceptance,
        ground.blobs,
        clock,
        hostname=ground.settings.hostname,
        max_received=smtp.max_received,
        # A neighbour on LMTP has limited its own clients.
        rate=RateLimit(clock, smtp.letters_per_minute if kind == "mx" else 0, 60),
        is_full=room.is_full,
        kind=kind,
        entry_check=entry_check,
        forwarding=trust.forwarding,
        host_signing=trust.host_signing,
    )


def open_submission(ground: Ground, identity: Identity, acceptance: Acceptance, room: RoomCheck) -> Submission:
    settings, clock = ground.settings, ground.machine.clock
    return Submission(
        identity.directory,
        acceptance,
        Signing(identity.domain_keys),
        ground.blobs,
        clock,
        ground.machine.entropy,
        hostname=settings.hostname,
        max_received=settings.smtp.max_received,
        rate=RateLimit(clock, settings.submission.recipients_per_hour, 3600),
        is_full=room.is_full,
    )
