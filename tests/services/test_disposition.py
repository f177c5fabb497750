# SPDX-License-Identifier: Apache-2.0
"""What becomes of a letter by what was found and what the operator wants, and how it is told."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from posthouse.mailauth.arc import Chain, ChainResult
from posthouse.mailauth.author import Authors
from posthouse.mailauth.dkim_verify import DkimResult, Verification
from posthouse.mailauth.dmarc import DmarcResult, DmarcVerdict, Policy
from posthouse.mailauth.iprev import IprevResult, IprevVerdict
from posthouse.mailauth.results import parse_results
from posthouse.mailauth.spf import SpfResult, SpfVerdict
from posthouse.services.disposition import Action, Decision, Terms, decide, results_field, statements, summary
from posthouse.services.verification import Findings

ADDRESS = ipaddress.ip_address("192.0.2.7")
PASSED = Findings(
    ADDRESS,
    SpfVerdict(SpfResult.PASS, "author.test", "mailfrom"),
    IprevVerdict(IprevResult.PASS, ADDRESS, "mx.author.test"),
    (Verification(DkimResult.PASS, "author.test", "s1", "ed25519-sha256", signature="abc"),),
    Chain(ChainResult.NONE),
    Authors(("author.test",)),
    1,
    (DmarcVerdict(DmarcResult.PASS, "author.test", spf_aligned=True),),
)


def failing(policy: Policy, author: str = "author.test") -> Findings:
    verdict = DmarcVerdict(DmarcResult.FAIL, author, "neither is aligned", author, policy=policy, asked_policy=policy)
    spf = SpfVerdict(SpfResult.FAIL, "else.test", "mailfrom", reason="-all matches")
    return replace(PASSED, dmarc=(verdict,), spf=spf, signatures=())


def code(decision: Decision) -> str:
    return str(decision.refusal.status) if decision.refusal else ""


def test_a_letter_that_passes_is_taken() -> None:
    strict = Terms(reject=Action.REJECT, spf_fail=Action.REJECT, iprev_fail=Action.REJECT, defers_temperror=True)
    assert decide(strict, PASSED) == Decision(Action.ACCEPT)


@pytest.mark.parametrize(
    ("policy", "terms", "action", "status"),
    [
        (Policy.NONE, {}, "accept", ""),
        (Policy.QUARANTINE, {}, "quarantine", ""),
        (Policy.REJECT, {}, "quarantine", ""),  # RFC 9989 §7.4
        (Policy.REJECT, {"reject": Action.REJECT}, "reject", "5.7.1"),
        (Policy.QUARANTINE, {"reject": Action.REJECT}, "quarantine", ""),
        (Policy.QUARANTINE, {"quarantine": Action.ACCEPT}, "accept", ""),
        (Policy.REJECT, {"reject": Action.ACCEPT}, "accept", ""),
        (Policy.REJECT, {"domains": {"author.test": Action.ACCEPT}}, "accept", ""),
        (Policy.NONE, {"domains": {"author.test": Action.REJECT}}, "reject", "5.7.1"),
        (Policy.NONE, {"domains": {"test": Action.QUARANTINE}}, "quarantine", ""),
        (Policy.NONE, {"domains": {"author.test": Action.ACCEPT, "test": Action.REJECT}}, "accept", ""),
        (Policy.NONE, {"domains": {"thor.test": Action.REJECT}}, "accept", ""),
    ],
)
def test_what_a_dmarc_fail_leads_to(policy: Policy, terms: dict[str, Any], action: str, status: str) -> None:
    decision = decide(Terms(**terms), failing(policy))
    assert (decision.action, code(decision)) == (action, status)


def test_an_exception_tells_itself() -> None:
    for policy, terms in (
        (Policy.REJECT, Terms()),
        (Policy.QUARANTINE, Terms(quarantine=Action.ACCEPT)),
        (Policy.NONE, Terms(domains={"author.test": Action.QUARANTINE})),
    ):
        found = failing(policy)
        decision = decide(terms, found)
        assert decision.local
        assert decision.local in next(each for each in statements(found, decision) if each.method == "dmarc").reason
    assert not decide(Terms(), failing(Policy.QUARANTINE)).local


def test_a_trusted_seal_takes_the_letter_in_and_says_so() -> None:
    found = replace(failing(Policy.REJECT), voucher="lists.test", chain=Chain(ChainResult.PASS, 1, ("lists.test",)))
    decision = decide(Terms(reject=Action.REJECT), found)
    assert (decision.action, decision.refusal) == (Action.ACCEPT, None)
    field = results_field("mail.example.test", statements(found, decision))
    assert b"dmarc=fail" in field
    assert b"lists.test" in field
    assert b"arc=pass" in field


@pytest.mark.parametrize(
    ("count", "wish", "action", "status"),
    [
        (0, Action.REJECT, "reject", "5.6.0"),
        (2, Action.REJECT, "reject", "5.6.0"),
        (2, Action.QUARANTINE, "quarantine", ""),
        (0, Action.ACCEPT, "accept", ""),
        (1, Action.REJECT, "accept", ""),
    ],
)
def test_from_fields_are_counted(count: int, wish: Action, action: str, status: str) -> None:
    decision = decide(Terms(malformed_from=wish), replace(PASSED, from_fields=count))
    assert (decision.action, code(decision)) == (action, status)


def test_a_temperror_defers_only_if_asked() -> None:
    found = replace(PASSED, dmarc=(DmarcVerdict(DmarcResult.TEMPERROR, "author.test", "SERVFAIL"),))
    assert decide(Terms(reject=Action.REJECT), found) == Decision(Action.ACCEPT)
    assert code(decide(Terms(defers_temperror=True), found)) == "4.4.3"


def test_spf_refuses_only_if_asked_and_never_what_dmarc_passes() -> None:
    forwarded = replace(PASSED, spf=SpfVerdict(SpfResult.FAIL, "author.test", "mailfrom"))
    unknown = replace(forwarded, dmarc=(DmarcVerdict(DmarcResult.NONE, "author.test"),))
    assert decide(Terms(), unknown).action is Action.ACCEPT
    assert code(decide(Terms(spf_fail=Action.REJECT), unknown)) == "5.7.23"
    assert decide(Terms(spf_fail=Action.REJECT), forwarded).action is Action.ACCEPT


def test_an_explanation_is_told_as_the_domains_own_and_stays_one_line() -> None:
    spf = SpfVerdict(SpfResult.FAIL, "b\r\n250 ok", "mailfrom", explanation="see https://author.test/why")
    found = replace(PASSED, spf=spf, dmarc=(DmarcVerdict(DmarcResult.NONE, "author.test"),))
    refusal = decide(Terms(spf_fail=Action.REJECT), found).refusal
    assert refusal is not None
    assert refusal.text == "SPF validation failed for b??250 ok; that domain explains: see https://author.test/why"


@pytest.mark.parametrize(("result", "status"), [("fail", "5.7.25"), ("permerror", "5.7.25"), ("temperror", "")])
def test_the_reverse_name_refuses_only_what_is_known(result: str, status: str) -> None:
    found = replace(PASSED, iprev=IprevVerdict(IprevResult(result), ADDRESS))
    assert code(decide(Terms(iprev_fail=Action.REJECT), found)) == status
    assert decide(Terms(), found).action is Action.ACCEPT


def test_the_strictest_of_several_rules_counts() -> None:
    found = replace(failing(Policy.QUARANTINE), from_fields=2)
    assert decide(Terms(), found).action is Action.REJECT
    assert decide(Terms(malformed_from=Action.ACCEPT), found).action is Action.QUARANTINE


def test_a_forgery_that_would_pass_behind_us_is_refused() -> None:
    found = replace(failing(Policy.REJECT), would_pass=("author.test",))
    decision = decide(Terms(), found)
    assert (decision.action, code(decision)) == (Action.REJECT, "5.7.1")
    assert "next host" in decision.local
    for milder, terms in (
        (replace(failing(Policy.NONE), would_pass=found.would_pass), Terms()),
        (replace(found, voucher="lists.test"), Terms()),
        (found, Terms(domains={"author.test": Action.ACCEPT})),
    ):
        assert decide(terms, milder).action is Action.ACCEPT
    assert decide(Terms(), replace(found, would_pass=("other.test",))).action is Action.QUARANTINE
    unknown = replace(found, dmarc=(DmarcVerdict(DmarcResult.TEMPERROR, "author.test", "SERVFAIL"),))
    assert code(decide(Terms(), unknown)) == "4.4.3"


def test_the_strictest_policy_of_several_authors_counts() -> None:
    """RFC 9989 §11.5."""
    both = failing(Policy.NONE, "a.test").dmarc + failing(Policy.REJECT, "b.test").dmarc
    assert decide(Terms(reject=Action.REJECT), replace(PASSED, dmarc=both)).action is Action.REJECT


def test_everything_is_told_and_can_be_read_again() -> None:
    told = statements(failing(Policy.REJECT), decide(Terms(), failing(Policy.REJECT)))
    field = results_field("mail.example.test", told)
    read = parse_results(field.partition(b":")[2])
    assert read is not None
    assert read.is_well_formed
    assert read.authserv_id == "mail.example.test"
    assert [(each.method, each.result) for each in read.statements] == [
        ("iprev", "pass"),
        ("spf", "fail"),
        ("dkim", "none"),
        ("dmarc", "fail"),
    ]
    assert read.statements[3].get("policy", "dmarc") == "reject"
    assert summary(told) == "iprev=pass spf=fail dkim=none dmarc=fail"
