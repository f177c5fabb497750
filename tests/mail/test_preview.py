# SPDX-License-Identifier: Apache-2.0
"""Previews (RFC 8970): the words that people wrote, from the part that has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail import html_text
from posthouse.mail.lines import with_crlf
from posthouse.mail.preview import MAX_PREVIEW, preview
from posthouse.mail.structure import parse
from tests.mail.data import DATA
from tests.mail.test_structure import PIECES, multipart


def shown(letter: bytes) -> str:
    return preview(parse(letter), letter)


def plain(text: str) -> str:
    return shown(b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text.encode())


def page(text: str) -> str:
    return shown(b"Content-Type: text/html; charset=utf-8\r\n\r\n" + text.encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello  Bob,\r\n\r\n how are\tyou?\r\n", "Hello Bob, how are you?"),
        ("", ""),
        (" \r\n\r\n", ""),
        ("> Shall we?\r\n> Bob\r\n\r\nYes, let us.\r\n> When?\r\nSoon.", "Yes, let us. Soon."),
        ("> only\r\n> quoted", "> only > quoted"),
        ("Hello\r\n-- \r\nAlice, ACME", "Hello"),
        ("-- \r\nAlice, ACME", "-- Alice, ACME"),
        ("Hello\r\n--\r\nand more", "Hello -- and more"),
        ("x" * 300, "x" * MAX_PREVIEW),
        ("a\x07b\x1b[0m\u202ec", "ab[0mc"),
        ("Hello\u200c \u00a0\u034f \u200b\ufeff world\u00ad", "Hello world"),
        ("soft\u00adly", "softly"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),  # one picture of two, joined
        ("-----BEGIN PGP MESSAGE-----\r\n\r\nhQEMA", ""),
        (
            "-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nHello\r\n-----BEGIN PGP SIGNATURE-----\r\niQ",
            "Hello",
        ),
    ],
)
def test_plain_text(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<head><title>T</title><style>p {}</style></head><!-- c --><p>Dear&nbsp;Bob,</p><script>x</script>",
            "Dear Bob,",
        ),
        (
            "<html><body><p>b<b>ol</b>d &amp; &lt;x&gt;</p></body></html>",
            "bold & <x>",
        ),
        ("a<br>b<BR/>c", "a b c"),
        ("<td>a</td><td>b</td>", "a b"),
        ("a < b", "a < b"),
        ("a<!-- b", "a"),
        ("a<p", "a"),
        ("<style>x", ""),
        ("<STYLE>x</title></style\n>y", "y"),
        ("<stylex>y", "y"),
        ("</style>y", "y"),
        ("<!DOCTYPE html><?xml version='1'?>y", "y"),
        ("<a href='x'>li</a>nk", "link"),
        ("&#120;&unknown;", "x&unknown;"),
        ("<p> " * 50 + "word", "word"),
        ("plain", "plain"),
    ],
)
def test_pages(text: str, expected: str) -> None:
    assert page(text) == expected


def test_a_page_of_tags_alone_is_given_up() -> None:
    assert html_text.beginning("<p>" * (html_text.MAX_TAGS + 1) + "late", 800).strip() == ""
    assert html_text.beginning("<p>" * 100 + "in time", 800).strip() == "in time"


def test_a_page_is_not_read_further_than_needed() -> None:
    assert "x" not in html_text.beginning("word " * 10_000 + "<p>" + "x" * 10_000, 800)
    assert "late" not in html_text.beginning("<p>word</p>" * 1000 + "late", 800)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, "text"),
        (2, "html"),
        (3, "text"),
        (4, "html"),
        (5, "text"),
        (6, "text"),
        (7, "text"),
        (8, "text"),
        (9, "html"),
    ],
)
def test_the_part_that_is_the_text(number: int, expected: str) -> None:
    """MimeKit's letters say which of their parts is the text (tests/data/mime/mimekit)."""
    letter = with_crlf((DATA / "mime" / "mimekit" / f"body.{number}.txt").read_bytes())
    assert shown(letter) == {"text": "This is the text body.", "html": "This is an html body."}[expected]


TEXT = b"Content-Type: text/plain\r\n\r\n"
PAGE = b"Content-Type: text/html\r\n\r\n"
ATTACHED = b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\n"


@pytest.mark.parametrize(
    ("letter", "expected"),
    [
        (multipart(ATTACHED + b"no", TEXT + b"yes"), "yes"),
        (multipart(ATTACHED + b"no"), ""),
        (ATTACHED + b"the only one", "the only one"),
        (multipart(PAGE + b"<p>page", TEXT + b"text", subtype=b"alternative"), "text"),
        (multipart(TEXT + b" \r\n", PAGE + b"<p>page", subtype=b"alternative"), "page"),
        (multipart(TEXT + b"no", subtype=b"encrypted"), ""),
        (multipart(TEXT + b"yes", b"Content-Type: application/pgp-signature\r\n\r\nno", subtype=b"signed"), "yes"),
        (multipart(b"Content-Type: image/png\r\n\r\nx"), ""),
        (multipart(b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ninner", TEXT + b"outer"), "outer"),
        (multipart(b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ninner"), "inner"),
        (multipart(*[TEXT + b" "] * 20, TEXT + b"too late"), ""),
        (TEXT.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n") + b"SGVsbG8", "Hello"),
        (b"", ""),
    ],
)
def test_which_part_is_shown(letter: bytes, expected: str) -> None:
    assert shown(letter) == expected


@given(st.lists(PIECES | st.sampled_from([b"<", b">", b"<style>", b"<!--", b"&#xD800;", b"&lt;", b"\xe2\x80\xae"])))
def test_any_letter_has_a_preview_on_one_line(pieces: list[bytes]) -> None:
    for start in (b"", PAGE):
        text = shown(start + b"".join(pieces))
        assert len(text) <= MAX_PREVIEW
        assert len(text.splitlines()) <= 1
        assert text == text.strip()
        text.encode()
