# SPDX-License-Identifier: Apache-2.0
"""Reads DMARC aggregate reports of anybody: RFC 9990's, RFC 7489's, and what is near enough to be understood.

Invariant: a document type declaration, and with it every entity, is refused before it is read; time and memory are in
proportion to the octets, and elements, depth and records have limits. What a report says is text of a stranger.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from posthouse.mailauth.aggregate import (
    DISPOSITIONS,
    AggregateReport,
    Facts,
    Override,
    PublishedPolicy,
    Record,
    SignatureResult,
    SpfIdentity,
)
from posthouse.mailauth.unpacking import ReportFault, printable

MAX_XML = 16 << 20  # octets; the largest real reports have some ten million
MAX_RECORDS = 50_000  # 25 elements each in some 700 octets
MAX_ELEMENTS = 700_000  # about a second of a processor
MAX_TAG = 256 << 10  # octets of one tag: its attributes, which no report needs, are all in memory at once
CHUNK = 64 << 10  # octets that the parser gets at a time
MAX_DEPTH = 12  # the schema has six
MAX_NAME = 100  # characters of an element's name: each is in the paths of all that is in it
MAX_FIELDS = 100  # different elements of the report, of a record, that are kept; the schemas have under twenty
MAX_TEXT = 1_000  # characters of one element that are kept
MAX_ERRORS = 20
MAX_SIGNATURES = 100  # of one record: RFC 9990 §3.1.3
MAX_OVERRIDES = 20
MAX_DIGITS = 10  # of a count or a time: ten thousand million letters, or the year 2286

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_DECLARED = re.compile(rb"""\s*<\?xml[^>]{0,100}encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")

_ROOT = "feedback"
_TOLD = "report_metadata"
_POLICY = "policy_published"


def read_aggregate(octets: bytes) -> AggregateReport:
    """Raises ReportFault: not XML, not a report, or more than the limits allow."""
    if len(octets) > MAX_XML:
        raise ReportFault(f"larger than {MAX_XML} octets")
    reader = _Reader()
    text, encoding = _cleaned(octets)
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _no_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    try:
        for start in range(0, len(text), CHUNK):
            parser.Parse(text[start : start + CHUNK], False)
            if start + CHUNK - parser.CurrentByteIndex > MAX_TAG:
                raise ReportFault(f"a tag of more than {MAX_TAG} octets")
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        if not reader.is_complete:  # some leave an element around the report open
            raise ReportFault(f"not well-formed XML: {error}") from None
    except (LookupError, ValueError) as error:
        raise error if isinstance(error, ReportFault) else ReportFault(f"not readable XML: {error}") from None
    return reader.report()


def _cleaned(octets: bytes) -> tuple[bytes, str | None]:
    """With octets that are no UTF-8 and characters that no XML may have replaced: a byte in a domain's name is no
    reason to lose a day's report. What declares another encoding is left to the parser."""
    if octets.startswith(_UTF_16):
        return octets, None
    declared = _DECLARED.match(octets.removeprefix(b"\xef\xbb\xbf"))
    if declared is not None and declared[1].lower() not in (b"utf-8", b"us-ascii", b"ascii"):
        return octets, None
    return _CONTROLS.sub("?", octets.decode("utf-8-sig", "replace")).encode("utf-8"), "utf-8"


def _no_doctype(*_: Any) -> None:
    raise ReportFault("it has a document type declaration, which no report needs")


