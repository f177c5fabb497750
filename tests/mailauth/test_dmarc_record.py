# SPDX-License-Identifier: Apache-2.0
"""DMARC records: RFC 9989 §4.7, §4.8 and appendix B.2, and what was written for RFC 7489."""

from __future__ import annotations

import pytest

from posthouse.mailauth.dmarc_record import MAX_RECORD, MAX_TAGS, MAX_URIS, DmarcRecord, Policy, parse_record


def record_of(text: str) -> DmarcRecord:
    record = parse_record(text.encode())
    assert record is not None
    return record


# --- §4.7 and §4.8: the record --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "v=DMARC1; p=none",
        "v=DMARC1;p=none;",
        "V = DMARC1 ; p = none",
        "v=DMARC1; P=NONE",
        " v=DMARC1\t;\tp=none\t;",
        "v=DMARC1; future=x; p=none",
        "v=DMARC1; p=none; rf=afrf; ri=86400; pct=100",  # RFC 7489
    ],
)
def test_4_8_ways_to_write_the_same(text: str) -> None:
    assert record_of(text) == DmarcRecord(policy=Policy.NONE)


@pytest.mark.parametrize(
    "text",
    ["", "p=none; v=DMARC1", "v=dmarc1; p=none", "v=DMARC2; p=none", "v=DMARC1 p=none", "v=spf1 -all", "=;", "v"],
)
def test_4_7_without_its_version_first_it_is_no_record(text: str) -> None:
    assert parse_record(text.encode()) is None


def test_4_7_every_tag() -> None:
    record = record_of(
        "v=DMARC1; p=reject; sp=quarantine; np=none; adkim=s; aspf=s; psd=n; t=y; fo=1:d:s; "
        "rua=mailto:a@example.com!10m, https://example.com/r?x=1; ruf=mailto:b@example.com"
    )
    assert record == DmarcRecord(
        policy=Policy.REJECT,
        subdomain_policy=Policy.QUARANTINE,
        missing_policy=Policy.NONE,
        strict_dkim=True,
        strict_spf=True,
        psd="n",
        is_test=True,
        rua=("mailto:a@example.com", "https://example.com/r?x=1"),
        ruf=("mailto:b@example.com",),
        fo=("1", "d", "s"),
    )


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ("adkim=x", "tag adkim has no known value"),
        ("aspf=", "tag aspf has no known value"),
        ("psd=yes", "tag psd has no known value"),
        ("t=1", "tag t has no known value"),
        ("fo=0:1; ruf=mailto:a@b.test", "tag fo has no known value"),
        ("fo=d:d; ruf=mailto:a@b.test", "tag fo has no known value"),
        ("rua=nobody", "tag rua has something that is no URI"),
        ("p=reject", "tag p stands there twice; the first counts"),
        ("???", "something that is no tag was left out"),
        ("a-b=c", "something that is no tag was left out"),
        ("ruf=mailto:a@b.test!10x", "tag ruf has something that is no URI"),
    ],
)
def test_4_8_what_cannot_be_read_has_its_default_and_is_told(tags: str, problem: str) -> None:
    record = record_of(f"v=DMARC1; p=none; {tags}")
    assert record.problems == (problem,)
    assert (record.policy, record.strict_dkim, record.strict_spf, record.psd, record.is_test, record.fo) == (
        Policy.NONE,
        False,
        False,
        "u",
        False,
        ("0",),
    )


def test_4_7_failure_options_count_only_with_addresses_for_them() -> None:
    assert record_of("v=DMARC1; p=none; fo=1").fo == ("0",)
    assert record_of("v=DMARC1; p=none; fo=1; ruf=mailto:a@b.test").fo == ("1",)


def test_a_6_test_mode_is_what_pct_0_was() -> None:
    """And any other share of RFC 7489 is all: the tag is gone."""
    assert record_of("v=DMARC1; p=reject; pct=0").is_test
    assert not record_of("v=DMARC1; p=reject; pct=10").is_test
    assert not record_of("v=DMARC1; p=reject; pct=0; t=n").is_test


