# SPDX-License-Identifier: Apache-2.0
"""Reports of another server, for tests: as values and as letters."""

from __future__ import annotations

import gzip

from posthouse.mail.address import parse_address
from posthouse.mail.report_letter import ReportLetter, dmarc_letter, tls_letter
from posthouse.mailauth import aggregate_writer, tls_report
from posthouse.mailauth.aggregate import (
    AggregateReport,
    Facts,
    Override,
    PublishedPolicy,
    Record,
    SignatureResult,
    SpfIdentity,
)
from posthouse.mailauth.tls_report import Failure, PolicyResult, TlsReport

BEGIN = 1_799_971_200
END = BEGIN + 86_399


def aggregate(domain: str, ident: str = "2027-01-15_x@reporter.test") -> AggregateReport:
    good = Facts(
        source="192.0.2.7",
        disposition="pass",
        dkim_aligned=True,
        spf_aligned=False,
        header_from=domain,
        envelope_from="",
        envelope_to="reporter.test",
        signatures=(SignatureResult(domain, "s1", "pass"), SignatureResult("other.test", "s2", "fail", "no <key>")),
        spf=SpfIdentity("mx.other.test", "softfail", "mfrom", "matched ~all"),
    )
    forged = Facts(
        source="192.0.2.99",
        disposition="none",
        dkim_aligned=False,
        spf_aligned=False,
        header_from=f"sub.{domain}",
        envelope_from="evil.test",
        overrides=(Override("local_policy", "a setting says so & more"), Override("policy_test_mode")),
        spf=SpfIdentity("evil.test", "pass", "mfrom"),
    )
    policy = PublishedPolicy(domain, "quarantine", "reject", "reject", "r", "s", "1:d", "y", "treewalk")
    return AggregateReport(
        "Reporter",
        "postmaster@reporter.test",
        ident,
        BEGIN,
        END,
        policy,
        (Record(7, good), Record(2, forged)),
        contact="https://reporter.test/",
        errors=("tag x is odd",),
        generator="reporter 1",
    )


def tls(domain: str) -> TlsReport:
    failure = Failure("certificate-expired", 3, "192.0.2.1", f"mx.{domain}", "mx", "192.0.2.9", "X509_V_ERR")
    policy = PolicyResult("sts", domain, ("version: STSv1", "mode: enforce"), (f"*.{domain}",), 10, 3, (failure,))
    return TlsReport("Reporter", "tls@reporter.test", "1@reporter.test", BEGIN, END, (policy,))


def _letter(sender: str, domain: str, document: bytes, ident: str) -> ReportLetter:
    return ReportLetter(
        parse_address(sender),
        "Reporter",
        parse_address(f"dmarc-reports@{domain}"),
        domain,
        ident,
        BEGIN,
        END,
        gzip.compress(document, mtime=0),
        END + 3600.0,
        "=_boundary",
    )


def dmarc_letter_of(domain: str, sender: str, report_id: str = "2027-01-15_x@reporter.test") -> bytes:
    report = aggregate(domain, report_id)
    return dmarc_letter(_letter(sender, domain, aggregate_writer.render(report), report.report_id), "1@reporter.test")


def tls_letter_of(domain: str, sender: str) -> bytes:
    report = tls(domain)
    return tls_letter(_letter(sender, domain, tls_report.render(report), report.report_id), "2@reporter.test")
