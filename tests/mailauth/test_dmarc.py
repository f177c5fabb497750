# SPDX-License-Identifier: Apache-2.0
"""DMARC: RFC 9989 section by section, its examples, and what its text says of odd records, odd letters and odd DNS."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from posthouse.mailauth import dmarc as module
from posthouse.mailauth.author import Authors
from posthouse.mailauth.dmarc import DmarcResult, DmarcVerdict, Policy, check_dmarc
from posthouse.mailauth.organization import MAX_QUERIES, TreeWalk, walk_targets
from posthouse.mailauth.signatures import SignatureResult
from posthouse.mailauth.spf_record import SpfResult
from posthouse.ports import ResolverFault
from tests.mailauth.zones import Records, Zone


@dataclass(frozen=True)
class Spf:
    domain: str
    result: SpfResult = SpfResult.PASS


@dataclass(frozen=True)
class Dkim:
    domain: str
    result: SignatureResult = SignatureResult.PASS


def zone_of(**records: str) -> Zone:
    """`example_com="v=…"` is the record at _dmarc.example.com; example.com then exists, and so do its parents."""
    names: dict[str, Records] = {}
    for name, text in records.items():
        domain = name.replace("_", ".")
        names[f"_dmarc.{domain}"] = [{"TXT": text}]
        labels = domain.split(".")
        for at in range(len(labels)):
            names.setdefault(".".join(labels[at:]), [])
    return Zone(names)


async def judge(zone: Zone, author: str, spf: Spf | None = None, *dkim: Dkim) -> DmarcVerdict:
    (verdict,) = await check_dmarc(zone, Authors((author,)), spf, dkim)
    return verdict


# --- §4.10: the tree walk -------------------------------------------------------------------------


def test_4_10_the_eight_queries() -> None:
    assert walk_targets("a.b.c.d.e.f.g.h.i.j.mail.example.com") == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]


def test_5_1_8_what_is_never_asked_for() -> None:
    assert walk_targets("mail.a.b.c.d.e.f.g.example.com")[1:] == [
        "c.d.e.f.g.example.com",
        "d.e.f.g.example.com",
        "e.f.g.example.com",
        "f.g.example.com",
        "g.example.com",
        "example.com",
        "com",
    ]


@pytest.mark.parametrize("count", range(1, 40))
def test_4_10_never_more_than_eight(count: int) -> None:
    targets = walk_targets(".".join(["x"] * count))
    assert len(targets) == min(count, MAX_QUERIES)
    assert [target.count(".") + 1 for target in targets[1:]] == list(range(min(count - 1, 7), 0, -1))


@pytest.mark.parametrize(
    ("records", "domain", "organization"),
    [
        # §4.10.2, its three examples.
        ({"mail_example_com": "v=DMARC1", "example_com": "v=DMARC1"}, "a.mail.example.com", "example.com"),
        ({"mail_example_com": "v=DMARC1;psd=n", "example_com": "v=DMARC1"}, "a.mail.example.com", "mail.example.com"),
        ({"com": "v=DMARC1;psd=y"}, "a.mail.example.com", "example.com"),
        # Rule 2: not at the domain where the walk starts.
        ({"bank_example": "v=DMARC1;psd=y"}, "bank.example", "bank.example"),
        ({"bank_example": "v=DMARC1;psd=y"}, "giant.bank.example", "giant.bank.example"),
        ({"bank_example": "v=DMARC1;psd=y"}, "a.b.c.d.e.f.g.h.giant.bank.example", "giant.bank.example"),
        # No record at all, and one that is unreadable but for its version.
        ({}, "a.mail.example.com", "a.mail.example.com"),
        ({"example_com": "v=DMARC1; ???"}, "a.mail.example.com", "example.com"),
        ({"com": "v=DMARC1; p=none"}, "a.mail.example.com", "com"),  # §11.8: its owner should say psd=y
        ({"com": "v=DMARC1; p=none", "example_com": "v=DMARC1; psd=n"}, "a.mail.example.com", "example.com"),
    ],
)
async def test_4_10_2_organizational_domains(records: dict[str, str], domain: str, organization: str) -> None:
    assert await TreeWalk(zone_of(**records)).organization_of(domain) == organization


async def test_4_10_several_records_are_none() -> None:
    zone = Zone({"_dmarc.example.com": [{"TXT": "v=DMARC1; p=reject"}, {"TXT": "v=DMARC1; p=none"}, {"TXT": "other"}]})
    walk = TreeWalk(zone)
    assert await walk.policy_for("mail.example.com") is None
    assert walk.problems == ["_dmarc.example.com has 2 DMARC records"]
    zone = Zone({"_dmarc.example.com": [{"TXT": "v=DMARC1; p=reject"}, {"TXT": "other"}]})
    found = await TreeWalk(zone).policy_for("example.com")
    assert found is not None
    assert found.record.policy is Policy.REJECT


@pytest.mark.parametrize(
    ("records", "author", "domain"),
    [
        ({"mail_example_com": "v=DMARC1", "example_com": "v=DMARC1"}, "mail.example.com", "mail.example.com"),
        ({"mail_example_com": "v=DMARC1", "example_com": "v=DMARC1"}, "a.mail.example.com", "example.com"),
        ({"mail_example_com": "v=DMARC1;psd=n", "example_com": "v=DMARC1"}, "a.mail.example.com", "mail.example.com"),
        ({"com": "v=DMARC1;psd=y"}, "a.mail.example.com", "com"),
        # The organization is giant.bank.example, whose own record is missing: not the record below it.
        (
            {"b_giant_bank_example": "v=DMARC1", "bank_example": "v=DMARC1;psd=y"},
            "a.b.giant.bank.example",
            "bank.example",
        ),
        ({}, "a.mail.example.com", None),
    ],
)
async def test_4_10_1_where_the_policy_is(records: dict[str, str], author: str, domain: str | None) -> None:
    found = await TreeWalk(zone_of(**records)).policy_for(author)
    assert (found and found.domain) == domain


async def test_no_name_is_asked_for_twice() -> None:
    zone = zone_of(example_com="v=DMARC1; p=reject")
    await judge(zone, "a.b.example.com", Spf("c.b.example.com"), Dkim("d.b.example.com"), Dkim("b.example.com"))
    assert len(zone.asked) == len(set(zone.asked))


# --- §4.10.1: which policy ------------------------------------------------------------------------

THREE = "v=DMARC1; p=reject; sp=quarantine; np=none"


@pytest.mark.parametrize(
    ("author", "policy"),
    [("example.com", Policy.REJECT), ("there.example.com", Policy.QUARANTINE), ("gone.example.com", Policy.NONE)],
)
async def test_4_10_1_domain_subdomain_and_what_does_not_exist(author: str, policy: Policy) -> None:
    zone = Zone({"_dmarc.example.com": [{"TXT": THREE}], "example.com": [], "there.example.com": [{"A": "192.0.2.1"}]})
    verdict = await judge(zone, author)
    assert (verdict.result, verdict.policy, verdict.policy_domain) == (DmarcResult.FAIL, policy, "example.com")


async def test_4_10_1_existence_is_asked_about_only_where_it_matters() -> None:
    for text in ("v=DMARC1; p=reject", "v=DMARC1; p=reject; sp=none; np=none"):
        zone = zone_of(example_com=text)
        await judge(zone, "gone.example.com")
        assert ("gone.example.com", "TXT") not in zone.asked


async def test_4_10_1_a_public_suffix_speaks_for_those_below() -> None:
    zone = zone_of(example="v=DMARC1; p=none; sp=quarantine; np=reject; psd=y")
    verdict = await judge(zone, "shop.example")
    assert (verdict.policy, verdict.policy_domain) == (Policy.REJECT, "example")
    zone = Zone({"_dmarc.example": zone._names["_dmarc.example"], "shop.example": []})
    assert (await judge(zone, "shop.example")).policy is Policy.QUARANTINE


@pytest.mark.parametrize("tags", ["p=all", "p=reject; sp=x", "p=reject; np=x", "sp=reject", ""])
async def test_4_10_1_a_broken_policy_is_none_where_reports_are_wanted_and_nothing_elsewhere(tags: str) -> None:
    verdict = await judge(zone_of(example_com=f"v=DMARC1; {tags}; rua=mailto:a@example.com"), "example.com")
    assert (verdict.result, verdict.policy) == (DmarcResult.FAIL, Policy.NONE)
    assert verdict.problems
    for rua in ("", "; rua=nobody"):
        verdict = await judge(zone_of(example_com=f"v=DMARC1; {tags}{rua}"), "example.com", Spf("example.com"))
        assert (verdict.result, verdict.policy) == (DmarcResult.PERMERROR, Policy.NONE)
        assert verdict.reason == "the DMARC record of example.com has no valid policy"


@pytest.mark.parametrize(("p", "milder"), [("none", "none"), ("quarantine", "none"), ("reject", "quarantine")])
async def test_4_7_test_mode_takes_one_level_off(p: str, milder: str) -> None:
    verdict = await judge(zone_of(example_com=f"v=DMARC1; p={p}; t=y"), "example.com")
    assert (str(verdict.policy), str(verdict.asked_policy)) == (milder, p)


@pytest.mark.parametrize(
    ("author", "policy", "asked"),
    [
        ("example.com", "quarantine", "reject"),
        ("there.example.com", "none", "quarantine"),
        ("gone.example.com", "quarantine", "reject"),
    ],
)
async def test_4_7_test_mode_is_of_sp_and_np_too(author: str, policy: str, asked: str) -> None:
    text = "v=DMARC1; p=reject; sp=quarantine; np=reject; t=y"
    zone = Zone({"_dmarc.example.com": [{"TXT": text}], "example.com": [], "there.example.com": [{"A": "192.0.2.1"}]})
    verdict = await judge(zone, author)
    assert (str(verdict.policy), str(verdict.asked_policy)) == (policy, asked)


@pytest.mark.parametrize(
    ("records", "author", "policy", "domain"),
    [
        # §4.10 steps 2 and 6: records of another version, and several at one name, are as if they were not there.
        ({"mail.o.test": ["v=DMARC2; p=none"]}, "mail.o.test", "quarantine", "o.test"),
        ({"mail.o.test": ["p=none; v=DMARC1"]}, "mail.o.test", "quarantine", "o.test"),
        ({"mail.o.test": ["v=DMARC1; p=none", "v=DMARC1; p=none"]}, "mail.o.test", "quarantine", "o.test"),
        ({"mail.o.test": ["v=DMARC1; p=none", "v=DMARC2; p=none"]}, "mail.o.test", "none", "mail.o.test"),
        # §4.7: sp and np of a record between the author and its organization say nothing.
        ({"mail.o.test": ["v=DMARC1; p=none; sp=none; np=none"]}, "a.mail.o.test", "quarantine", "o.test"),
        # psd=n makes that name the organization, and its sp is the one that counts.
        ({"mail.o.test": ["v=DMARC1; p=none; sp=reject; psd=n"]}, "a.mail.o.test", "reject", "mail.o.test"),
        ({"mail.o.test": ["v=DMARC1; p=none; sp=reject; psd=n"]}, "mail.o.test", "none", "mail.o.test"),
        # A public suffix whose owner sends by its own name: p, and for organizations without a record sp.
        ({"test": ["v=DMARC1; p=reject; sp=none; psd=y"]}, "test", "reject", "test"),
        ({"test": ["v=DMARC1; p=reject; sp=none; psd=y"]}, "a.other.test", "none", "test"),
        ({"test": ["v=DMARC1; p=reject; psd=y"]}, "a.o.test", "quarantine", "o.test"),
        # A suffix that does not say that it is one stands for all below it (§11.8).
        ({"test": ["v=DMARC1; p=reject"]}, "a.o.test", "reject", "test"),
        # Nine labels: the record of the eighth is not asked for, that of the author and that of the seventh are.
        ({"2.3.4.5.6.7.o.test": ["v=DMARC1; p=none; psd=n"]}, "1.2.3.4.5.6.7.o.test", "quarantine", "o.test"),
        ({"3.4.5.6.7.o.test": ["v=DMARC1; p=none; psd=n"]}, "1.2.3.4.5.6.7.o.test", "none", "3.4.5.6.7.o.test"),
        ({"1.2.3.4.5.6.7.o.test": ["v=DMARC1; p=reject"]}, "1.2.3.4.5.6.7.o.test", "reject", "1.2.3.4.5.6.7.o.test"),
    ],
)  # fmt: skip
async def test_4_10_which_of_several_records_applies(
    records: dict[str, list[str]], author: str, policy: str, domain: str
) -> None:
    """Beside that of o.test, which asks for quarantine."""
    names: dict[str, Records] = {
        f"_dmarc.{name}": [{"TXT": text} for text in texts]
        for name, texts in {"o.test": ["v=DMARC1; p=quarantine"], **records}.items()
    }
    for name in ("o.test", author):
        names[name] = []
    verdict = await judge(Zone(names), author)
    assert (verdict.result, str(verdict.policy), verdict.policy_domain) == (DmarcResult.FAIL, policy, domain)


async def test_no_policy_is_none_and_asks_for_nothing() -> None:
    """§5.3.2"""
    verdict = await judge(Zone({}), "example.com", Spf("example.com"))
    assert verdict == DmarcVerdict(DmarcResult.NONE, "example.com", "example.com has no DMARC policy")


# --- §4.4: alignment ------------------------------------------------------------------------------

EXAMPLE = zone_of(example_com="v=DMARC1; p=reject", example_net="v=DMARC1; p=reject")


@pytest.mark.parametrize(
    ("identifier", "author", "relaxed", "strict"),
    [
        # Table 1.
        ("foo.example.com", "news.example.com", True, False),
        ("news.example.com", "news.example.com", True, True),
        ("foo.example.net", "news.example.com", False, False),
        # B.1.1 and B.1.2.
        ("example.com", "example.com", True, True),
        ("child.example.com", "example.com", True, False),
        ("example.net", "child.example.com", False, False),
        ("example.com", "child.example.com", True, False),
        # Case (§4.4), final dots, names that only look alike, and what is no name.
        ("NEWS.Example.COM", "news.example.com", True, True),
        ("news.example.com.", "news.example.com", True, True),
        ("badexample.com", "example.com", False, False),
        ("com", "example.com", False, False),
        ("", "example.com", False, False),
        ("a..b", "example.com", False, False),
    ],
)
async def test_4_4_alignment(identifier: str, author: str, relaxed: bool, strict: bool) -> None:
    for spf, dkim in ((Spf(identifier), ()), (None, (Dkim(identifier),))):
        verdict = await judge(EXAMPLE, author, spf, *dkim)
        assert (verdict.result is DmarcResult.PASS) == relaxed, verdict
        assert verdict.policy is (Policy.NONE if relaxed else Policy.REJECT)
        assert (verdict.spf_aligned, bool(verdict.dkim_aligned)) == (
            relaxed and spf is not None,
            relaxed and bool(dkim),
        )
        zone = zone_of(example_com="v=DMARC1; p=reject; sp=reject; adkim=s; aspf=s")
        assert ((await judge(zone, author, spf, *dkim)).result is DmarcResult.PASS) == strict


async def test_4_4_modes_are_of_each_method() -> None:
    zone = zone_of(example_com="v=DMARC1; p=reject; adkim=s")
    verdict = await judge(zone, "example.com", Spf("a.example.com"), Dkim("b.example.com"))
    assert (verdict.spf_aligned, verdict.dkim_aligned) == (True, ())
    zone = zone_of(example_com="v=DMARC1; p=reject; aspf=s")
    verdict = await judge(zone, "example.com", Spf("a.example.com"), Dkim("b.example.com"), Dkim("c.example.com"))
    assert (verdict.spf_aligned, verdict.dkim_aligned) == (False, ("b.example.com", "c.example.com"))


@pytest.mark.parametrize("spf", [result for result in SpfResult if result is not SpfResult.PASS])
@pytest.mark.parametrize("dkim", [result for result in SignatureResult if result is not SignatureResult.PASS])
async def test_4_4_only_what_passed_is_an_authenticated_identifier(spf: SpfResult, dkim: SignatureResult) -> None:
    verdict = await judge(EXAMPLE, "example.com", Spf("example.com", spf), Dkim("example.com", dkim))
    assert verdict.result is (DmarcResult.TEMPERROR if "temperror" in (spf, dkim) else DmarcResult.FAIL)
    assert verdict.policy is (Policy.REJECT if verdict.result is DmarcResult.FAIL else Policy.NONE)


async def test_4_4_names_in_other_scripts() -> None:
    """§5.3.1: compared as A-labels."""
    zone = Zone({"_dmarc.xn--bcher-kva.test": [{"TXT": "v=DMARC1; p=reject; adkim=s"}]})
    assert (await judge(zone, "xn--bcher-kva.test", None, Dkim("bücher.test"))).result is DmarcResult.PASS


async def test_11_8_the_scenario() -> None:
    """An organization is not taken for the parent of what its owner declared."""
    zone = zone_of(mail_example_com="v=DMARC1; p=reject; psd=n", example_com="v=DMARC1; p=reject")
    assert (await judge(zone, "a.mail.example.com", None, Dkim("mail.example.com"))).result is DmarcResult.PASS
    assert (await judge(zone, "evil.example.com", None, Dkim("mail.example.com"))).result is DmarcResult.FAIL


# --- appendix B -----------------------------------------------------------------------------------


async def test_b_3_1_smtp_session() -> None:
    zone = zone_of(example_com="v=DMARC1; p=reject; aspf=r; rua=mailto:dmarc-feedback@example.com")
    verdict = await judge(zone, "example.com", Spf("mail.example.com"), Dkim("example.com"))
    assert (verdict.result, verdict.spf_aligned, verdict.dkim_aligned) == (DmarcResult.PASS, True, ("example.com",))


@pytest.mark.parametrize("author", ["example.com", "a.b.c.d.e.f.g.h.i.j.k.example.com"])
async def test_b_4_1_and_b_4_2_tree_walks(author: str) -> None:
    zone = zone_of(example_com="v=DMARC1; p=reject", signing_example_com="v=DMARC1; p=none")
    verdict = await judge(zone, author, Spf("example.com"), Dkim("signing.example.com"))
    assert (verdict.spf_aligned, verdict.dkim_aligned) == (True, ("signing.example.com",))
    assert (verdict.result, verdict.policy_domain, verdict.organization) == (
        DmarcResult.PASS,
        "example.com",
        "example.com",
    )
    failed = await judge(zone, author, Spf("example.com", SpfResult.FAIL))
    assert (failed.policy, failed.policy_domain) == (Policy.REJECT, "example.com")
    if author != "example.com":
        asked = [name for name, _ in zone.asked[:8]]
        assert asked == [f"_dmarc.{target}" for target in walk_targets(author)]


async def test_b_4_3_a_public_suffix() -> None:
    zone = zone_of(bank_example="v=DMARC1; p=none; psd=y", giant_bank_example="v=DMARC1; p=quarantine")
    dkim = Dkim("mail.mega.bank.example")
    verdict = await judge(zone, "giant.bank.example", Spf("mail.giant.bank.example"), dkim)
    assert (verdict.result, verdict.spf_aligned, verdict.dkim_aligned) == (DmarcResult.PASS, True, ())
    assert (verdict.organization, verdict.policy_domain) == ("giant.bank.example", "giant.bank.example")
    assert await TreeWalk(zone).organization_of("mail.mega.bank.example") == "mega.bank.example"
    assert (await judge(zone, "giant.bank.example", None, dkim)).policy is Policy.QUARANTINE


# --- §5.3.6: DNS that says nothing ----------------------------------------------------------------


async def test_5_3_6_no_answer_about_the_policy() -> None:
    verdict = await judge(Zone({"_dmarc.example.com": ["TIMEOUT"]}), "mail.example.com", Spf("mail.example.com"))
    assert (verdict.result, verdict.policy) == (DmarcResult.TEMPERROR, Policy.NONE)


async def test_5_3_6_no_answer_about_an_identifier() -> None:
    zone = zone_of(example_com="v=DMARC1; p=reject")
    zone._names["_dmarc.a.example.com"] = ["TIMEOUT"]
    assert (await judge(zone, "example.com", Spf("a.example.com"))).result is DmarcResult.TEMPERROR
    # One that is known to be aligned is enough.
    assert (await judge(zone, "example.com", Spf("a.example.com"), Dkim("b.example.com"))).result is DmarcResult.PASS


async def test_5_3_6_no_answer_whether_the_author_exists() -> None:
    zone = Zone({"_dmarc.example.com": [{"TXT": THREE}], "ill.example.com": ["TIMEOUT"]})
    assert (await judge(zone, "ill.example.com")).result is DmarcResult.TEMPERROR


async def test_a_stranger_with_broken_dns_does_not_keep_a_policy_away() -> None:
    zone = zone_of(example_com="v=DMARC1; p=reject")
    spf, dkim = Spf("evil.test", SpfResult.TEMPERROR), Dkim("evil.test", SignatureResult.TEMPERROR)
    verdict = await judge(zone, "example.com", spf, dkim)
    assert (verdict.result, verdict.policy) == (DmarcResult.FAIL, Policy.REJECT)


async def test_a_check_takes_no_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Zone):
        async def txt(self, name: str) -> list[bytes]:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    monkeypatch.setattr(module, "MAX_SECONDS", 0.0)
    assert (await judge(Silent({}), "example.com")).result is DmarcResult.TEMPERROR


async def test_a_walk_passes_on_what_dns_does_not_say() -> None:
    with pytest.raises(ResolverFault):
        await TreeWalk(Zone({"_dmarc.com": ["TIMEOUT"]})).organization_of("example.com")
