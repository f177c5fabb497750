# SPDX-License-Identifier: Apache-2.0
"""How a session with another host must be protected: DANE first, then MTA-STS, then what the operator demands.

Invariant: what is decided here is never weaker than what the recipient's domain has proven that it wants; where that
cannot be known because DNS fails, there is no session with that host at all (RFC 7672 §2.1.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from posthouse.mail.envelope import TlsWish
from posthouse.mailauth import dane
from posthouse.mailauth.mta_sts import Mode
from posthouse.outcome import DNS_FAULT, Outcome, Status
from posthouse.ports import (
    ConnectFault,
    DaneDemand,
    HostProof,
    NameNotFound,
    ResolverFault,
    SecureResolver,
    Target,
    TlsaRecord,
    TlsTrouble,
)
from posthouse.services.sts_policies import StsPolicies
from posthouse.services.tls_journal import AppliedPolicy, TlsJournal, sts_policy

# RFC 3463 §3.8: X.7.5 "cryptographic failure"; transient, as RFC 8461 §5 and RFC 7672 §2.2 want it.
NOT_PROTECTED = Status(4, 7, 5)
UNSIGNED = "unsigned MX"


class Require(StrEnum):
    """What the operator demands of a destination."""

    NOTHING = ""
    TLS = "tls"
    AUTHENTICATED = "authenticated"
    DANE = "dane"


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one destination."""

    mta_sts: bool = True
    dane: bool = True
    require: Require = Require.NOTHING