@dataclass(slots=True)
class _Reader:
    """Takes the events. `path`: what is open, each as its whole path below the root. Elements with another prefix than
    the root's are extensions."""

    path: list[str] = field(default_factory=list)
    skipping: int = 0  # open elements of an extension
    elements: int = 0
    prefix: str | None = None
    text: list[str] = field(default_factory=list)
    held: int = 0
    single: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    row: dict[str, str] = field(default_factory=dict)
    part: dict[str, str] = field(default_factory=dict)  # of what occurs several times in a record
    signatures: list[SignatureResult] = field(default_factory=list)
    overrides: list[Override] = field(default_factory=list)
    spf: SpfIdentity | None = None
    is_complete: bool = False

    def start(self, name: str, _: Any) -> None:
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise ReportFault(f"more than {MAX_ELEMENTS} elements")
        if len(name) > MAX_NAME:
            raise ReportFault(f"an element's name of more than {MAX_NAME} characters")
        prefix, _, local = name.rpartition(":") if ":" in name else ("", "", name)
        if self.prefix is None:
            if local == _ROOT:
                self.prefix = prefix
                self.path.append("")
            return
        if self.skipping or prefix != self.prefix or self.is_complete:
            self.skipping += 1
            return
        if len(self.path) >= MAX_DEPTH:
            raise ReportFault(f"elements inside each other, more than {MAX_DEPTH} deep")
        above = self.path[-1]
        self.path.append(f"{above}/{local}" if above else local)
        self.text = []
        self.held = 0

    def data(self, text: str) -> None:
        if not self.skipping and self.held < MAX_TEXT:
            self.text.append(text[: MAX_TEXT - self.held])
            self.held += len(text)

    def end(self, _: str) -> None:
        if self.skipping:
            self.skipping -= 1
            return
        if not self.path:
            return
        where = self.path.pop()
        text = self.text[0] if len(self.text) == 1 else "".join(self.text)
        self.text = []
        self.held = 0
        if where:
            self._take(where, printable(" ".join(text.split())))
        else:
            self.is_complete = True

    def _take(self, where: str, text: str) -> None:
        finish = _ENDS.get(where)
        if finish is not None:
            finish(self)
        elif not where.startswith("record/"):
            if where != f"{_TOLD}/error":
                _note(self.single, where, text)
            elif text and len(self.errors) < MAX_ERRORS:
                self.errors.append(text)
        elif where.startswith(_REPEATED):
            _note(self.part, where.rpartition("/")[2], text)
        else:
            _note(self.row, where.removeprefix("record/"), text)

    def end_signature(self) -> None:
        part = self._part()
        if len(self.signatures) < MAX_SIGNATURES:
            self.signatures.append(
                SignatureResult(
                    part.get("domain", ""),
                    part.get("selector", ""),
                    _word(part, "result"),
                    part.get("human_result", ""),
                )
            )

    def end_spf(self) -> None:
        part = self._part()
        if self.spf is None or _word(part, "scope") == "mfrom":  # RFC 7489 allowed several
            self.spf = SpfIdentity(
                part.get("domain", ""), _word(part, "result"), _word(part, "scope"), part.get("human_result", "")
            )

    def end_override(self) -> None:
        part = self._part()
        if (part.get("type") or part.get("comment")) and len(self.overrides) < MAX_OVERRIDES:
            self.overrides.append(Override(_word(part, "type"), part.get("comment", "")))

    def end_record(self) -> None:
        row, self.row = self.row, {}
        if len(self.records) >= MAX_RECORDS:
            raise ReportFault(f"more than {MAX_RECORDS} records")
        disposition = _word(row, "row/policy_evaluated/disposition")
        facts = Facts(
            source=row.get("row/source_ip", ""),
            disposition=disposition if disposition in DISPOSITIONS else "",
            dkim_aligned=_word(row, "row/policy_evaluated/dkim") == "pass",
            spf_aligned=_word(row, "row/policy_evaluated/spf") == "pass",
            header_from=(row.get("identifiers/header_from") or row.get("identities/header_from", "")).lower(),
            envelope_from=row.get("identifiers/envelope_from"),
            envelope_to=row.get("identifiers/envelope_to", ""),
            overrides=tuple(self.overrides),
            signatures=tuple(self.signatures),
            spf=self.spf,
        )
        self.overrides.clear()
        self.signatures.clear()
        self.spf = None
        self.records.append(Record(_number(row.get("row/count", ""), "a count"), facts))

    def _part(self) -> dict[str, str]:
        part, self.part = self.part, {}
        return part

    def report(self) -> AggregateReport:
        if not self.is_complete:
            raise ReportFault("not a DMARC report: it has no feedback element")
        found = self.single
        if not found.get(f"{_POLICY}/domain"):
            raise ReportFault("it does not say which domain it is about")
        if not found.get(f"{_TOLD}/report_id"):
            raise ReportFault("it has no report_id")
        if not self.records:
            raise ReportFault("it has no record")
        return AggregateReport(
            organization=found.get(f"{_TOLD}/org_name", ""),
            email=found.get(f"{_TOLD}/email", ""),
            report_id=found[f"{_TOLD}/report_id"],
            begin=_number(found.get(f"{_TOLD}/date_range/begin", ""), "the begin of its period"),
            end=_number(found.get(f"{_TOLD}/date_range/end", ""), "the end of its period"),
            policy=_policy(found),
            records=tuple(self.records),
            contact=found.get(f"{_TOLD}/extra_contact_info", ""),
            errors=tuple(self.errors),
            generator=found.get(f"{_TOLD}/generator", ""),
        )


_REPEATED = (
    "record/auth_results/dkim/",
    "record/auth_results/spf/",
    "record/row/policy_evaluated/reason/",
)
_ENDS: dict[str, Callable[[_Reader], None]] = {
    "record/auth_results/dkim": _Reader.end_signature,
    "record/auth_results/spf": _Reader.end_spf,
    "record/row/policy_evaluated/reason": _Reader.end_override,
    "record": _Reader.end_record,
}


def _note(fields: dict[str, str], name: str, text: str) -> None:
    if len(fields) < MAX_FIELDS:
        fields.setdefault(name, text)


def _policy(found: dict[str, str]) -> PublishedPolicy:
    said = {name.rpartition("/")[2]: text for name, text in found.items() if name.startswith(f"{_POLICY}/")}
    return PublishedPolicy(
        domain=said["domain"].lower().rstrip("."),
        policy=_word(said, "p"),
        subdomain_policy=_word(said, "sp"),
        missing_policy=_word(said, "np"),
        dkim_mode=_word(said, "adkim"),
        spf_mode=_word(said, "aspf"),
        failure_options=said.get("fo", ""),
        testing=_word(said, "testing"),
        discovery=_word(said, "discovery_method"),
        percentage=said.get("pct", ""),
    )


def _word(found: dict[str, str], name: str) -> str:
    return found.get(name, "").lower()


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise ReportFault(f"{what} is no number: {text[:40]!r}")
    return int(text)