def test_records_have_an_end() -> None:
    uris = ",".join(f"mailto:a{i}@b.test" for i in range(MAX_URIS + 5))
    record = record_of(f"v=DMARC1; p=none; rua={uris}")
    assert len(record.rua) == MAX_URIS
    assert record.problems == (f"only the first {MAX_URIS} URIs of rua were read",)
    many = record_of("v=DMARC1; " + "; ".join(f"x{'y' * i}=1" for i in range(MAX_TAGS)) + "; p=none")
    assert f"only the first {MAX_TAGS} tags were read" in many.problems
    assert "only the first" in record_of("v=DMARC1; p=none; x=" + "y" * MAX_RECORD).problems[0]


@pytest.mark.parametrize("p", ["none", "quarantine", "reject"])
@pytest.mark.parametrize("sp", ["", "none", "quarantine", "reject"])
@pytest.mark.parametrize("np", ["", "none", "quarantine", "reject"])
def test_4_7_p_sp_np(p: str, sp: str, np: str) -> None:
    """Each falls back on the one before."""
    record = record_of(f"v=DMARC1; p={p}" + (f"; sp={sp}" if sp else "") + (f"; np={np}" if np else ""))
    assert record.policy_for(is_subdomain=False) == p
    assert record.policy_for(is_subdomain=True) == (sp or p)
    assert record.policy_for(is_subdomain=True, exists=False) == (np or sp or p)


# --- appendix B -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "text", "record"),
    [
        (
            "B.2.1",
            "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com",
            DmarcRecord(policy=Policy.NONE, rua=("mailto:dmarc-feedback@example.com",)),
        ),
        (
            "B.2.2",
            "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com; ruf=mailto:auth-reports@example.com",
            DmarcRecord(
                policy=Policy.NONE,
                rua=("mailto:dmarc-feedback@example.com",),
                ruf=("mailto:auth-reports@example.com",),
            ),
        ),
        (
            "B.2.3",
            "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com; ruf=mailto:auth-reports@thirdparty.example.net",
            DmarcRecord(
                policy=Policy.NONE,
                rua=("mailto:dmarc-feedback@example.com",),
                ruf=("mailto:auth-reports@thirdparty.example.net",),
            ),
        ),
        (
            "B.2.3, the third party's",
            "v=DMARC1;",
            DmarcRecord(policy=Policy.NONE, is_usable=False, problems=("tag p is missing",)),
        ),
        (
            "B.2.4",
            "v=DMARC1; rua=mailto:aggregate@thirdparty.example.net; ruf=mailto:failure@thirdparty.example.net",
            DmarcRecord(
                policy=Policy.NONE,
                rua=("mailto:aggregate@thirdparty.example.net",),
                ruf=("mailto:failure@thirdparty.example.net",),
                problems=("tag p is missing",),
            ),
        ),
        (
            "B.2.5, testing",
            "v=DMARC1; p=quarantine; rua=mailto:dmarc-feedback@example.com,mailto:tld-test@thirdparty.example.net; t=y",
            DmarcRecord(
                policy=Policy.QUARANTINE,
                rua=("mailto:dmarc-feedback@example.com", "mailto:tld-test@thirdparty.example.net"),
                is_test=True,
            ),
        ),
        (
            "B.2.5, tested",
            "v=DMARC1; p=reject; rua=mailto:dmarc-feedback@example.com,mailto:tld-test@thirdparty.example.net",
            DmarcRecord(
                policy=Policy.REJECT,
                rua=("mailto:dmarc-feedback@example.com", "mailto:tld-test@thirdparty.example.net"),
            ),
        ),
    ],
)
def test_b_2_records(section: str, text: str, record: DmarcRecord) -> None:
    assert record_of(text) == record, section