@dataclass(frozen=True, slots=True)
class RuleBook:
    """Of every destination: exceptions by domain, and the rules for all others."""

    default: Rules = field(default_factory=Rules)
    exceptions: Mapping[str, Rules] = field(default_factory=dict)

    def of(self, domain: str) -> Rules:
        return self.exceptions.get(domain, self.default)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A target as it may be connected to, and by which policy it will be judged. `trouble`: what is wrong already,
    although the policy lets letters pass (testing). `is_unsure`: there may be a policy that was not to be had now."""

    target: Target
    policy: AppliedPolicy
    trouble: TlsTrouble | None = None
    is_unsure: bool = False


@dataclass(frozen=True, slots=True)
class _Tlsa:
    """Secure records were found (RFC 7672 §2.2). `usable` empty: they only say that there is TLS."""

    base: str
    records: tuple[TlsaRecord, ...]
    usable: tuple[TlsaRecord, ...]


class Protection:
    def __init__(self, resolver: SecureResolver, policies: StsPolicies, journal: TlsJournal, rules: RuleBook) -> None:
        self._resolver = resolver
        self._policies = policies
        self._journal = journal
        self.rules = rules

    async def guard(self, target: Target) -> Guarded:
        """Raises ConnectFault: no session with this host may be."""
        proof = target.proof
        if proof is None:
            return Guarded(target, AppliedPolicy(""))
        rules = self.rules.of(proof.domain)
        is_way_sure = proof.is_mx_authentic or not proof.has_mx
        tlsa = await self._tlsa(target, proof) if rules.dane else None
        if tlsa is not None and tlsa.usable and is_way_sure:
            # RFC 8461 §2: a failing DANE validation is not overridden by MTA-STS, so it is not even asked.
            return Guarded(_with_dane(target, proof, tlsa), _tlsa_policy(proof, tlsa))
        if rules.require is Require.DANE:
            trouble = TlsTrouble("dane-required", "no signed TLSA record behind a signed MX record", is_judged=True)
            raise self._refused(target, AppliedPolicy(proof.domain), trouble, "DANE is required here")
        found = Guarded(target, AppliedPolicy(proof.domain))
        if rules.mta_sts:
            found = await self._by_sts(target, proof)
        if tlsa is not None:
            found = _and_tlsa(found, proof, tlsa)
        return self._as_demanded(found, rules, is_way_sure=is_way_sure)

    # --- DANE -------------------------------------------------------------------------------------

    async def _tlsa(self, target: Target, proof: HostProof) -> _Tlsa | None:
        """The first candidate with secure records (RFC 7672 §2.2.3). Raises ConnectFault for DNS that fails."""
        try:
            for base in await self._bases(target.host, proof):
                try:
                    answer = await self._resolver.tlsa(f"_{target.port}._tcp.{base}")
                except NameNotFound:
                    continue
                if answer.records and answer.is_authentic:
                    return _Tlsa(base, answer.records, dane.usable(answer.records))
        except ResolverFault as fault:
            trouble = TlsTrouble("dnssec-invalid", str(fault))
            policy = AppliedPolicy(proof.domain, "tlsa")
            why = "the TLSA records are not known now"
            raise self._refused(target, policy, trouble, why, status=DNS_FAULT) from fault
        return None

    async def _bases(self, host: str, proof: HostProof) -> tuple[str, ...]:
        """§2.2.2. Without signed addresses no TLSA is asked for: name servers of such zones may not even answer."""
        if proof.is_host_authentic:
            return tuple(dict.fromkeys((proof.host_name, host)))
        if proof.host_name == host:
            return ()
        try:
            alias = await self._resolver.proven_alias(host)
        except NameNotFound:
            return ()
        return (host,) if alias.is_authentic else ()

    # --- MTA-STS ----------------------------------------------------------------------------------

    async def _by_sts(self, target: Target, proof: HostProof) -> Guarded:
        """Raises ConnectFault for a host that an enforced policy does not name."""
        fetched = await self._policies.of(proof.domain)
        sts = fetched.policy
        self._journal.note_policy(proof.domain, sts, fetched.trouble)
        if sts is None or sts.mode is Mode.NONE:
            return Guarded(target, AppliedPolicy(proof.domain), is_unsure=fetched.is_unsure)
        policy = sts_policy(proof.domain, sts)
        if sts.allows(target.host):
            tls = "verify" if sts.mode is Mode.ENFORCE else "try-verify"
            return Guarded(replace(target, tls=tls, trust="MTA-STS", is_way_sure=True), policy)
        # Where a newer policy could not be had, that one may name the host.
        trouble = TlsTrouble("validation-failure", "mtasts-policy-mx-mismatch", is_judged=not fetched.is_unsure)
        if sts.mode is Mode.TESTING:
            return Guarded(target, policy, trouble, is_unsure=fetched.is_unsure)
        raise self._refused(target, policy, trouble, f"the MTA-STS policy of {proof.domain} does not name this host")

    # --- demands ----------------------------------------------------------------------------------

    def _as_demanded(self, found: Guarded, rules: Rules, *, is_way_sure: bool) -> Guarded:
        """What the operator or the letter itself demands, on top. Raises ConnectFault."""
        target = found.target
        if rules.require is Require.AUTHENTICATED or target.wish is TlsWish.REQUIRED:
            if target.tls in ("verify", "try-verify") and target.is_way_sure:
                return replace(found, target=replace(target, tls="verify"))
            if is_way_sure:
                # RFC 8689 §4.2.1: a host that is known for sure, with a certificate that is trusted.
                return replace(found, target=replace(target, tls="verify", is_way_sure=True))
            reason = "neither DANE nor MTA-STS nor a signed MX record"
            trouble = TlsTrouble("validation-failure", reason, is_judged=not found.is_unsure)
            raise self._refused(target, found.policy, trouble, "nothing proves that this is the right host")
        if rules.require is Require.TLS and target.tls in ("opportunistic", "try-verify"):
            return replace(found, target=replace(target, tls="require"))
        return found

    def _refused(
        self, target: Target, policy: AppliedPolicy, trouble: TlsTrouble, why: str, *, status: Status = NOT_PROTECTED
    ) -> ConnectFault:
        if target.wish is TlsWish.USUAL:  # what a letter demands is not its recipient's trouble
            self._journal.note(policy, target, trouble)
        outcome = Outcome(status, f"{why}: {trouble.reason}", target.host, target.address)
        return ConnectFault(outcome, trouble=trouble, is_policy=True)


def _with_dane(target: Target, proof: HostProof, tlsa: _Tlsa) -> Target:
    """RFC 7672 §3.2.2: the names that a certificate may bear."""
    names = [tlsa.base]
    if proof.has_mx:
        names += [proof.domain, proof.domain_alias]
    elif tlsa.base != proof.domain:
        names.append(proof.domain)
    demand = DaneDemand(tlsa.usable, tlsa.base, tuple(dict.fromkeys(names)))
    return replace(target, tls="dane", dane=demand, is_way_sure=True)


def _and_tlsa(found: Guarded, proof: HostProof, tlsa: _Tlsa) -> Guarded:
    """TLSA records besides what was found: unusable ones, or those of a host that an unsigned MX record names."""
    target = found.target
    if not tlsa.usable:
        # §2.2: TLS is a must, authentication is not.
        if target.tls in ("opportunistic", "try-verify"):
            trouble = TlsTrouble("tlsa-invalid", "all-unusable-records")
            target = replace(target, tls="require", trust="")
            return replace(found, target=target, policy=_tlsa_policy(proof, tlsa), trouble=trouble)
        return found
    # §2.2.1: the MX hostname is the only name then.
    demand = DaneDemand(tlsa.usable, tlsa.base, (tlsa.base,))
    if target.tls == "verify":
        return replace(found, target=replace(target, dane=demand))  # both
    # Said in logs and history: the way to this host is not proven.
    target = replace(target, tls="dane", dane=demand, trust=UNSIGNED, is_way_sure=False)
    return replace(found, target=target, policy=_tlsa_policy(proof, tlsa), trouble=None)


def _tlsa_policy(proof: HostProof, tlsa: _Tlsa) -> AppliedPolicy:
    return AppliedPolicy(proof.domain, "tlsa", tuple(str(record) for record in tlsa.records))
