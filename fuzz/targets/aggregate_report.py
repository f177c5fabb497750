# SPDX-License-Identifier: Apache-2.0
"""DMARC reports of anybody, packed or not: a report with text that can be shown and stored, or a fault."""

from __future__ import annotations

from posthouse.mailauth.aggregate import AggregateReport
from posthouse.mailauth.aggregate_reader import MAX_OVERRIDES, MAX_SIGNATURES, MAX_TEXT, read_aggregate
from posthouse.mailauth.aggregate_writer import render
from posthouse.mailauth.unpacking import ReportFault, unpacked

DICTIONARY = "reports.dict"
LIMIT = 1 << 20


def target(data: bytes) -> None:
    try:
        report = read_aggregate(unpacked(data, LIMIT))
    except ReportFault:
        return
    _check(report)
    again = read_aggregate(render(report))
    assert (again.passed, again.failed, again.report_id[:100]) == (report.passed, report.failed, report.report_id[:100])
    assert [each.count for each in again.records] == [each.count for each in report.records]


def _check(report: AggregateReport) -> None:
    assert report.records
    assert report.policy.domain
    texts = [report.organization, report.email, report.report_id, report.contact, *report.errors]
    for record in report.records:
        facts = record.facts
        assert record.count >= 0
        assert len(facts.signatures) <= MAX_SIGNATURES
        assert len(facts.overrides) <= MAX_OVERRIDES
        texts += [facts.source, facts.header_from, facts.envelope_from or "", facts.envelope_to]
        texts += [text for each in facts.signatures for text in (each.domain, each.selector, each.result, each.text)]
    for text in texts:
        assert text.isprintable()
        assert len(text) <= MAX_TEXT
        text.encode()
