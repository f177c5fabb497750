# SPDX-License-Identifier: Apache-2.0
"""DMARC aggregate reports, read and written: RFC 9990's and RFC 7489's, real ones, and what attackers send."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.mail import structure
from posthouse.mail.decoding import decoded
from posthouse.mailauth import aggregate_reader
from posthouse.mailauth.aggregate import (
    AggregateReport,
    Facts,
    Override,
    PublishedPolicy,
    Record,
    SignatureResult,
    SpfIdentity,
)
from posthouse.mailauth.aggregate_reader import MAX_DEPTH, MAX_TEXT, read_aggregate
from posthouse.mailauth.aggregate_writer import NAMESPACE, render
from posthouse.mailauth.unpacking import ReportFault, unpacked
from posthouse.services.report_reading import read_letter
from tests.mailauth.reports import aggregate

SAMPLES = Path(__file__).parents[1] / "data" / "reports"
LIMIT = 32 << 20


def sample(name: str) -> AggregateReport:
    return read_aggregate(unpacked((SAMPLES / name).read_bytes(), LIMIT))


def letter_of(name: str) -> AggregateReport:
    octets = (SAMPLES / "aggregate" / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    found = read_letter(memoryview(octets), b"Report Domain: x")
    assert isinstance(found, AggregateReport)
    return found


# --- real reports ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "organization", "domain", "records", "passed", "failed"),
    [
        ("addisonfoods.com_example.com_1536105600_1536191999.xml", "addisonfoods.com", "example.com", 1, 0, 1),
        ("empty_reason.xml", "example.org", "example.com", 1, 2, 0),
        (
            "estadocuenta1.infonacot.gob.mx_example.com_1536853302_1536939702_2940.xml.zip",
            "XYZ Corporation",
            "example.com",
            1,
            0,
            1,
        ),
        ("example.com_1538204542_1538463818.xml", "", "example.com", 1, 0, 1),
        ("example.net_example.com_1529366400_1529452799.xml", "example.net", "example.com", 1, 0, 1),
        ("fastmail.com_example.com_1516060800_1516147199_102675056.xml.gz", "FastMail Pty Ltd", "indemed.com", 1, 0, 1),
        ("ikea.com_example.de_1538690400_1538776800.xml", "ikea.com", "example.de", 1, 0, 1),  # an open element around
        ("invalid_utf_8.xml", "", "example.com", 1, 0, 1),
        ("large-example.com_1711897200_1711983600.xml.gz", "", "example.com", 2286, 0, 2286),
        ("old_draft_from_wiki.xml", "acme.com", "example.com", 1, 2, 0),
        ("protection.outlook.com_example.com_1711756800_1711843200.xml", "Outlook.com", "example.com", 1, 0, 1),
        ("rfc9990-example.net_example.com_1700000000_1700086399.xml", "example.net", "example.com", 2, 5, 2),
        ("rfc9990-sample.xml", "Sample Reporter", "example.com", 1, 123, 0),
        ("usssa.com_example.com_1538784000_1538870399.xml", "usssa.com", "example.com", 2, 0, 2),
        ("veeam.com_example.com_1530133200_1530219600.xml", "veeam.com", "example.com", 1, 0, 1),
    ],
)
def test_real_reports_are_read(
    name: str, organization: str, domain: str, records: int, passed: int, failed: int
) -> None:
    report = sample(f"aggregate/{name}")
    assert (report.organization, report.policy.domain) == (organization, domain)
    assert (len(report.records), report.passed, report.failed) == (records, passed, failed)


@pytest.mark.parametrize(
    ("name", "organization"),
    [
        ("Report-domain-borschow.com-Submitter-google.com-Report-ID-949348866075514174.eml", "google.com"),
        ("mimecast-weird-gzip.eml", "Mimecast"),  # something stands behind the end of its gzip stream
        ("twilight.eml", "google.com"),
    ],
)
def test_real_letters_are_read(name: str, organization: str) -> None:
    assert letter_of(name).organization == organization


def test_what_is_not_well_formed_is_refused() -> None:
    """RFC 9990 §3.1.1: the report is to be discarded; a bare `<address>` leaves open what is meant."""
    with pytest.raises(ReportFault, match="not well-formed"):
        sample("aggregate/invalid_xml.xml")
    with pytest.raises(ReportFault):
        sample("empty.xml")


def test_result_words_are_read_without_case() -> None:
    report = sample("aggregate_invalid/report_with_upper_cased_pass.xml")
    assert (report.passed, report.failed) == (1, 0)


def test_a_report_is_the_same_however_it_is_packed() -> None:
    plain, *packed = (sample(f"extract_report/nice-input.xml{ending}") for ending in ("", ".gz", ".zip"))
    assert packed == [plain, plain]
    assert sample("extract_report/changed-input.xml") != plain


def test_all_of_rfc_9990s_is_read() -> None:
    report = sample("aggregate/rfc9990-example.net_example.com_1700000000_1700086399.xml")
    policy = report.policy
    assert (policy.policy, policy.subdomain_policy, policy.missing_policy) == ("reject", "quarantine", "reject")
    assert (policy.dkim_mode, policy.spf_mode, policy.testing, policy.discovery) == ("s", "s", "y", "treewalk")
    assert report.records[0].facts.signatures == (SignatureResult("example.com", "selector1", "pass"),)
    assert report.records[0].facts.spf == SpfIdentity("example.com", "pass", "mfrom")
    assert report.records[1].facts.disposition == "reject"
    assert report.records[1].facts.overrides


# --- what attackers send --------------------------------------------------------------------------

WHOLE = render(aggregate("alice.test")).decode()


def with_text(place: str, text: str) -> bytes:
    assert WHOLE.count(place) == 1
    return WHOLE.replace(place, text).encode()


LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(10))


@pytest.mark.parametrize(
    "head",
    [
        f'<!DOCTYPE feedback [<!ENTITY l0 "ha">{LAUGHS}]>',
        '<!DOCTYPE feedback [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE feedback SYSTEM "http://evil.test/x.dtd">',
        "<!DOCTYPE feedback>",
    ],
)
def test_no_document_type_no_entities(head: str) -> None:
    octets = with_text('<?xml version="1.0" encoding="UTF-8"?>', f'<?xml version="1.0"?>{head}')
    with pytest.raises(ReportFault, match="document type"):
        read_aggregate(octets.replace(b"<org_name>Reporter", b"<org_name>&l10;&x;"))


def test_an_entity_that_nobody_has_declared_is_not_well_formed() -> None:
    with pytest.raises(ReportFault, match="well-formed"):
        read_aggregate(with_text("<org_name>Reporter", "<org_name>&evil;"))


def test_depth_elements_and_records_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReportFault, match="deep"):
        read_aggregate(b"<feedback>" + b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH + b"</feedback>")
    monkeypatch.setattr(aggregate_reader, "MAX_ELEMENTS", 50)
    with pytest.raises(ReportFault, match="more than 50 elements"):
        read_aggregate(b"<feedback>" + b"<a/>" * 60 + b"</feedback>")
    monkeypatch.undo()
    monkeypatch.setattr(aggregate_reader, "MAX_RECORDS", 1)
    with pytest.raises(ReportFault, match="more than 1 records"):
        read_aggregate(WHOLE.encode())
    monkeypatch.setattr(aggregate_reader, "MAX_XML", 100)
    with pytest.raises(ReportFault, match="larger"):
        read_aggregate(WHOLE.encode())


def test_long_names_and_many_fields_do_not_fill_memory() -> None:
    """Each element's path is held: a letter of 40 KB took four gigabytes."""
    long = b"a" * (aggregate_reader.MAX_NAME + 1)
    with pytest.raises(ReportFault, match="name of more than"):
        read_aggregate(b"<feedback><" + long + b"/></feedback>")
    reader = aggregate_reader._Reader()
    for number in range(5_000):
        for above in ("report_metadata", "record/row", "record/auth_results/dkim"):
            reader._take(f"{above}/x{number}", "text")
    assert {len(reader.single), len(reader.row), len(reader.part)} == {aggregate_reader.MAX_FIELDS}


