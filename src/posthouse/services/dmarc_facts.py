# SPDX-License-Identifier: Apache-2.0
"""What a DMARC report says of one letter: findings and decision in the words of RFC 9990.

Invariant: two letters of which the owner of the domain needs to hear the same have equal facts; nothing in them is
about a person.
"""

from __future__ import annotations

from collections.abc import Collection

from posthouse.mailauth.aggregate import Facts, Override, SignatureResult, SpfIdentity
from posthouse.mailauth.dkim_verify import Verification
from posthouse.mailauth.dmarc import DmarcResult, DmarcVerdict, Policy
from posthouse.mailauth.spf import SpfVerdict
from posthouse.services.disposition import Action, Decision
from posthouse.services.verification import Findings
from posthouse.store.dmarc_counts import PolicySaid

MAX_NAME = 255  # characters of a domain or selector; DNS has no longer ones
MAX_REASON = 200  # characters of why a signature or SPF failed
MAX_PROBLEMS = 20  # of a policy

_ASKED = {Policy.NONE: "none", Policy.QUARANTINE: "quarantine", Policy.REJECT: "reject"}
_DONE = {Action.ACCEPT: "none", Action.QUARANTINE: "quarantine", Action.REJECT: "reject"}


def facts_of(found: Findings, verdict: DmarcVerdict, decision: Decision, recipients: Collection[str]) -> Facts:
    """`recipients`: the domains of the recipients. The verdict must have a record."""
    disposition = _disposition(verdict, decision)
    return Facts(
        source=str(found.address),
        disposition=disposition,
        dkim_aligned=bool(verdict.dkim_aligned),
        spf_aligned=verdict.spf_aligned,
        header_from=verdict.author,
        # RFC 9990 §3.1.1.10: empty for the null reverse-path, whose SPF identity is the HELO's (RFC 7208 §2.4).
        envelope_from="" if found.spf.identity == "helo" else found.spf.domain[:MAX_NAME],
        envelope_to=next(iter(recipients)) if len(recipients) == 1 else "",
        overrides=_overrides(found, verdict, decision, disposition),
        signatures=_signatures(found.signatures, verdict),
        spf=_spf(found.spf),
    )


def policy_said(verdict: DmarcVerdict) -> PolicySaid:
    """What the owner has published: tags as RFC 9990 §3.1.1.5 wants them, with their defaults; where reports go; what
    is wrong."""
    record = verdict.record
    assert record is not None
    tags = (
        verdict.policy_domain,
        record.policy_for(is_subdomain=False).value,
        record.policy_for(is_subdomain=True).value,
        record.policy_for(is_subdomain=True, exists=False).value,
        "s" if record.strict_dkim else "r",
        "s" if record.strict_spf else "r",
        ":".join(record.fo),
        "y" if record.is_test else "n",
    )
    return tags, record.rua, tuple(verdict.problems[:MAX_PROBLEMS])


def _disposition(verdict: DmarcVerdict, decision: Decision) -> str:
    """RFC 9990 appendix A, ActionDispositionType: what DMARC has led to. What other checks do to a letter that passes
    is not DMARC's result."""
    if verdict.result is not DmarcResult.PASS:
        return _DONE[decision.action]
    record = verdict.record
    assert record is not None
    enforced = record.policy_for(is_subdomain=verdict.author != verdict.policy_domain)
    return "none" if enforced is Policy.NONE or record.is_test else "pass"


def _overrides(found: Findings, verdict: DmarcVerdict, decision: Decision, disposition: str) -> tuple[Override, ...]:
    """RFC 9990 §3.1.6; one is there wherever something else was done with a fail than the policy says (§3.1.1.9)."""
    if verdict.result is not DmarcResult.FAIL:
        return ()
    told: list[Override] = []
    if verdict.policy is not verdict.asked_policy:
        told.append(Override("policy_test_mode"))
    if disposition != _ASKED[verdict.policy]:
        if found.voucher and decision.action is Action.ACCEPT:
            told.append(Override("trusted_forwarder", decision.local))
        else:
            told.append(Override("local_policy", decision.local))
    return tuple(told)


def _signatures(signatures: Collection[Verification], verdict: DmarcVerdict) -> tuple[SignatureResult, ...]:
    """In the order of RFC 9990 §3.1.3; those that name no domain or key cannot be told."""
    told = [each for each in signatures if each.domain and each.selector]

    def rank(each: Verification) -> int:
        if each.result != "pass":
            return 3
        domain = each.domain.lower()
        return 0 if domain == verdict.author else 1 if domain in verdict.dkim_aligned else 2

    return tuple(
        SignatureResult(
            each.domain[:MAX_NAME].lower(), each.selector[:MAX_NAME], each.result.value, each.reason[:MAX_REASON]
        )
        for each in sorted(told, key=rank)
    )


def _spf(verdict: SpfVerdict) -> SpfIdentity:
    text = "" if verdict.result == "pass" else verdict.reason[:MAX_REASON]
    return SpfIdentity(verdict.domain[:MAX_NAME], verdict.result.value, "mfrom", text)
