# SPDX-License-Identifier: Apache-2.0
"""Whose letter it is: the Author Domains of From, RFC 9989 §5.3.1 and §11.5."""

from __future__ import annotations

import pytest

from posthouse.mail.header import scan_header
from posthouse.mailauth.author import MAX_AUTHORS, Authors, authors_of
from posthouse.mailauth.dmarc import DmarcResult, check_dmarc
from posthouse.mailauth.spf import SpfResult, SpfVerdict
from tests.mailauth.zones import Zone


def authors(*fields: str) -> Authors:
    return authors_of(scan_header("".join(f"{field}\r\n" for field in (*fields, "To: bob@bob.test", "")).encode()))


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        ("ann@alice.test", ("alice.test",)),
        ("Ann <ann@Alice.TEST>", ("alice.test",)),
        ('"ceo@bank.test" <ann@alice.test>', ("alice.test",)),
        ("Ann (at work) <ann@alice.test>", ("alice.test",)),
        ("=?utf-8?q?ceo=40bank=2Etest?= <ann@alice.test>", ("alice.test",)),
        ("Ann\r\n <ann@\r\n alice.test>", ("alice.test",)),
        ("<@bank.test:ann@alice.test>", ("alice.test",)),
        ("ann@bücher.test", ("xn--bcher-kva.test",)),
        ("ann@alice.test, bob@alice.test", ("alice.test",)),
        ("ann@alice.test, Bob <bob@bob.test>", ("alice.test", "bob.test")),
        ("Friends: ann@alice.test, bob@bob.test;", ("alice.test", "bob.test")),
        ("<ann@alice.test> <bob@bob.test>", ("alice.test", "bob.test")),
    ],
)
def test_5_3_1_author_domains(value: str, domains: tuple[str, ...]) -> None:
    assert authors(f"From: {value}") == Authors(domains)


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        ("ceo@bank.test <ann@alice.test>", ("alice.test",)),
        ("<ann@alice.test> ceo@bank.test", ("alice.test",)),
        ("Ann, the one <ann@alice.test>", ("alice.test",)),
        ("ann@alice.test, nobody", ("alice.test",)),
        ("ann@alice.test (unclosed", ("alice.test",)),
    ],
)
def test_11_5_a_from_that_can_be_read_in_several_ways_has_a_problem(value: str, domains: tuple[str, ...]) -> None:
    found = authors(f"From: {value}")
    assert found.problem
    assert set(found.domains) <= {"alice.test", "bank.test"}
    assert set(domains) <= set(found.domains)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ((), "the letter has no From field"),
        (("From:",), "From has no domain"),
        (("From: undisclosed:;",), "From has no domain"),
        (("From: ann@[192.0.2.1]",), "From has no domain"),
        (("From: ann@alice.test", "from : ann@alice.test"), "the letter has 2 From fields"),
        (("From: " + ", ".join(f"a@d{i}.test" for i in range(9)),), f"From has more than {MAX_AUTHORS} domains"),
    ],
)
async def test_4_2_a_letter_that_is_not_from_one_place(fields: tuple[str, ...], problem: str) -> None:
    found = authors(*fields)
    assert found.problem == problem
    assert len(found.domains) <= MAX_AUTHORS
    zone = Zone({f"_dmarc.{domain}": [{"TXT": "v=DMARC1; p=reject"}] for domain in found.domains})
    spf = SpfVerdict(SpfResult.PASS, found.domains[0] if found.domains else "alice.test", "mailfrom")
    verdicts = await check_dmarc(zone, found, spf, ())
    assert verdicts[0].result in (DmarcResult.PERMERROR, DmarcResult.FAIL)
    assert all(verdict.result is not DmarcResult.PASS for verdict in verdicts)


def test_a_header_that_was_not_read_whole_has_a_problem() -> None:
    block = b"From: ann@alice.test\r\n" + b"X: y\r\n" * 3000 + b"\r\n"
    assert authors_of(scan_header(block)).problem


POLICIES = ("reject", "quarantine", "reject")


async def test_11_5_several_author_domains_get_the_strictest_policy_that_fails() -> None:
    zone = Zone({f"_dmarc.{one}.test": [{"TXT": f"v=DMARC1; p={p}"}] for one, p in zip("abc", POLICIES, strict=True)})
    verdicts = await check_dmarc(
        zone, Authors(("a.test", "b.test", "c.test", "d.test")), SpfVerdict(SpfResult.PASS, "a.test", "mailfrom"), ()
    )
    assert [(verdict.author, str(verdict.result), str(verdict.policy)) for verdict in verdicts] == [
        ("c.test", "fail", "reject"),
        ("b.test", "fail", "quarantine"),
        ("d.test", "none", "none"),
        ("a.test", "pass", "none"),
    ]