def test_a_long_text_is_cut_and_what_a_terminal_would_obey_is_taken_out() -> None:
    report = read_aggregate(with_text("<org_name>Reporter", f"<org_name>\x1b[2J\x9b2J\x00{'x' * 5000}"))
    assert report.organization.startswith("?[2J?2J?xxx")
    assert len(report.organization) == MAX_TEXT


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("<count>7</count>", "<count>-7</count>"),
        ("<count>7</count>", f"<count>{'9' * 400}</count>"),
        ("<count>7</count>", "<count>٣</count>"),
        ("<count>7</count>", ""),
        ("<begin>1799971200</begin>", "<begin>now</begin>"),
        ("<domain>alice.test</domain>\n<discovery", "<domain></domain>\n<discovery"),
        ("<report_id>2027-01-15_x@reporter.test</report_id>", ""),
        ("</feedback>", "</feedbag>"),
        ("<version>1.0</version>", "<version>1.0"),
    ],
)
def test_what_says_nothing_is_refused(place: str, text: str) -> None:
    with pytest.raises(ReportFault):
        read_aggregate(with_text(place, text))


def test_no_record_is_no_report() -> None:
    start, end = WHOLE.index("<record>"), WHOLE.rindex("</record>") + len("</record>")
    with pytest.raises(ReportFault, match="no record"):
        read_aggregate((WHOLE[:start] + WHOLE[end:]).encode())


