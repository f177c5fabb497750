# SPDX-License-Identifier: Apache-2.0
"""DMARC aggregate reports as XML (RFC 9990 appendix A).

Invariant: whatever the values hold (domains of strangers do), what is written is well-formed and follows the schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

from posthouse.mailauth.aggregate import AggregateReport, Facts, PublishedPolicy, Record

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"  # RFC 9990 §6.1
VERSION = "1.0"  # as in RFC 9990 appendix B
MAX_TEXT = 500  # characters of one text: RFC 9990 §3.1.5 asks for terse ones

# XML 1.0 §2.2: everything else may not occur, not even as a reference.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: AggregateReport) -> bytes:
    """The document, in UTF-8. The report must have a record (RFC 9990 §3.1.1.2)."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<feedback xmlns="{NAMESPACE}">', _text("version", VERSION)]
    lines += _metadata(report)
    lines += _policy(report.policy)
    for record in report.records:
        lines += _record(record)
    lines.append("</feedback>\n")
    return "\n".join(lines).encode("utf-8")


def _text(name: str, value: str) -> str:
    return f"<{name}>{escape(_NOT_XML.sub('?', value[:MAX_TEXT]))}</{name}>"


def _optional(name: str, value: str) -> list[str]:
    return [_text(name, value)] if value else []


def _metadata(report: AggregateReport) -> Iterator[str]:
    yield "<report_metadata>"
    yield _text("org_name", report.organization)
    yield _text("email", report.email)
    yield from _optional("extra_contact_info", report.contact)
    yield _text("report_id", report.report_id)
    yield f"<date_range><begin>{report.begin}</begin><end>{report.end}</end></date_range>"
    yield from _optional("error", "; ".join(report.errors))
    yield from _optional("generator", report.generator)
    yield "</report_metadata>"


def _policy(policy: PublishedPolicy) -> Iterator[str]:
    yield "<policy_published>"
    yield _text("domain", policy.domain)
    yield from _optional("discovery_method", policy.discovery)
    yield _text("p", policy.policy)
    yield from _optional("sp", policy.subdomain_policy)
    yield from _optional("np", policy.missing_policy)
    yield from _optional("fo", policy.failure_options)
    yield from _optional("adkim", policy.dkim_mode)
    yield from _optional("aspf", policy.spf_mode)
    yield from _optional("testing", policy.testing)
    yield "</policy_published>"


def _record(record: Record) -> Iterator[str]:
    facts = record.facts
    yield "<record>"
    yield f"<row>{_text('source_ip', facts.source)}<count>{record.count}</count>"
    yield "<policy_evaluated>"
    yield _text("disposition", facts.disposition)
    yield _text("dkim", "pass" if facts.dkim_aligned else "fail")
    yield _text("spf", "pass" if facts.spf_aligned else "fail")
    for override in facts.overrides:
        yield f"<reason>{_text('type', override.kind)}{''.join(_optional('comment', override.comment))}</reason>"
    yield "</policy_evaluated></row>"
    yield "<identifiers>"
    yield _text("header_from", facts.header_from)
    if facts.envelope_from is not None:
        yield _text("envelope_from", facts.envelope_from)
    yield from _optional("envelope_to", facts.envelope_to)
    yield "</identifiers>"
    yield from _results(facts)
    yield "</record>"


def _results(facts: Facts) -> Iterator[str]:
    yield "<auth_results>"
    for each in facts.signatures:
        yield "<dkim>" + _text("domain", each.domain) + _text("selector", each.selector) + _text("result", each.result)
        yield from _optional("human_result", each.text)
        yield "</dkim>"
    if facts.spf is not None:
        yield "<spf>" + _text("domain", facts.spf.domain)
        yield from _optional("scope", facts.spf.scope)
        yield _text("result", facts.spf.result)
        yield from _optional("human_result", facts.spf.text)
        yield "</spf>"
    yield "</auth_results>"
