# SPDX-License-Identifier: Apache-2.0
"""TLS reports of anybody: values that are written and read again, or a fault."""

from __future__ import annotations

from posthouse.mailauth.tls_report import MAX_LINES, MAX_TEXT, read_tls_report, render
from posthouse.mailauth.unpacking import ReportFault

DICTIONARY = "reports.dict"


def target(data: bytes) -> None:
    try:
        report = read_tls_report(data)
    except ReportFault:
        return
    texts = [report.organization, report.contact, report.report_id, report.submitter]
    for policy in report.policies:
        assert len(policy.text) <= MAX_LINES
        assert policy.succeeded >= 0
        assert policy.failed >= 0
        texts += [policy.domain, policy.kind, *policy.text, *policy.mx_patterns]
        texts += [text for each in policy.failures for text in (each.result, each.receiving_mx, each.reason)]
    for text in texts:
        assert text.isprintable()
        assert len(text) <= MAX_TEXT
        text.encode()
    assert read_tls_report(render(report)) == report
