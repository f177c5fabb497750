# SPDX-License-Identifier: Apache-2.0
"""The structure of letters, good and bad: which parts there are, where they lie, and what their fields say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.header import MAX_HEADER, scan_header, unpack_envelope
from posthouse.mail.octets import COPIED_WHOLE
from posthouse.mail.structure import MAX_DEPTH, MAX_FALSE_DELIMITERS, MAX_PARTS, Limits, Part, parse

US_ASCII = ((b"charset", b"us-ascii"),)
LETTER = (
    b"From: alice@alice.test\r\n"
    b"Subject: two parts\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: Multipart/Mixed; boundary="=_b"\r\n'
    b"\r\n"
    b"This is for programs that know no MIME.\r\n"
    b"--=_b\r\n"
    b"Content-Type: text/plain; charset=UTF-8; format=flowed\r\n"
    b"Content-Transfer-Encoding: Quoted-Printable\r\n"
    b"\r\n"
    b"Hello,\r\nBob.\r\n"
    b"\r\n--=_b\r\n"
    b"Content-Type: application/pdf; name=plan.pdf\r\n"
    b"Content-Transfer-Encoding: base64\r\n"
    b"Content-ID: <part2@alice.test>\r\n"
    b"Content-Description: the\r\n\tplan\r\n"
    b"Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\n"
    b"Content-Disposition: Attachment; filename=plan.pdf; size=3\r\n"
    b"Content-Language: de, en-GB (British)\r\n"
    b"Content-Location: http://alice.test/\r\n\tplan.pdf\r\n"
    b"\r\n"
    b"UERG\r\n"
    b"--=_b--\r\n"
    b"an epilogue\r\n--=_b\r\n\r\nno part\r\n"
)


def body(part: Part, content: bytes) -> bytes:
    return content[part.body.start : part.body.end]


def header(part: Part, content: bytes) -> bytes:
    return content[part.header.start : part.header.end]


def kinds(part: Part) -> object:
    """`type/subtype`, or that and the kinds of the children."""
    name = f"{part.media.decode()}/{part.subtype.decode()}"
    return (name, *map(kinds, part.children)) if part.children else name


def multipart(*parts: bytes, boundary: bytes = b"b", subtype: bytes = b"mixed") -> bytes:
    inside = b"".join(b"\r\n--" + boundary + b"\r\n" + part for part in parts)
    start = b"Content-Type: multipart/" + subtype + b"; boundary=" + boundary + b"\r\n\r\n"
    return start + inside + b"\r\n--" + boundary + b"--\r\n"


def test_a_letter_of_two_parts() -> None:
    root = parse(LETTER)
    assert (root.media, root.subtype, root.parameters) == (b"multipart", b"mixed", ((b"boundary", b"=_b"),))
    assert root.header.start == 0
    assert root.header.end == LETTER.index(b"This is for")
    assert body(root, LETTER) == LETTER[root.header.end :]
    text, _ = root.children
    assert (text.media, text.subtype, text.encoding) == (b"text", b"plain", b"quoted-printable")
    assert text.parameters == ((b"charset", b"UTF-8"), (b"format", b"flowed"))
    assert body(text, LETTER) == b"Hello,\r\nBob.\r\n"
    assert text.lines == 2
    assert text.octets == 14
    assert header(text, LETTER).startswith(b"Content-Type: text/plain")
    assert header(text, LETTER).endswith(b"Printable\r\n\r\n")
    assert (text.id, text.description, text.md5, text.disposition) == (None, None, None, None)
    assert (text.languages, text.location, text.summary, text.children) == ((), None, None, ())


def test_every_field_of_a_part_is_kept() -> None:
    pdf = parse(LETTER).children[1]
    assert (pdf.media, pdf.subtype, pdf.encoding) == (b"application", b"pdf", b"base64")
    assert pdf.id == b"<part2@alice.test>"
    assert pdf.description == b"the\tplan"
    assert pdf.md5 == b"Q2hlY2sgSW50ZWdyaXR5IQ=="
    assert pdf.disposition == (b"attachment", ((b"filename", b"plan.pdf"), (b"size", b"3")))
    assert pdf.languages == (b"de", b"en-GB")
    assert pdf.location == b"http://alice.test/plan.pdf"
    assert body(pdf, LETTER) == b"UERG"
    assert pdf.lines == 0, "lines are of text"


@pytest.mark.parametrize(
    ("letter", "kind", "parameters", "encoding"),
    [
        (b"", "text/plain", US_ASCII, b"7bit"),
        (b"\r\n", "text/plain", US_ASCII, b"7bit"),
        (b"Subject: x\r\n\r\nHello\r\n", "text/plain", US_ASCII, b"7bit"),
        (b"Content-Type: text/html\r\n\r\n", "text/html", (), b"7bit"),
        (b"Content-Type: image\r\n\r\n", "text/plain", US_ASCII, b"7bit"),
        (b"Content-Type: text; charset=utf-8\r\n\r\n", "text/plain", ((b"charset", b"utf-8"),), b"7bit"),
        (b"Content-Type:\r\n\r\n", "text/plain", US_ASCII, b"7bit"),
        (b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n", "a/b", (), b"7bit"),
        (b"Content-Transfer-Encoding:\r\n\r\n", "text/plain", US_ASCII, b"7bit"),
        (b"Content-Transfer-Encoding: BASE64 (yes)\r\n\r\n", "text/plain", US_ASCII, b"base64"),
        (b"Content-Transfer-Encoding: x-uuencode\r\n\r\n", "text/plain", US_ASCII, b"x-uuencode"),
    ],
)
def test_what_is_not_said_is_the_default(letter: bytes, kind: str, parameters: object, encoding: bytes) -> None:
    """RFC 2045 §5.2, §6.1: text/plain in us-ascii, 7bit; the same where a Content-Type cannot be read."""
    part = parse(letter)
    assert kinds(part) == kind
    assert part.parameters == parameters
    assert part.encoding == encoding


def test_a_letter_in_a_letter_has_its_summary() -> None:
    inner = b"Subject: inner\r\nTo: a@x.test\r\nTo: b@x.test\r\nMessage-ID: <i@x>\r\n\r\nHello\r\nyou\r\n"
    letter = multipart(b"Content-Type: Message/RFC822\r\n\r\n" + inner)
    part = parse(letter).children[0]
    assert part.holds_letter
    assert kinds(part) == ("message/rfc822", "text/plain")
    assert body(part, letter) == inner
    assert part.lines == 7
    assert part.summary == (
        None, b"inner", None, None, None, b"a@x.test, b@x.test", None, None, None, b"<i@x>",
    )  # fmt: skip
    (child,) = part.children
    assert header(child, letter) == inner[: inner.index(b"Hello")]
    assert body(child, letter) == b"Hello\r\nyou\r\n"
    assert child.lines == 2


def test_a_summary_is_what_the_header_scan_packs() -> None:
    inner = b"From: a@b\r\nSubject:  x\r\n\ty \r\nTo: c@d\r\nTo: e@f\r\nDate:\r\n\r\n"
    part = parse(b"Content-Type: message/global\r\n\r\n" + inner)
    assert part.summary == tuple(unpack_envelope(scan_header(inner).pack_envelope()).values())


def test_parts_of_a_digest_are_letters_when_they_do_not_say() -> None:
    letter = multipart(b"\r\nSubject: one\r\n\r\n1", b"Content-Type: text/html\r\n\r\n2", b"", subtype=b"digest")
    root = parse(letter)
    assert kinds(root) == (
        "multipart/digest", ("message/rfc822", "text/plain"), "text/html", ("message/rfc822", "text/plain"),
    )  # fmt: skip
    assert root.children[0].parameters == ()
    assert body(root.children[0].children[0], letter) == b"1"


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable"])
def test_an_encoded_letter_is_text_in_that_encoding(encoding: bytes) -> None:
    letter = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\nU3ViamVjdA==\r\n"
    part = parse(letter)
    assert kinds(part) == ("message/rfc822", "text/plain")
    assert part.encoding == part.children[0].encoding == encoding
    assert part.summary == (None,) * 10
    assert body(part.children[0], letter) == body(part, letter) == b"U3ViamVjdA==\r\n"


def test_a_note_in_place_of_a_letter_is_its_text() -> None:
    letter = multipart(b"Content-Type: message/rfc822\r\n\r\n[the letter was left out]\r\n")
    (inner,) = parse(letter).children[0].children
    assert body(inner, letter) == b"[the letter was left out]\r\n"
    assert inner.header.size == 0


@pytest.mark.parametrize(
    "start",
    [b"Content-Type: multipart/mixed\r\n\r\n", b'Content-Type: multipart/mixed; boundary=""\r\n\r\n',
     b"Content-Type: multipart/digest; boundary=other\r\n\r\n"],
)  # fmt: skip
def test_a_multipart_without_delimiters_is_one_text(start: bytes) -> None:
    letter = start + b"Hello\r\n--b\r\nyou\r\n"
    root = parse(letter)
    assert root.is_multipart
    (only,) = root.children
    assert kinds(only) == "text/plain"
    assert body(only, letter) == b"Hello\r\n--b\r\nyou\r\n"
    assert only.header == (len(start), len(start))


@pytest.mark.parametrize(
    ("inside", "bodies"),
    [
        (b"--b\r\n\r\none\r\n--b--\r\n", [b"one"]),
        (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--", [b"one", b"two"]),
        (b"--b\r\n\r\none", [b"one"]),  # cut off
        (b"--b\r\n\r\none\r\n", [b"one\r\n"]),
        (b"--b", [b""]),
        (b"--b\r\n--b\r\n--b--", [b"", b""]),
        (b"--b\r\n\r\n--b--", [b""]),
        (b"--b \t\r\n\r\none\r\n--b-- \r\n", [b"one"]),  # blanks added on the way
        (b"--b and more\r\n\r\none\r\n--b--more\r\n\r\n--b", [b"one\r\n--b--more\r\n", b""]),
        (b"--b\r\n\r\none\r\n--b-1\r\ntwo\r\n--b1\r\n--b--", [b"one\r\n--b-1\r\ntwo\r\n--b1"]),
        (b"--b\r\n\r\none\r\n --b\r\ntwo\r\n--b--", [b"one\r\n --b\r\ntwo"]),
        (b"--b\r\n\r\none\n--b\ntwo\r--b\r\n--b--", [b"one\n--b\ntwo\r--b"]),  # only CRLF ends a line
        (b"--b\r\n\r\none\r\n--b --\r\n\r\ntwo", [b"one"]),
        (b"text\r\n--b\r\n\r\none\r\n--b--\r\n--b\r\n\r\nafter\r\n--b--", [b"one"]),
        (b"--b\r\nContent-Type: text/plain\r\n--b--", [b""]),  # a header without its empty line
        (b"--b\r\nDear Bob,\r\n\r\nhello\r\n--b--", [b"Dear Bob,\r\n\r\nhello"]),  # no header at all
        (b"--b\r\n folded\r\n\r\nhello\r\n--b--", [b" folded\r\n\r\nhello"]),
    ],
)
def test_delimiters_of_all_kinds(inside: bytes, bodies: list[bytes]) -> None:
    """RFC 2046 §5.1.1; a line that goes on with a character of boundaries is no delimiter."""
    letter = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + inside
    assert [body(part, letter) for part in parse(letter).children] == bodies


def test_a_boundary_that_begins_with_the_outer_one_is_another() -> None:
    inner = multipart(b"\r\n1", b"\r\n2", boundary=b"b-1")
    letter = multipart(inner, b"\r\n3")
    assert kinds(parse(letter)) == ("multipart/mixed", ("multipart/mixed", "text/plain", "text/plain"), "text/plain")


def test_the_outer_delimiter_ends_what_is_inside() -> None:
    letter = multipart(b"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\nleft open", b"\r\n2\r\n--i--")
    root = parse(letter)
    assert kinds(root) == ("multipart/mixed", ("multipart/mixed", "text/plain"), "text/plain")
    assert body(root.children[0].children[0], letter) == b"left open"
    assert body(root.children[1], letter) == b"2\r\n--i--"


def test_a_boundary_may_be_written_in_sections_or_folded() -> None:
    for value in (b"boundary*0=a; boundary*1=b", b"boundary*=us-ascii''ab", b'boundary="ab "', b'boundary="a\\b"'):
        letter = b"Content-Type: multipart/mixed; " + value + b"\r\n\r\n--ab\r\n\r\nx\r\n--ab--"
        assert [body(part, letter) for part in parse(letter).children] == [b"x"], value
    letter = b'Content-Type: multipart/mixed; boundary="a\r\n b"\r\n\r\n--a b\r\n\r\nx\r\n--a b--'
    assert [body(part, letter) for part in parse(letter).children] == [b"x"]


def nested(depth: int) -> bytes:
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level) for level in range(depth)
    )


@pytest.mark.parametrize("letter", [nested(500), b"Content-Type: message/rfc822\r\n\r\n" * 500])
def test_what_lies_too_deep_is_not_opened(letter: bytes) -> None:
    *outer, last = parse(letter).walk()
    assert len(outer) == MAX_DEPTH
    assert kinds(last) == "application/octet-stream"
    assert last.parameters == ()
    assert last.body.end == len(letter)


def test_parts_beyond_the_limit_are_not_told() -> None:
    letter = multipart(*[b"\r\nx"] * (MAX_PARTS + 500))
    assert sum(1 for _ in parse(letter).walk()) == MAX_PARTS


def test_limits_hold_for_multiparts_that_come_last() -> None:
    inner = multipart(b"\r\n1", b"\r\n2", boundary=b"i")
    letter = multipart(inner, inner, inner)
    limited = parse(letter, limits=Limits(parts=5))
    assert kinds(limited) == (
        "multipart/mixed", ("multipart/mixed", "text/plain", "text/plain"), "application/octet-stream",
    )  # fmt: skip
    assert kinds(parse(letter, limits=Limits(depth=1))) == ("multipart/mixed", *["application/octet-stream"] * 3)


def test_text_full_of_false_delimiters_stays_text() -> None:
    quoted = b"\r\n--bX" * (MAX_FALSE_DELIMITERS + 10)
    letter = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + quoted + b"\r\n--b\r\n\r\n2"
    assert len(parse(letter).children) == 1
    few = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + b"\r\n--bX" * 50 + b"\r\n--b\r\n\r\n2"
    assert len(parse(few).children) == 2


def test_fields_beyond_the_longest_header_are_not_read() -> None:
    letter = b"X: " + b"x" * MAX_HEADER + b"\r\nContent-Type: text/html\r\n\r\nbody"
    part = parse(letter)
    assert kinds(part) == "text/plain"
    assert body(part, letter) == b"body"


def test_a_large_view_is_read_like_octets() -> None:
    text = b"Content-Type: text/plain\r\n\r\n" + b"line\r\n" * (COPIED_WHOLE // 3)
    letter = multipart(text, b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n" + text, b"\r\nlast")
    assert parse(memoryview(letter)) == parse(letter)
    assert parse(letter).children[0].lines == COPIED_WHOLE // 3


def test_values_stand_on_one_line() -> None:
    letter = (
        b'Content-Type: a/b; x="1\0\r2\n3"; y\0z=1\r\nContent-ID: <\0>\r\nContent-Description: a\rb\nc\r\n'
        b'Content-Disposition: inline; filename="\0"\r\nContent-Location: a\0b\r\nContent-Language: e\0n\r\n'
        b"Content-Transfer-Encoding: 8\0bit\r\n\r\n"
    )
    told = repr(parse(letter))
    assert "\\x00" not in told
    assert "\\r" not in told
    assert "\\n" not in told


PIECES = st.sampled_from(
    [b"\r\n", b"\r\n\r\n", b"--b", b"--b--", b"--i", b"--i--", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
     b"Content-Type: multipart/digest; boundary=i\r\n\r\n", b"Content-Type: message/rfc822\r\n\r\n", b"text", b": ",
     b"Content-Transfer-Encoding: base64\r\n", b"\r", b"\n", b" ", b"-", b"\0", b"\xff"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=60).map(b"".join))
def test_any_octets_have_one_structure_whose_parts_lie_inside_each_other(letter: bytes) -> None:
    root = parse(letter)
    assert root == parse(memoryview(letter))
    assert root.header.start == 0
    assert root.body.end == len(letter)
    assert root.header.end == scan_header(letter).header_size
    for part in root.walk():
        assert part.header.end == part.body.start <= part.body.end
        assert bool(part.children) == (part.is_multipart or part.holds_letter)
        at = part.body.start
        for child in part.children:
            assert at <= child.header.start <= child.header.end
            assert child.body.end <= part.body.end
            at = child.body.end
