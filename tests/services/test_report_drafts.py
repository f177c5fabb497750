# SPDX-License-Identifier: Apache-2.0
"""Drafts of reports: what is left out of one that would be too large, and how TLS results are put together."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from posthouse.mail.address import parse_address
from posthouse.mailauth.aggregate import Facts
from posthouse.mailauth.aggregate_reader import read_aggregate
from posthouse.mailauth.tls_report import Failure, PolicyResult
from posthouse.services import dmarc_reporting
from posthouse.services.dmarc_reporting import DmarcReporting
from posthouse.services.dmarc_tally import pack_facts
from posthouse.services.report_draft import Draft, Sender, compressed
from posthouse.services.tls_reporting import TlsReporting, policies_of
from posthouse.store import dmarc_counts
from posthouse.store.dmarc_counts import Counted
from posthouse.store.tls_days import TlsCount
from tests.fakes import FakeResolver
from tests.services.world import InlineWorkers
from tests.store.plain_database import PlainDatabase

SENDER = Sender(parse_address("postmaster@here.test"), "Here", is_signed=True)
DAY = 20_000
TAGS = ("far.test", "reject", "reject", "none", "r", "s", "0", "n")
RUA = ("mailto:r@far.test",)


def facts(number: int) -> bytes:
    return pack_facts(Facts(f"192.0.2.{number}", "none", False, True, "far.test"))


async def draft_of(*counted: Counted, rua: tuple[str, ...] = RUA, problems: tuple[str, ...] = (), **more: Any) -> Draft:
    database = PlainDatabase()
    await database.write(lambda tx: dmarc_counts.add(tx, DAY, "far.test", (TAGS, rua, problems), counted))
    reporting = DmarcReporting(database, FakeResolver(), InlineWorkers(), **more)
    draft = await reporting.draft(DAY, "far.test", SENDER)
    assert await reporting.days(DAY + 1, (-1, "")) == [(DAY, "far.test")]
    await database.write(draft.forget)
    assert await reporting.days(DAY + 1, (-1, "")) == []
    return draft


async def test_a_draft_holds_all_that_was_counted() -> None:
    draft = await draft_of(Counted(facts(1), 3, 3), Counted(facts(2), 5, 5), problems=("tag x is odd",))
    assert (draft.letters, draft.records, [str(each) for each in draft.addresses]) == (8, 2, ["r@far.test"])
    assert gzip.decompress(draft.document) == draft.text
    assert draft.document == compressed(draft.text), "sent again it is the same file"
    report = read_aggregate(draft.text)
    assert [(each.count, each.facts.source) for each in report.records] == [(5, "192.0.2.2"), (3, "192.0.2.1")]
    assert report.errors == ("tag x is odd",)
    assert (report.report_id, report.organization) == ("2024-10-04_far.test@here.test", "Here")
    assert (report.policy.policy, report.policy.missing_policy, report.policy.spf_mode) == ("reject", "none", "s")


async def test_what_would_be_too_large_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = [Counted(facts(number), number, number) for number in range(1, 101)]
    whole = await draft_of(*counted)
    monkeypatch.setattr(dmarc_reporting, "MAX_DOCUMENT", len(whole.document) - 1)
    draft = await draft_of(*counted)
    report = read_aggregate(draft.text)
    assert [each.count for each in report.records] == list(range(100, 50, -1)), "the rarest are left out"
    assert report.errors == (f"{sum(range(1, 51))} letters are left out: the report would be too large",)
    assert report.passed + sum(range(1, 51)) == draft.letters


@pytest.mark.parametrize(
    ("counted", "more", "skipped"),
    [
        ([Counted(facts(1), 3, 0)], {}, "nothing but reports came"),
        ([Counted(facts(1), 3, 3)], {"exclude": ["far.test"]}, "a setting excludes the domain"),
        ([Counted(facts(1), 3, 3)], {"rua": ("https://far.test/",)}, "nobody may get it"),
    ],
)
async def test_when_nobody_gets_one(counted: list[Counted], more: Any, skipped: str) -> None:
    draft = await draft_of(*counted, **more)
    assert draft.skipped == skipped
    assert draft.addresses == ()
    assert draft.text == b""


def count(kind: str, result: str, number: int, mx: str = "mx.far.test") -> TlsCount:
    text = {"sts": "version: STSv1\nmode: enforce", "tlsa": "3 1 1 ab\n3 1 1 cd"}.get(kind, "")
    return TlsCount(kind, text, "*.far.test" if kind == "sts" else "", result, "192.0.2.1", mx, "", "", "", number)


def test_results_stand_under_their_policy() -> None:
    """RFC 8460 §4: one entry for each policy that was met."""
    counts = [count("sts", "", 9), count("tlsa", "tlsa-invalid", 4), count("sts", "certificate-expired", 2)]
    assert policies_of("far.test", counts) == (
        PolicyResult(
            "sts",
            "far.test",
            ("version: STSv1", "mode: enforce"),
            ("*.far.test",),
            9,
            2,
            (Failure("certificate-expired", 2, "192.0.2.1", "mx.far.test"),),
        ),
        PolicyResult(
            "tlsa",
            "far.test",
            ("3 1 1 ab", "3 1 1 cd"),
            (),
            0,
            4,
            (Failure("tlsa-invalid", 4, "192.0.2.1", "mx.far.test"),),
        ),
    )


async def test_without_a_signature_no_tls_report_goes_by_mail() -> None:
    database, dns = PlainDatabase(), FakeResolver()
    dns.text("_smtp._tls.far.test", b"v=TLSRPTv1; rua=mailto:a@[10.0.0.1],mailto:tls@far.test,https://far.test/")
    await database.write(
        lambda tx: tx.run(
            "INSERT INTO tls_result (day, policy_domain, policy_type, policy_text, mx_patterns, result, sending_ip,"
            " receiving_mx, receiving_helo, receiving_ip, reason, count) VALUES (:day, 'far.test', 'sts', '', '', '',"
            " '', '', '', '', '', 3)",
            day=DAY,
        )
    )
    signed = await TlsReporting(database, dns, InlineWorkers()).draft(DAY, "far.test", SENDER)
    assert [str(each) for each in signed.addresses] == ["tls@far.test"], "none by number: it may be in our own network"
    unsigned = Sender(SENDER.address, "Here", is_signed=False)
    draft = await TlsReporting(database, dns, InlineWorkers()).draft(DAY, "far.test", unsigned)
    assert (draft.addresses, draft.urls) == ((), ("https://far.test/",))
    assert "no DKIM key" in draft.refused[0][1]
    excluded = await TlsReporting(database, dns, InlineWorkers(), exclude=["far.test"]).draft(DAY, "far.test", SENDER)
    assert excluded.skipped == "a setting excludes the domain"
