# SPDX-License-Identifier: Apache-2.0
"""Finds and reads the report in a letter, DMARC's or TLS's.

Invariant: time and memory are bounded whatever the letter is (MAX_LETTER, and the limits of unpacking and reading); a
letter that is no report is no fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from posthouse.mail import structure
from posthouse.mail.decoding import UnknownEncodingError, decode
from posthouse.mail.structure import Limits, Part
from posthouse.mail.structure_fields import text_parameter
from posthouse.mailauth.aggregate import AggregateReport, Record
from posthouse.mailauth.aggregate_reader import MAX_XML, read_aggregate
from posthouse.mailauth.tls_report import MAX_JSON, TlsReport, read_tls_report
from posthouse.mailauth.unpacking import ReportFault, unpacked
from posthouse.store.reports_received import Facts, Source

MAX_LETTER = 20 << 20  # octets: RFC 8460 §5.2 has seen limits of ten million, and nobody sends reports beyond
MAX_CANDIDATES = 4  # parts that are unpacked; a report's letter has one
LIMITS = Limits(depth=6, parts=50)  # of the letter's structure that is looked at
MAX_TEXTS = 20  # lines of a policy, overrides, signatures that are kept for display

# RFC 9990 §3.5.2, RFC 8460 §5.3, and what else is seen.
_TYPES = frozenset(
    (b"application", each)
    for each in (b"gzip", b"x-gzip", b"zip", b"x-zip", b"x-zip-compressed", b"xml", b"json", b"octet-stream")
) | {(b"text", b"xml")}
_TLS_TYPES = ((b"application", b"tlsrpt+gzip"), (b"application", b"tlsrpt+json"))
_ENDINGS = (".xml", ".xml.gz", ".gz", ".zip", ".json", ".json.gz")
_MARKS = 3  # exclamation marks in a report's file name

Report = AggregateReport | TlsReport


def read_letter(content: memoryview, subject: bytes) -> Report | None:
    """None: there is no report in it. Raises ReportFault: there should be one, and it cannot be read."""
    is_called_report = subject.strip().lower().startswith(b"report domain:")
    if len(content) > MAX_LETTER:
        if is_called_report:
            raise ReportFault(f"the letter is larger than {MAX_LETTER} octets")
        return None
    fault: ReportFault | None = None
    for part, is_named in _candidates(structure.parse(content, limits=LIMITS)):
        try:
            found = _read(decode(content[part.body.start : part.body.end], part.encoding))
        except (ReportFault, UnknownEncodingError) as error:
            if is_named or is_called_report:
                fault = error if isinstance(error, ReportFault) else ReportFault(f"unknown encoding {error}")
        else:
            if found is not None:
                return found
    if fault is not None:
        raise fault
    return None


def _candidates(letter: Part) -> Iterator[tuple[Part, bool]]:
    """Parts that may be a report, and whether they are called one."""
    count = 0
    for part in letter.walk():
        kind = (part.media, part.subtype)
        name = _name(part)
        is_tls = kind in _TLS_TYPES
        if part.children or not (is_tls or (kind in _TYPES and (name.endswith(_ENDINGS) or not name))):
            continue
        count += 1
        if count > MAX_CANDIDATES:
            return
        yield part, is_tls or name.count("!") >= _MARKS


def _name(part: Part) -> str:
    name = None
    if part.disposition is not None:
        name = text_parameter(part.disposition.parameters, b"filename")
    return (name or text_parameter(part.parameters, b"name") or "").lower()


def _read(octets: bytes) -> Report | None:
    """None: neither XML nor JSON."""
    text = unpacked(octets, MAX_XML)
    match text.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]:
        case b"{":
            if len(text) > MAX_JSON:
                raise ReportFault(f"larger than {MAX_JSON} octets")
            return read_tls_report(text)
        case b"<" | b"\xff" | b"\xfe":
            return read_aggregate(text)
    return None


# --- for the store --------------------------------------------------------------------------------


def dmarc_sources(records: Sequence[Record]) -> list[Source]:
    return [Source(each.facts.source[:64], each.facts.is_pass, each.count, _facts(each)) for each in records]


def _facts(record: Record) -> Facts:
    facts = record.facts
    told: Facts = {
        "disposition": facts.disposition,
        "dkim": "pass" if facts.dkim_aligned else "fail",
        "spf": "pass" if facts.spf_aligned else "fail",
        "header_from": facts.header_from,
        "envelope_from": facts.envelope_from or "",
        "envelope_to": facts.envelope_to,
        "overrides": [f"{each.kind}: {each.comment}".rstrip(": ") for each in facts.overrides[:MAX_TEXTS]],
        "signatures": [
            {"domain": each.domain, "selector": each.selector, "result": each.result, "text": each.text}
            for each in facts.signatures[:MAX_TEXTS]
        ],
    }
    if facts.spf is not None:
        told["spf_domain"], told["spf_result"] = facts.spf.domain, facts.spf.result
    return {name: value for name, value in told.items() if value not in ("", [])}


def dmarc_details(report: AggregateReport) -> Facts:
    policy = report.policy
    told: Facts = {
        "email": report.email,
        "contact": report.contact,
        "errors": list(report.errors),
        "generator": report.generator,
        "p": policy.policy,
        "sp": policy.subdomain_policy,
        "np": policy.missing_policy,
        "adkim": policy.dkim_mode,
        "aspf": policy.spf_mode,
        "fo": policy.failure_options,
        "testing": policy.testing,
        "pct": policy.percentage,
    }
    return {name: value for name, value in told.items() if value not in ("", [])}


def tls_sources(report: TlsReport) -> list[Source]:
    """One for each kind of failure, and one for what went well with each policy."""
    found: list[Source] = []
    for each in report.policies:
        policy: Facts = {"policy": each.kind, "policy_domain": each.domain}
        if each.succeeded:
            found.append(Source("", True, each.succeeded, policy))
        for failure in each.failures:
            told = policy | {
                "result": failure.result,
                "sending_ip": failure.sending_ip,
                "receiving_ip": failure.receiving_ip,
                "receiving_helo": failure.receiving_helo,
                "reason": failure.reason,
                "more": failure.more,
            }
            facts = {name: value for name, value in told.items() if value != ""}
            found.append(Source(failure.receiving_mx, False, failure.count, facts))
        untold = each.failed - sum(failure.count for failure in each.failures)
        if untold > 0:
            found.append(Source("", False, untold, policy | {"result": "not told"}))
    return found


def tls_details(report: TlsReport) -> Facts:
    policies = [
        {"type": each.kind, "domain": each.domain, "text": list(each.text), "mx": list(each.mx_patterns)}
        for each in report.policies[:MAX_TEXTS]
    ]
    return {"contact": report.contact, "policies": policies}
