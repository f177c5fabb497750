# SPDX-License-Identifier: Apache-2.0
"""What is wanted of an authority, and how it stands: the words of the certificate service.

Invariant: values alone; nothing here asks anybody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from posthouse.services.acme.renewal import renewal_at
from posthouse.services.acme.words import Reason
from posthouse.services.acme.x509 import KeyKind, ServerKey, key_digest
from posthouse.services.certificate_shelf import Served, State
from posthouse.services.challenges import ChallengeKind
from posthouse.services.key_rollover import ready_at

# Seconds for which a new certificate is left alone by the calendar: with a clock that is years ahead every certificate
# has ended when it comes, and authorities count what they issue. And no more than this part of its life.
LEAST_AGE = 6 * 3600.0
LEAST_AGE_PART = 1 / 4
# Of a certificate's whole life: so long before its renewal the next key is made, for DNS to show it in time.
NOTICE = 1 / 6


@dataclass(frozen=True, slots=True)
class CertificatePlan:
    """One certificate that is to be there. `rollover`: a new key with every so many renewals, 0 for never."""

    name: str
    names: tuple[str, ...]
    challenge: ChallengeKind
    profile: str = ""
    key: KeyKind = "ec"
    rollover: int = 0


@dataclass(frozen=True, slots=True)
class Authority:
    """Who is asked. `key_id`, `mac_key`: of the external account binding (RFC 8555 §7.3.4)."""

    directory: str
    contact: tuple[str, ...] = ()
    key_id: str = ""
    mac_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """One certificate as it is now: the files and what they say together."""

    plan: CertificatePlan
    state: State
    served: Served | None
    next_key: ServerKey | None
    watched: float = math.inf  # seconds, by the monotonic clock, for which the next key's record has been seen at least

    @property
    def renew_at(self) -> float:
        """0 where there is none yet."""
        return 0.0 if self.served is None else renewal_at(self.served.facts, self.state.window, self.state.chance)

    @property
    def next_digest(self) -> str:
        return "" if self.next_key is None else key_digest(self.next_key)

    @property
    def next_ready_at(self) -> float | None:
        """When the next key may be served; None while that is not known."""
        if self.next_key is None or not self.state.next_shown_at:
            return None
        return ready_at(self.state.next_shown_at, self.state.next_ttl)

    @property
    def revoked_for(self) -> Reason | None:
        """Why the one that is served was revoked; None where it was not."""
        served, state = self.served, self.state
        return state.revoked_for if served is not None and state.revoked == served.fingerprint else None

    def may_use_next(self, now: float) -> bool:
        if self.revoked_for == "key-compromise":  # somebody else has the present one: nothing is worth waiting for
            return self.next_key is not None
        at = self.next_ready_at
        return at is not None and now >= at and self.watched >= ready_at(0.0, self.state.next_ttl)

    def reason(self, authority: Authority, now: float) -> str:
        """Why a certificate is to be had now; "" for not now."""
        if self.served is None:
            return "there is none"
        if self.state.failures:  # and its pause is over
            return "the last attempt has failed"
        facts, state = self.served.facts, self.state
        if self.revoked_for is not None:
            return "" if self.revoked_for == "cessation-of-operation" else f"it is revoked: {self.revoked_for}"
        missing = set(self.plan.names) - set(facts.names)
        if missing:
            return f"it is not for {', '.join(sorted(missing))}"
        if state.directory and state.directory != authority.directory:
            return f"it is from {state.directory}"
        if state.is_rollover_asked and self.may_use_next(now):
            return "its next key is due"
        if now >= self.renew_at and not state.installed_at <= now < self.left_alone_until:
            return "its time has come"
        return ""

    @property
    def left_alone_until(self) -> float:
        """By the calendar."""
        facts = None if self.served is None else self.served.facts
        life = math.inf if facts is None else facts.expires_at - facts.issued_at
        return self.state.installed_at + min(LEAST_AGE, LEAST_AGE_PART * life)

    @property
    def notice_at(self) -> float | None:
        """When the next key is to be made for a renewal with a new one; None where none is wanted."""
        plan, served = self.plan, self.served
        if not plan.rollover or served is None or self.state.renewals + 1 < plan.rollover:
            return None
        return self.renew_at - NOTICE * (served.facts.expires_at - served.facts.issued_at)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What kept a certificate from being looked after, other than an authority's no. `until`: of the monotonic clock;
    `retry_at`: the same by the wall clock."""

    text: str
    failures: int
    until: float
    retry_at: float


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """For people. `state`: good, waiting (there is none yet), failing, by hand (the settings' own serves its names),
    revoked or ended. Times in seconds since the epoch, None for none."""

    name: str
    state: str
    names: tuple[str, ...]
    challenge: str
    issuer: str = ""
    issued_at: float | None = None
    expires_at: float | None = None
    renew_at: float | None = None
    explanation: str = ""
    key_digest: str = ""
    next_digest: str = ""
    next_from: float | None = None
    error: str = ""
    retry_at: float | None = None
    revoked_for: str = ""


def status_of(standing: Standing, now: float, trouble: Trouble | None, *, is_by_hand: bool) -> CertificateStatus:
    state, plan = standing.state, standing.plan
    facts = None if standing.served is None else standing.served.facts
    word = "waiting" if facts is None else "ended" if facts.expires_at <= now else "good"
    error, retry_at = (state.error, state.retry_at) if state.failures else ("", None)
    if trouble is not None:
        error, retry_at = trouble.text, trouble.retry_at
    if standing.revoked_for is not None:
        word = "revoked"
    elif error and word == "good":
        word = "failing"
    return CertificateStatus(
        plan.name,
        "by hand" if is_by_hand else word,
        plan.names,
        plan.challenge,
        issuer="" if facts is None else facts.issuer,
        issued_at=None if facts is None else facts.issued_at,
        expires_at=None if facts is None else facts.expires_at,
        renew_at=None if facts is None else standing.renew_at,
        explanation="" if state.window is None else state.window.explanation,
        key_digest="" if facts is None else facts.key_digest,
        next_digest="" if facts is None else standing.next_digest,
        next_from=standing.next_ready_at,
        error=error,
        retry_at=retry_at,
        revoked_for=standing.revoked_for or "",
    )


def covers(names: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether a certificate's names (wildcards among them, RFC 6125 §6.4.3) are good for all that are wanted."""
    having = frozenset(names)
    return all(name in having or "*." + name.partition(".")[2] in having for name in wanted)
