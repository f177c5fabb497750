# SPDX-License-Identifier: Apache-2.0
"""Transfer encodings and charsets: what they say, and what can be saved of damaged ones."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.decoding import UnknownEncodingError, decode, decoded, decoded_text
from posthouse.mail.structure import parse


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"SGVsbG8=", b"Hello"),
        (b"SGVs\r\nbG8=\r\n", b"Hello"),
        (b"SGVsbG8", b"Hello"),  # the padding is missing
        (b"SGVsbG8===", b"Hello"),
        (b"SGVsbA", b"Hell"),
        (b"SGVsbG8=\r\n-- \r\nfooter of a list\r\n", b"Hello"),
        (b"SGVs *\xff!bG8", b"Hello"),
        (b"SGVsb", b"Hel"),  # a stray digit
        (b"S", b""),
        (b"", b""),
        (b"\r\n", b""),
        (b"====", b""),
    ],
)
def test_base64(octets: bytes, expected: bytes) -> None:
    assert decode(octets, b"base64") == expected
    assert decode(memoryview(octets), b"base64") == expected


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"a=20b=3dc", b"a b=c"),
        (b"caf=C3=A9\r\n", b"caf\xc3\xa9\r\n"),
        (b"a=\r\nb", b"ab"),
        (b"a= \t\r\nb", b"ab"),  # blanks were added on the way (RFC 2045 §6.7)
        (b"a \t\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a ", b"a"),
        (b"a=20\r\nb", b"a \r\nb"),
        (b"a=XYb", b"a=XYb"),
        (b"a=2", b"a=2"),
        (b"a=", b"a"),
        (b"a=\rb\r\nc", b"a=\rb\r\nc"),
        (b"a_b", b"a_b"),
        (b"caf\xe9", b"caf\xe9"),
        (b"", b""),
    ],
)
def test_quoted_printable(octets: bytes, expected: bytes) -> None:
    assert decode(octets, b"quoted-printable") == expected


@given(st.binary(max_size=300))
def test_what_was_encoded_comes_back(octets: bytes) -> None:
    assert decode(base64.encodebytes(octets).replace(b"\n", b"\r\n"), b"base64") == octets
    quoted = quopri.encodestring(octets.replace(b"\n", b"").replace(b"\r", b"")).replace(b"\n", b"\r\n")
    assert decode(quoted, b"quoted-printable") == octets.replace(b"\n", b"").replace(b"\r", b"")


@given(st.binary(max_size=300))
def test_nothing_stops_a_decoder(octets: bytes) -> None:
    assert len(decode(octets, b"base64")) <= len(octets)
    assert len(decode(octets, b"quoted-printable")) <= len(octets)


@pytest.mark.parametrize("name", [b"7bit", b"8bit", b"binary"])
def test_encodings_that_change_nothing(name: bytes) -> None:
    assert decode(bytearray(b"a\0=20\n"), name) == b"a\0=20\n"


def test_an_encoding_that_nobody_knows_is_told() -> None:
    letter = b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n"
    with pytest.raises(UnknownEncodingError, match="x-uuencode"):
        decoded(parse(letter), letter)
    assert decoded_text(parse(letter), letter) == "begin 644 x\r\n"


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        (b"Content-Type: text/plain", b"a\nb\r\nc", b"a\r\nb\r\nc"),
        (b"Content-Type: text/plain; charset=utf-8", b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"Content-Type: text/plain; charset=utf-16", b"a\0\n\0", b"a\0\n\0"),
        (b"Content-Type: text/plain; charset=x-strange", b"\n", b"\r\n"),
        (b"Content-Type: application/x", b"a\nb", b"a\nb"),
    ],
)
def test_lines_of_decoded_text_end_in_crlf(header: bytes, body: bytes, expected: bytes) -> None:
    """RFC 9051 §7.5.2: whatever the sender encoded."""
    letter = header + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(body)
    assert decoded(parse(letter), letter) == expected
    plain = header + b"\r\n\r\n" + body
    assert decoded(parse(plain), memoryview(plain)) == body, "what stands in the letter is not changed"


def text_of(charset: bytes, octets: bytes, most: int | None = None) -> str:
    label = b"; charset=" + charset if charset else b""
    letter = b"Content-Type: text/plain" + label + b"\r\n\r\n" + octets
    return decoded_text(parse(letter), letter, most=most)


@pytest.mark.parametrize(
    ("charset", "octets", "expected"),
    [
        (b"utf-8", "café 你好".encode(), "café 你好"),
        (b"iso-8859-1", b"caf\xe9", "café"),
        (b"gb2312", "你好".encode("gb18030"), "你好"),
        (b"us-ascii", "你好".encode(), "你好"),  # a lie that many programs tell
        (b"", "你好".encode(), "你好"),
        (b"", b"caf\xe9", "café"),
        (b"x-strange", "你好".encode(), "你好"),
        (b"utf-8", b"caf\xe9", "caf\ufffd"),
        (b"UTF-16", "你好".encode("utf-16"), "你好"),
        (b"utf-16", b"\xfe\xff" + "你好".encode("utf-16-be"), "你好"),
        (b"utf-16", "你好".encode("utf-16-le"), "你好"),
        (b"utf-16be", "你好".encode("utf-16-be"), "你好"),
        (b"utf-32", "你好".encode("utf-32"), "你好"),
        (b"utf-16le", b"\x60\x4f\x00\xd8", "你\ufffd"),
    ],
)
def test_charsets(charset: bytes, octets: bytes, expected: str) -> None:
    assert text_of(charset, octets) == expected


@pytest.mark.parametrize(
    ("charset", "octets", "most", "expected"),
    [
        (b"utf-8", "é é".encode(), 1, ""),
        (b"utf-8", "é é".encode(), 4, "é "),
        (b"", "你好".encode(), 5, "你"),
        (b"us-ascii", "你好".encode(), 5, "你"),
        (b"gb2312", "你好".encode("gb18030"), 3, "你"),
        (b"utf-16", "你好".encode("utf-16"), 5, "你"),
        (b"iso-8859-1", b"caf\xe9 x", 5, "café "),
        (b"", b"caf\xe9 x", 5, "café "),
        (b"x-strange", "你好".encode(), 5, "你"),
        (b"utf-8", b"caf\xe9 x", 5, "caf\ufffd "),
        (b"utf-8", b"whole", 5, "whole"),
        (b"utf-16le", b"\x60\x4f\x00\xd8\x60\x4f\x00", 6, "你\ufffd你"),
    ],
)
def test_the_beginning_of_a_text_ends_with_a_whole_character(
    charset: bytes, octets: bytes, most: int, expected: str
) -> None:
    assert text_of(charset, octets, most) == expected


def test_the_beginning_of_an_encoded_text() -> None:
    body = base64.b64encode("你好世界".encode())
    letter = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body
    assert decoded_text(parse(letter), letter, most=7) == "你"
    assert decoded_text(parse(letter), letter) == "你好世界"
