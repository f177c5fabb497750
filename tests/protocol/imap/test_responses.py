# SPDX-License-Identifier: Apache-2.0
"""What the server writes: strings in their dress, responses about mailboxes, searches and messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.header_summary import HeaderSummary, address_structures
from posthouse.mail.search import PartialRange, ReturnOption
from posthouse.mail.structure import parse
from posthouse.protocol.imap import capabilities, codes, fetch_results, responses, search_results
from posthouse.protocol.imap.events import StatusItem
from posthouse.protocol.imap.fetch_items import (
    Attribute,
    BinarySection,
    BinarySize,
    BodySection,
    Partial,
    Preview,
    Section,
    SectionKind,
)
from posthouse.protocol.imap.response_reader import ResponseReader, Value, values_of
from posthouse.protocol.imap.search_results import Found
from posthouse.protocol.imap.strings import (
    MAX_QUOTED,
    astring,
    date_time,
    line_text,
    mailbox,
    nstring,
    string,
    utc_time,
)
from posthouse.protocol.imap.structure_results import body_structure, envelope
from posthouse.protocol.imap.table import COMMANDS
from posthouse.protocol.imap.tokens import Cursor


def read(octets: bytes) -> tuple[Value, ...]:
    """As a client reads it."""
    reader = ResponseReader()
    reader.feed(octets + b"\r\n")
    response = reader.next_response()
    assert response is not None
    assert reader.is_empty
    return values_of(response, 0)


# --- strings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dressed"),
    [
        (b"", b'""'),
        (b"plain text", b'"plain text"'),
        (b"tab\there", b'"tab\there"'),
        (b'a "b" \\c', b'"a \\"b\\" \\\\c"'),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        (b"a\nb", b"{3}\r\na\nb"),
        (b"\xc3\xa9", b"{2}\r\n\xc3\xa9"),
        (b"a\0b", b"{2}\r\nab"),
        (b"x" * (MAX_QUOTED + 1), b"{1025}\r\n" + b"x" * 1025),
    ],
)
def test_string(value: bytes, dressed: bytes) -> None:
    assert string(value) == dressed


def test_utf_8_stands_in_quotes_where_it_may() -> None:
    assert string(b'\xc3\xa9"', is_utf8=True) == b'"\xc3\xa9\\""'
    assert string(b"\xff", is_utf8=True) == b"{1}\r\n\xff"
    assert string(b"\xc3\xa9\n", is_utf8=True) == b"{3}\r\n\xc3\xa9\n"
    assert nstring(None) == b"NIL"


@given(st.binary(max_size=60), st.booleans())
def test_every_string_comes_back(value: bytes, is_utf8: bool) -> None:
    assert read(string(value, is_utf8=is_utf8) + b" x") == (value.replace(b"\0", b""), "x")


@given(st.binary(max_size=60).filter(lambda value: b"\0" not in value))
def test_every_astring_comes_back(value: bytes) -> None:
    """Read as the server reads it."""
    dressed = astring(value)
    head, _, content = dressed.partition(b"\r\n")
    cursor = Cursor(head + b"\r\n", (content,)) if dressed.startswith(b"{") else Cursor(dressed)
    assert cursor.astring() == value


def test_an_astring_is_not_taken_for_nil() -> None:
    assert astring(b"nil") == b'"nil"'


@pytest.mark.parametrize(
    ("name", "rev1", "utf8"),
    [
        ("INBOX", b"INBOX", b"INBOX"),
        ("a b", b'"a b"', b'"a b"'),
        ("100%", b'"100%"', b'"100%"'),
        ("R&D", b"R&-D", b"R&D"),
        ("\u00e9", b"&AOk-", b'"\xc3\xa9"'),
        ("", b'""', b'""'),
    ],
)
def test_mailbox(name: str, rev1: bytes, utf8: bytes) -> None:
    assert mailbox(name) == rev1
    assert mailbox(name, is_utf8=True) == utf8


def test_times() -> None:
    when = datetime(1994, 2, 1, 1, 2, 3, tzinfo=timezone(-timedelta(hours=8, minutes=30)))
    assert date_time(when) == b'" 1-Feb-1994 01:02:03 -0830"'
    assert date_time(datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC)) == b'"31-Dec-2024 23:59:59 +0000"'
    assert Cursor(date_time(when)).date_time() == when


@given(st.integers(-(10**10), 10**11))
def test_times_of_the_epoch(seconds: int) -> None:
    assert utc_time(seconds) == date_time(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))


def test_what_people_read_stays_on_its_line() -> None:
    assert line_text("a\r\n* BYE") == "a??* BYE"
    assert line_text("") == "?"
    assert len(line_text("x" * 10_000)) < 1000


# --- mailboxes ---------------------------------------------------------------------------------------


def test_responses_of_select() -> None:
    assert responses.flags(("\\Seen", "$x")) == b"* FLAGS (\\Seen $x)\r\n"
    assert responses.exists(172) == b"* 172 EXISTS\r\n"
    assert responses.recent(1) == b"* 1 RECENT\r\n"
    assert responses.ok("First unseen", codes.unseen(12)) == b"* OK [UNSEEN 12] First unseen\r\n"
    assert responses.ok("Limited", codes.permanent_flags(("\\Seen", "\\*"))) == (
        b"* OK [PERMANENTFLAGS (\\Seen \\*)] Limited\r\n"
    )
    assert responses.expunges((3, 3, 5)) == b"* 3 EXPUNGE\r\n* 3 EXPUNGE\r\n* 5 EXPUNGE\r\n"
    assert responses.vanished(((300, 310), (405, 405))) == b"* VANISHED 300:310,405\r\n"
    assert responses.vanished(((41, 41),), is_earlier=True) == b"* VANISHED (EARLIER) 41\r\n"


def test_codes() -> None:
    assert codes.append_uid(38505, ((3955, 3957),)) == "APPENDUID 38505 3955:3957"
    assert codes.copy_uid(1, ((304, 304), (319, 320)), ((3956, 3958),)) == "COPYUID 1 304,319:320 3956:3958"
    assert codes.modified(((7, 7), (9, 9))) == "MODIFIED 7,9"
    assert codes.capability(("IMAP4rev1",)) == "CAPABILITY IMAP4rev1"


def test_list_rows() -> None:
    assert responses.list_row("a b", ("\\HasNoChildren", "\\Sent")) == b'* LIST (\\HasNoChildren \\Sent) "/" "a b"\r\n'
    row = responses.list_row("x", (), extended=(responses.child_info(("SUBSCRIBED",)), responses.old_name("\u00e9")))
    assert row == b'* LIST () "/" x (CHILDINFO ("SUBSCRIBED") OLDNAME (&AOk-))\r\n'
    assert responses.lsub_row("x", ("\\Noselect",), delimiter=".") == b'* LSUB (\\Noselect) "." x\r\n'


def test_status() -> None:
    values = {StatusItem.MESSAGES: 231, StatusItem.MAILBOXID: "F1", StatusItem.APPENDLIMIT: None}
    assert responses.status("x y", values) == b'* STATUS "x y" (MESSAGES 231 MAILBOXID (F1) APPENDLIMIT NIL)\r\n'


def test_namespace() -> None:
    said = responses.namespace([("", "/")], [("~", "/")], [])
    assert said == b'* NAMESPACE (("" "/")) (("~" "/")) NIL\r\n'


def test_rights_and_quota() -> None:
    assert responses.acl("x", [("fred", "rwipsl"), ("a b", "")]) == b'* ACL x fred rwipsl "a b" ""\r\n'
    assert responses.list_rights("x", "smith", "la", ("r", "swicdkxte")) == b"* LISTRIGHTS x smith la r swicdkxte\r\n"
    assert responses.my_rights("INBOX", "rwip") == b"* MYRIGHTS INBOX rwip\r\n"
    resources = [("STORAGE", 10, 512), ("MESSAGE", 1, 2)]
    assert responses.quota("", resources) == b'* QUOTA "" (STORAGE 10 512 MESSAGE 1 2)\r\n'
    assert responses.quota_root("INBOX", [""]) == b'* QUOTAROOT INBOX ""\r\n'


def test_session_responses() -> None:
    assert responses.identity(None) == b"* ID NIL\r\n"
    assert responses.identity({"name": "posthouse", "x": None}) == b'* ID ("name" "posthouse" "x" NIL)\r\n'
    assert responses.enabled(()) == b"* ENABLED\r\n"
    assert responses.enabled(("CONDSTORE", "X")) == b"* ENABLED CONDSTORE X\r\n"
    assert responses.capability(("IMAP4rev1", "ID")) == b"* CAPABILITY IMAP4rev1 ID\r\n"
    assert responses.no("Nearly full", codes.ALERT) == b"* NO [ALERT] Nearly full\r\n"


# --- searches ----------------------------------------------------------------------------------------


def test_plain_results() -> None:
    assert search_results.search(Found((2, 84, 882))) == b"* SEARCH 2 84 882\r\n"
    assert search_results.search(Found(())) == b"* SEARCH\r\n"
    assert search_results.search(Found((2, 5), 917162500)) == b"* SEARCH 2 5 (MODSEQ 917162500)\r\n"
    assert search_results.search(Found((), 9)) == b"* SEARCH\r\n"
    assert search_results.sort(Found((5, 3, 4))) == b"* SORT 5 3 4\r\n"
    assert search_results.thread("(2)(3 6)") == b"* THREAD (2)(3 6)\r\n"
    assert search_results.thread("") == b"* THREAD\r\n"


ALL_OPTIONS = frozenset(ReturnOption)


@pytest.mark.parametrize(
    ("found", "options", "partial", "said"),
    [
        (Found((2, 10, 11)), ALL_OPTIONS, None, b"MIN 2 MAX 11 COUNT 3 ALL 2,10:11"),
        (Found(()), ALL_OPTIONS, None, b"COUNT 0"),
        (Found(()), frozenset({ReturnOption.ALL}), None, b""),
        (Found((1, 2, 7), 99), frozenset({ReturnOption.COUNT}), None, b"COUNT 3 MODSEQ 99"),
        (Found((1, 2, 7)), frozenset(), PartialRange(2, 5), b"PARTIAL (2:5 2,7)"),
        (Found((1, 2, 7)), frozenset(), PartialRange(-1, -2), b"PARTIAL (-1:-2 2,7)"),
        (Found((1, 2, 7)), frozenset(), PartialRange(4, 9), b"PARTIAL (4:9 NIL)"),
        (Found((9, 3, 4, 1)), frozenset({ReturnOption.ALL, ReturnOption.MIN}), None, b"MIN 9 ALL 9,3:4,1"),
        (Found((1,)), frozenset({ReturnOption.SAVE}), None, b""),
    ],
)
def test_esearch(found: Found, options: frozenset[ReturnOption], partial: PartialRange | None, said: bytes) -> None:
    tail = b" " + said if said else b""
    assert search_results.esearch("A285", found, options, is_uid=True, partial=partial) == (
        b'* ESEARCH (TAG "A285") UID' + tail + b"\r\n"
    )
    assert search_results.esearch("A", found, options, is_uid=False, partial=partial) == (
        b'* ESEARCH (TAG "A")' + tail + b"\r\n"
    )


# --- messages ----------------------------------------------------------------------------------------


def test_rows_of_many_messages() -> None:
    form = fetch_results.row_format((Attribute.UID, Attribute.FLAGS, Attribute.RFC822_SIZE, Attribute.MODSEQ))
    rows = fetch_results.rows(form, (1, 2), (10, 20), (b"\\Seen", b""), (100, 200), (7, 8))
    assert rows == (
        b"* 1 FETCH (UID 10 FLAGS (\\Seen) RFC822.SIZE 100 MODSEQ (7))\r\n"
        b"* 2 FETCH (UID 20 FLAGS () RFC822.SIZE 200 MODSEQ (8))\r\n"
    )
    items = (Attribute.EMAILID, Preview(), BinarySize((1,), b"BINARY.SIZE[1]"))
    form = fetch_results.row_format(items, is_uid_only=True)
    assert fetch_results.rows(form, [5], [b"M1"], [b'"x"'], [3]) == (
        b'* 5 UIDFETCH (EMAILID (M1) PREVIEW "x" BINARY.SIZE[1] 3)\r\n'
    )


def test_every_attribute_has_its_place() -> None:
    assert fetch_results.row_format(tuple(Attribute)).count(b"%") == len(Attribute) + 1


def test_a_percent_sign_in_a_field_name_is_no_place() -> None:
    item = BodySection(Section((), SectionKind.FIELDS, (b"%d",)), b'BODY[HEADER.FIELDS ("%d")]')
    assert fetch_results.rows(fetch_results.row_format((item,)), [1], [b'""']) == (
        b'* 1 FETCH (BODY[HEADER.FIELDS ("%d")] "")\r\n'
    )


def test_flags_that_changed() -> None:
    assert fetch_results.flags_row(3, b"\\Seen") == b"* 3 FETCH (FLAGS (\\Seen))\r\n"
    assert fetch_results.flags_row(3, b"", uid=9, modseq=5) == b"* 3 FETCH (UID 9 FLAGS () MODSEQ (5))\r\n"
    assert fetch_results.uid_flags_row(9, b"", modseq=5) == b"* 9 UIDFETCH (FLAGS () MODSEQ (5))\r\n"


def test_contents_are_not_copied() -> None:
    content = memoryview(b"x" * 1000)
    pieces = fetch_results.message(
        4,
        [
            fetch_results.value(Attribute.UID, 7),
            fetch_results.section(b"BODY[]", content),
            fetch_results.section(b"BODY[9]", None),
            fetch_results.section(b"BODY[TEXT]", b""),
            fetch_results.binary(b"BINARY[1]", b"a\0b"),
            fetch_results.binary(b"BINARY[2]", b"ab"),
            fetch_results.preview("Hi"),
        ],
    )
    assert any(piece is content for piece in pieces)
    assert b"".join(pieces) == (
        b"* 4 FETCH (UID 7 BODY[] {1000}\r\n" + b"x" * 1000 + b' BODY[9] NIL BODY[TEXT] ""'
        b' BINARY[1] ~{3}\r\na\0b BINARY[2] {2}\r\nab PREVIEW "Hi")\r\n'
    )
    assert b"".join(fetch_results.message(9, [b"UID 9"], is_uid_only=True)) == b"* 9 UIDFETCH (UID 9)\r\n"
    assert fetch_results.value(BinarySection((1,), b"BINARY[1]"), b'""') == b'BINARY[1] ""'


def test_partial_contents() -> None:
    content = memoryview(b"0123456789")
    assert fetch_results.cut(content, None) is content
    assert bytes(fetch_results.cut(content, Partial(2, 3))) == b"234"
    assert bytes(fetch_results.cut(content, Partial(8, 2**62))) == b"89"
    assert bytes(fetch_results.cut(content, Partial(2**62, 2**62))) == b""


def test_envelope() -> None:
    author = address_structures(b"Terry Gray <gray@cac.washington.edu>")
    summary = HeaderSummary(
        b"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)",
        b"IMAP4rev2 WG mtg summary",
        author,
        author,
        author,
        address_structures(b"imap@cac.washington.edu"),
        address_structures(b"minutes@CNRI.Reston.VA.US, Group: a@b;"),
        None,
        None,
        b"<B27397-0100000@cac.washington.edu>",
    )
    terry = b'(("Terry Gray" NIL "gray" "cac.washington.edu"))'
    assert envelope(summary) == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary" '
        + terry
        + b" "
        + terry
        + b" "
        + terry
        + b' ((NIL NIL "imap" "cac.washington.edu"))'
        + b' ((NIL NIL "minutes" "CNRI.Reston.VA.US")(NIL NIL "Group" NIL)(NIL NIL "a" "b")(NIL NIL NIL NIL))'
        + b' NIL NIL "<B27397-0100000@cac.washington.edu>")'
    )
    assert envelope(HeaderSummary(*[None] * 10)) == b"(" + b" ".join([b"NIL"] * 10) + b")"


LETTER = (
    b"Subject: outer\r\nContent-Type: multipart/mixed; boundary=x\r\nContent-Language: en, de\r\n\r\n"
    b"--x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline; filename=a.txt\r\n\r\nhi\r\nho\r\n"
    b"--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nFrom: a@b.test\r\n\r\ntext\r\n"
    b"--x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\nContent-Id: <i>\r\n\r\nAAAA\r\n"
    b"--x--\r\n"
)


def test_body_structure() -> None:
    structure = parse(LETTER)
    author = b'((NIL NIL "a" "b.test"))'
    inner = b'(NIL "inner" ' + b" ".join([author] * 3) + b" NIL NIL NIL NIL NIL)"
    size = len(b"Subject: inner\r\nFrom: a@b.test\r\n\r\ntext")
    assert body_structure(structure, is_extended=False) == (
        b'(("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 6 1)'
        b'("message" "rfc822" NIL NIL NIL "7bit" %d '
        % size
        + inner
        + b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 4 0) 3)'
        b'("image" "png" NIL "<i>" NIL "base64" 4) "mixed")'
    )
    assert body_structure(structure) == (
        b'(("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 6 1 NIL ("inline" ("filename" "a.txt")) NIL NIL)'
        b'("message" "rfc822" NIL NIL NIL "7bit" %d '
        % size
        + inner
        + b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 4 0 NIL NIL NIL NIL) 3 NIL NIL NIL NIL)'
        b'("image" "png" NIL "<i>" NIL "base64" 4 NIL NIL NIL NIL) "mixed" ("boundary" "x") NIL ("en" "de") NIL)'
    )


@given(st.binary(max_size=200))
def test_the_structure_of_anything_can_be_read(octets: bytes) -> None:
    letter = LETTER.replace(b"text\r\n", octets)
    (value,) = read(body_structure(parse(letter)))
    assert isinstance(value, tuple)


# --- capabilities --------------------------------------------------------------------------------------


def words(**changes: object) -> list[str]:
    terms: dict[str, object] = {
        "is_logged_in": True,
        "is_protected": True,
        "offers_tls": True,
        "mechanisms": ("PLAIN", "SCRAM-SHA-256"),
        "append_limit": 1000,
    }
    return capabilities.capabilities(**(terms | changes))  # type: ignore[arg-type]


def test_capabilities_by_state() -> None:
    before = words(is_logged_in=False)
    assert {"STARTTLS", "AUTH=PLAIN", "AUTH=SCRAM-SHA-256", "IMAP4rev1", "IMAP4rev2", "SASL-IR"} <= set(before)
    assert "LOGINDISABLED" not in before
    assert "LOGINDISABLED" in words(is_logged_in=False, is_protected=False)
    assert "STARTTLS" not in words(is_logged_in=False, offers_tls=False)
    inside = words()
    assert not any(word.startswith(("AUTH=", "STARTTLS", "LOGINDISABLED")) for word in inside)
    assert "APPENDLIMIT=1000" in inside
    assert "APPENDLIMIT=1000" not in words(append_limit=None)
    assert len(inside) == len(set(inside))


@pytest.mark.parametrize("literal_minus", [True, False])
def test_never_both_literal_plus_and_minus(literal_minus: bool) -> None:
    """RFC 7888 §5."""
    for is_logged_in in (True, False):
        said = words(is_logged_in=is_logged_in, literal_minus=literal_minus)
        assert ("LITERAL-" in said, "LITERAL+" in said) == (literal_minus, not literal_minus)


@pytest.mark.parametrize(
    ("capability", "command"),
    [
        ("ACL", b"SETACL"),
        ("COMPRESS=DEFLATE", b"COMPRESS"),
        ("ENABLE", b"ENABLE"),
        ("ID", b"ID"),
        ("IDLE", b"IDLE"),
        ("MOVE", b"UID MOVE"),
        ("NAMESPACE", b"NAMESPACE"),
        ("QUOTA", b"GETQUOTAROOT"),
        ("REPLACE", b"UID REPLACE"),
        ("SORT", b"UID SORT"),
        ("THREAD=REFERENCES", b"UID THREAD"),
        ("UIDPLUS", b"UID EXPUNGE"),
        ("UNAUTHENTICATE", b"UNAUTHENTICATE"),
        ("UNSELECT", b"UNSELECT"),
    ],
)
def test_what_is_advertised_has_its_command(capability: str, command: bytes) -> None:
    assert capability in words()
    assert command in COMMANDS


def test_enabling() -> None:
    """RFC 5161 §3.2: known, and not enabled before; RFC 7162 §3.2.3: QRESYNC brings CONDSTORE."""
    assert capabilities.enabling(("QRESYNC", "X-FOO"), frozenset()) == ["QRESYNC", "CONDSTORE"]
    assert capabilities.enabling(("CONDSTORE", "IMAP4REV2"), frozenset({"CONDSTORE"})) == ["IMAP4rev2"]
