# SPDX-License-Identifier: Apache-2.0
"""What becomes of a letter after the checks: taken, put among the junk, or refused; and how that is told.

Invariant: nothing is refused for a fault of DNS unless the operator asks for it, and nothing with a DMARC pass for
SPF's sake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import assert_never

from posthouse.mailauth.arc import ChainResult
from posthouse.mailauth.dmarc import DmarcResult, DmarcVerdict, Policy
from posthouse.mailauth.iprev import IprevResult
from posthouse.mailauth.results import Statement, authentication_results
from posthouse.mailauth.spf import SpfResult
from posthouse.mailauth.statements import (
    arc_statement,
    dkim_statement,
    dmarc_statement,
    iprev_statement,
    spf_statement,
    unsigned,
)
from posthouse.outcome import BAD_CONTENT, DNS_FAULT, NO_REVERSE_NAME, NOT_AUTHORIZED, SPF_FAILED, Refusal
from posthouse.services.verification import Findings


class Action(StrEnum):
    """From the mildest on."""

    ACCEPT = "accept"
    QUARANTINE = "quarantine"
    REJECT = "reject"


_SEVERITY = {action: at for at, action in enumerate(Action)}
_ASKED = {Policy.NONE: Action.ACCEPT, Policy.QUARANTINE: Action.QUARANTINE, Policy.REJECT: Action.REJECT}


@dataclass(frozen=True, slots=True)
class Terms:
    """The operator's wishes. `quarantine`, `reject`: what is done where a domain's owner asks for that. `domains`: what
    is done with letters of these Author Domains (and those below them) that fail DMARC, whatever the owner asks for."""

    quarantine: Action = Action.QUARANTINE
    reject: Action = Action.QUARANTINE
    malformed_from: Action = Action.REJECT
    spf_fail: Action = Action.ACCEPT
    iprev_fail: Action = Action.ACCEPT
    defers_temperror: bool = False
    domains: Mapping[str, Action] = field(default_factory=dict)

    def action_for(self, verdict: DmarcVerdict) -> tuple[Action, bool]:
        """What to do on a fail, and whether it is by an exception for the domain."""
        name = verdict.author
        while name:
            if name in self.domains:
                return self.domains[name], True
            name = name.partition(".")[2]
        match verdict.policy:
            case Policy.NONE:
                return Action.ACCEPT, False
            case Policy.QUARANTINE:
                return self.quarantine, False
            case Policy.REJECT:
                return self.reject, False
            case policy:
                assert_never(policy)


@dataclass(frozen=True, slots=True)
class Decision:
    """`refusal` is there where `action` is REJECT, or where the letter is to come later. `local`: why something else
    is done than the domain's owner asks for, in one line; "" where it is not."""

    action: Action
    refusal: Refusal | None = None
    local: str = ""


TAKEN = Decision(Action.ACCEPT)


def decide(terms: Terms, found: Findings) -> Decision:
    """The first rule that says something else than to take the letter, the strictest first."""
    decisions = [
        _by_from(terms, found),
        _by_iprev(terms, found),
        _by_spf(terms, found),
        *(_by_dmarc(terms, verdict, found) for verdict in found.dmarc),
    ]
    return max(decisions, key=lambda each: (_SEVERITY[each.action], each.refusal is not None, bool(each.local)))


def _by_from(terms: Terms, found: Findings) -> Decision:
    """RFC 9989 §11.5: with several From fields, people may be shown one that nobody has checked."""
    if found.from_fields == 1 or terms.malformed_from is Action.ACCEPT:
        return TAKEN
    told = "no From field" if not found.from_fields else f"{found.from_fields} From fields"
    refusal = Refusal(BAD_CONTENT, f"The letter has {told}; exactly one is needed (RFC 5322 section 3.6)")
    return _decision(terms.malformed_from, refusal, told)


