# SPDX-License-Identifier: Apache-2.0
"""TLS reports (RFC 8460): the RFC's own, real ones, there and back, and what is no report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.address import parse_address
from posthouse.mailauth import tls_report
from posthouse.mailauth.report_uri import parse_target
from posthouse.mailauth.tls_report import Failure, PolicyResult, TlsReport, read_tls_report, render
from posthouse.mailauth.tlsrpt import MAX_URIS, targets_of
from posthouse.mailauth.unpacking import ReportFault
from posthouse.services.report_reading import read_letter
from tests.mailauth.reports import tls

SAMPLES = Path(__file__).parents[1] / "data" / "reports" / "smtp_tls"


@pytest.mark.parametrize(
    ("name", "organization", "submitter", "succeeded", "failed", "results"),
    [
        (
            "rfc8460.json",
            "Company-X",
            "company-x.example",
            5326,
            303,
            ["certificate-expired", "starttls-not-supported", "validation-failure"],
        ),
        ("mail.ru.json", "Mail.ru", "corp.mail.ru", 0, 1, ["sts-policy-fetch-error"] * 2),
        ("smtp_tls.json", "Example Inc.", "example.com", 0, 3, ["validation-failure"] * 2),
    ],
)
def test_samples(name: str, organization: str, submitter: str, succeeded: int, failed: int, results: list[str]) -> None:
    report = read_tls_report((SAMPLES / name).read_bytes())
    assert (report.organization, report.submitter) == (organization, submitter)
    assert (report.succeeded, report.failed) == (succeeded, failed)
    assert [each.result for policy in report.policies for each in policy.failures] == results
    assert read_tls_report(render(report)) == report


def test_a_real_letter() -> None:
    octets = (SAMPLES / "google.com_smtp_tls_report.eml").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    report = read_letter(memoryview(octets), b"Report Domain: x")
    assert isinstance(report, TlsReport)
    assert report.organization == "Google Inc."


def test_the_schema_is_followed_to_the_letter() -> None:
    """RFC 8460 §4.4."""
    told = json.loads(render(tls("bob.test")))
    assert list(told) == ["organization-name", "date-range", "contact-info", "report-id", "policies"]
    assert told["date-range"] == {"start-datetime": "2027-01-15T00:00:00Z", "end-datetime": "2027-01-15T23:59:59Z"}
    (policy,) = told["policies"]
    assert policy["policy"] == {
        "policy-type": "sts",
        "policy-string": ["version: STSv1", "mode: enforce"],
        "policy-domain": "bob.test",
        "mx-host": ["*.bob.test"],
    }
    assert policy["summary"] == {"total-successful-session-count": 10, "total-failure-session-count": 3}
    assert policy["failure-details"] == [
        {
            "result-type": "certificate-expired",
            "sending-mta-ip": "192.0.2.1",
            "receiving-mx-hostname": "mx.bob.test",
            "receiving-mx-helo": "mx",
            "receiving-ip": "192.0.2.9",
            "failed-session-count": 3,
            "failure-reason-code": "X509_V_ERR",
        }
    ]


def changed(**fields: object) -> bytes:
    told = json.loads(render(tls("bob.test")))
    told.update({name.replace("_", "-"): value for name, value in fields.items()})
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{}",
        b"[]",
        b"{" * 100_000,
        b"\xff{}",
        changed(policies=[]),
        changed(policies=[{}]),
        changed(policies={}),
        changed(report_id=""),
        changed(report_id=7),
        changed(date_range={"start-datetime": "soon", "end-datetime": "later"}),
        changed(policies=[{"policy": {}, "summary": {}}] * 1001),
        changed(policies=[{"policy": {}, "summary": {}, "failure-details": [{}] * 10_001}]),
        b" " * (tls_report.MAX_JSON + 1),
    ],
)
def test_what_is_no_report_is_refused(octets: bytes) -> None:
    with pytest.raises(ReportFault):
        read_tls_report(octets)


def test_what_others_write_a_little_otherwise() -> None:
    policy = {"policy-type": "STS", "policy-string": "one", "policy-domain": "Bob.Test.", "mx-host": "mx.bob.test"}
    summary = {"total-successful-session-count": 1e3, "total-failure-session-count": -1}
    octets = changed(
        policies=[{"policy": policy, "summary": summary, "failure-details": None, "new": {}}],
        contact_info=None,
        date_range={"start-datetime": "2027-01-15T00:00:00", "end-datetime": "2027-01-15T23:59:59.5+00:00"},
    )
    report = read_tls_report(octets)
    assert report.policies == (PolicyResult("sts", "bob.test", ("one",), ("mx.bob.test",), 1000, 0),)
    assert report.submitter == ""
    assert (report.begin, report.end) == (tls("bob.test").begin, tls("bob.test").end)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0591-01-15T23:59:59Z", 0),
        ("9999-12-31T23:59:59-23:59", 253_402_300_799),
        ("2027-01-15T01:00:00+01:00", 1_799_971_200),
    ],
)
def test_times_that_no_report_is_about(said: str, seconds: int) -> None:
    report = read_tls_report(changed(date_range={"start-datetime": said, "end-datetime": said}))
    assert report.begin == seconds
    assert read_tls_report(render(report)) == report


_TEXT = st.text(max_size=30).map(lambda text: " ".join("".join(c if c.isprintable() else "?" for c in text).split()))
_COUNT = st.integers(0, 10**9)
_FAILURES = st.builds(Failure, st.sampled_from(["validation-failure", "tlsa-invalid"]), _COUNT, *[_TEXT] * 6)
_LINES = st.lists(_TEXT, max_size=3).map(tuple)
_POLICIES = st.builds(
    PolicyResult,
    st.sampled_from(tls_report.POLICY_TYPES),
    st.just("bob.test"),
    _LINES,
    _LINES,
    _COUNT,
    _COUNT,
    st.lists(_FAILURES, max_size=3).map(tuple),
)


@given(
    st.builds(
        TlsReport,
        _TEXT,
        _TEXT,
        st.just("1@a.test"),
        st.integers(0, 4_000_000_000),
        st.integers(0, 4_000_000_000),
        st.lists(_POLICIES, min_size=1, max_size=3).map(tuple),
    )
)
def test_there_and_back(report: TlsReport) -> None:
    assert read_tls_report(render(report)) == report


# --- the record (§3) ------------------------------------------------------------------------------

MAILTO = parse_address("reports@example.com")


@pytest.mark.parametrize(
    ("texts", "targets"),
    [
        ([b"v=TLSRPTv1;rua=mailto:reports@example.com"], (MAILTO,)),
        ([b"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt"], ("https://reporting.example.com/v1/tlsrpt",)),
        (
            [b"v=TLSRPTv1 ; rua=mailto:reports@example.com , https://r.example/x ; new=1 ;"],
            (MAILTO, "https://r.example/x"),
        ),
        ([b"v=TLSRPTv1; new.field=2; rua=mailto:reports@example.com"], (MAILTO,)),
        ([b"v=spf1 -all", b"v=TLSRPTv1;rua=mailto:reports@example.com"], (MAILTO,)),
        ([b"v=TLSRPTv1;rua=mailto:a@b.test", b"v=TLSRPTv1;rua=mailto:reports@example.com"], ()),
        ([b"v=TLSRPTv2;rua=mailto:reports@example.com"], ()),
        ([b"v=tlsrptv1;rua=mailto:reports@example.com"], ()),
        ([b"v=TLSRPTv1"], ()),
        ([b"v=TLSRPTv1;rua="], ()),
        ([b"v=TLSRPTv1;rua=ftp://a.test/,mailto:nobody,https://,https://u:p@a.test/,http://a.test/"], ()),
        ([b"v=TLSRPTv1;rua=mailto:reports%40example.com"], (MAILTO,)),
        ([b"v=TLSRPTv1;rua=mailto:reports@example.com?subject=x&bcc=victim@b.test"], (MAILTO,)),
        ([b"v=TLSRPTv1;rua=mailto:reports@example.com;rua=https://a.test/"], (MAILTO, "https://a.test/")),
        ([], ()),
        ([b"\xff\xfe"], ()),
    ],
)
def test_records(texts: list[bytes], targets: tuple[object, ...]) -> None:
    assert targets_of(texts) == targets


def test_a_record_asks_for_few_reports() -> None:
    uris = b",".join(b"mailto:r%d@example.com" % number for number in range(1000))
    assert len(targets_of([b"v=TLSRPTv1; rua=" + uris])) == MAX_URIS


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1",
        "[::1]",
        "[2001:db8::1]:443",
        "127.1",
        "0x7f.1",
        "2130706433",
        "localhost",
        "a.0x7f",
        "a..b",
        "-.test",
    ],
)
def test_reports_go_to_names_alone(host: str) -> None:
    """A number, however it is written, may be a machine of our own network."""
    assert parse_target(f"https://{host}/x") is None
    assert parse_target("https://reports.example:8443/x") == "https://reports.example:8443/x"


@given(st.text(max_size=60))
def test_any_uri_is_a_target_or_none(text: str) -> None:
    for uri in (text, f"mailto:{text}", f"https://{text}"):
        found = parse_target(uri)
        assert found is None or isinstance(found, str) or found.local_part