def test_extensions_are_passed_over() -> None:
    """RFC 9990 §5: at the level of the file, and of a record."""
    octets = with_text(
        "</policy_published>",
        "</policy_published><extension><e:a xmlns:e='urn:x'><e:count>9</e:count></e:a></extension>",
    )
    octets = octets.replace(b"</record>", b"<e:b xmlns:e='urn:x'><row><count>99</count></row></e:b></record>")
    assert read_aggregate(octets) == read_aggregate(WHOLE.encode())


@pytest.mark.parametrize("namespace", [f' xmlns="{NAMESPACE}"', "", ' xmlns="http://dmarc.org/dmarc-xml/0.1"'])
def test_namespaces_of_both_standards(namespace: str) -> None:
    assert read_aggregate(WHOLE.replace(f' xmlns="{NAMESPACE}"', namespace).encode()) == read_aggregate(WHOLE.encode())


def test_a_prefix_for_all() -> None:
    octets = WHOLE.replace("</", "</d:").replace("<", "<d:").replace("<d:/d:", "</d:").replace("<d:?", "<?")
    octets = octets.replace(f'xmlns="{NAMESPACE}"', f'xmlns:d="{NAMESPACE}"')
    assert read_aggregate(octets.encode()) == read_aggregate(WHOLE.encode())


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "windows-1252"])
def test_other_encodings(encoding: str) -> None:
    text = WHOLE.replace("UTF-8", encoding).replace("<org_name>Reporter", "<org_name>Postbüro")
    assert read_aggregate(text.encode(encoding)).organization == "Postbüro"


def test_a_beginning_is_never_read_as_the_whole() -> None:
    whole = WHOLE.encode()
    end = len(whole.rstrip())
    for size in range(0, end, 7):
        with pytest.raises(ReportFault):
            read_aggregate(whole[:size])
    assert read_aggregate(whole[:end]) == aggregate("alice.test")


# --- there and back -------------------------------------------------------------------------------

_TEXT = st.text(max_size=40).map(lambda text: " ".join("".join(c if c.isprintable() else "?" for c in text).split()))
_NAME = st.sampled_from(["a.test", "b.test", "xn--bcher-kva.test", "<&>", "]]>", "'\""])
_WORDS = st.sampled_from(["pass", "fail", "none", "temperror"])
_SIGNATURES = st.builds(SignatureResult, _NAME, _TEXT, _WORDS, _TEXT)
_FACTS = st.builds(
    Facts,
    source=st.ip_addresses().map(str),
    disposition=st.sampled_from(["none", "pass", "quarantine", "reject"]),
    dkim_aligned=st.booleans(),
    spf_aligned=st.booleans(),
    header_from=_NAME,
    envelope_from=st.none() | _NAME | st.just(""),
    envelope_to=_NAME | st.just(""),
    overrides=st.lists(st.builds(Override, st.sampled_from(["local_policy", "other"]), _TEXT), max_size=3).map(tuple),
    signatures=st.lists(_SIGNATURES, max_size=3).map(tuple),
    spf=st.none() | st.builds(SpfIdentity, _NAME, _WORDS, st.just("mfrom"), _TEXT),
)
_REPORTS = st.builds(
    AggregateReport,
    organization=_TEXT,
    email=_TEXT,
    report_id=st.just("1@a.test"),
    begin=st.integers(0, 9_999_999_999),
    end=st.integers(0, 9_999_999_999),
    policy=st.builds(PublishedPolicy, _NAME, st.sampled_from(["none", "reject"])),
    records=st.lists(st.builds(Record, st.integers(0, 1_000_000), _FACTS), min_size=1, max_size=4).map(tuple),
    contact=_TEXT,
    errors=_TEXT.map(lambda text: (text,) if text else ()),
    generator=_TEXT,
)


@given(_REPORTS)
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_again(report: AggregateReport) -> None:
    assert read_aggregate(render(report)) == report


def test_what_no_xml_may_have_is_replaced() -> None:
    facts = Facts("192.0.2.1", "none", False, False, "a\x00\x1b\ufffe.test", "b\r\n.test")
    report = AggregateReport("x", "x", "1", 0, 1, PublishedPolicy("a.test", "none"), (Record(1, facts),))
    found = read_aggregate(render(report)).records[0].facts
    assert (found.header_from, found.envelope_from) == ("a???.test", "b .test")


def test_parts_of_a_letter_that_are_no_report_are_nothing() -> None:
    letter = b"Content-Type: application/pdf\r\n\r\n<?xml version='1.0'?><feedback/>"
    assert read_letter(memoryview(letter), b"Hello") is None
    octets = (SAMPLES / "smtp_tls" / "google.com_smtp_tls_report.eml").read_bytes()
    octets = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    kinds = [decoded(part, octets)[:2] for part in structure.parse(octets).walk() if part.subtype == b"tlsrpt+gzip"]
    assert kinds == [b"\x1f\x8b"]