def _by_iprev(terms: Terms, found: Findings) -> Decision:
    if found.iprev.result not in (IprevResult.FAIL, IprevResult.PERMERROR) or terms.iprev_fail is Action.ACCEPT:
        return TAKEN
    refusal = Refusal(NO_REVERSE_NAME, f"Reverse DNS validation failed for {found.address}")
    return _decision(terms.iprev_fail, refusal, "reverse DNS validation failed")


def _by_spf(terms: Terms, found: Findings) -> Decision:
    if found.spf.result is not SpfResult.FAIL or terms.spf_fail is Action.ACCEPT:
        return TAKEN
    if found.dmarc and all(verdict.result is DmarcResult.PASS for verdict in found.dmarc):
        return TAKEN  # forwarded, and signed by the author
    text = f"SPF validation failed for {found.spf.domain}"
    if found.spf.explanation:  # RFC 7208 §6.2: it is to be seen that these are not our words
        text += f"; that domain explains: {found.spf.explanation}"
    return _decision(terms.spf_fail, Refusal(SPF_FAILED, _one_line(text)), "SPF validation failed")


def _by_dmarc(terms: Terms, verdict: DmarcVerdict, found: Findings) -> Decision:
    would_pass = verdict.author in found.would_pass
    if verdict.result is DmarcResult.TEMPERROR and (terms.defers_temperror or would_pass):
        text = f"The DMARC policy of {verdict.author} cannot be applied at the moment, try again later"
        return Decision(Action.ACCEPT, Refusal(DNS_FAULT, _one_line(text)))
    if verdict.result is not DmarcResult.FAIL:
        return TAKEN
    action, is_exception = terms.action_for(verdict)
    if found.voucher and action is not Action.ACCEPT:
        return Decision(Action.ACCEPT, local=f"the trusted sealer {found.voucher} has seen DMARC pass (ARC)")
    local = ""
    if would_pass and action is Action.QUARANTINE:
        # Passed on, it would be no junk any more but a letter that passes the very policy that it fails here.
        action, local = Action.REJECT, "passed on from here, it would pass at the next host"
    elif is_exception:
        local = f"a setting says {action} for {verdict.author}"
    elif action is not _ASKED[verdict.policy]:
        local = f"a setting says {action} instead of {verdict.policy}"
    refusal = Refusal(NOT_AUTHORIZED, f"Email rejected per DMARC policy for {verdict.author}")
    return replace(_decision(action, refusal, ""), local=local)


def _decision(action: Action, refusal: Refusal, local: str) -> Decision:
    return Decision(action, refusal if action is Action.REJECT else None, local)


def _one_line(text: str) -> str:
    """For a reply."""
    return "".join(each if " " <= each <= "~" else "?" for each in text)


# --- telling --------------------------------------------------------------------------------------


def statements(found: Findings, decision: Decision) -> tuple[Statement, ...]:
    """In the words of Authentication-Results."""
    told = [iprev_statement(found.iprev), spf_statement(found.spf)]
    told += [dkim_statement(each) for each in found.signatures] or [unsigned()]
    chain = found.chain
    if chain.result in (ChainResult.PASS, ChainResult.FAIL):
        oldest = chain.oldest_pass if chain.result is ChainResult.PASS else None
        told.append(arc_statement(chain.result, reason=chain.reason, remote=found.address, oldest_pass=oldest))
    for verdict in found.dmarc:
        statement = dmarc_statement(verdict)
        if verdict.result is DmarcResult.FAIL and decision.local:
            statement = replace(statement, reason=f"{statement.reason}; {decision.local}")
        told.append(statement)
    return tuple(told)


def results_field(authserv_id: str, told: Sequence[Statement]) -> bytes:
    return authentication_results(authserv_id, told)


def summary(told: Sequence[Statement]) -> str:
    """For the log: `iprev=pass spf=pass dkim=pass dmarc=pass`."""
    return " ".join(f"{each.method}={each.result}" for each in told)
