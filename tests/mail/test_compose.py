# SPDX-License-Identifier: Apache-2.0
"""Letters of our own: lines within limits, nothing injected, readable by another implementation."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.address import parse_address
from posthouse.mail.address_list import parse_address_list
from posthouse.mail.compose import (
    LINE_WIDTH,
    Part,
    address_field,
    field,
    message,
    multipart,
    structured_field,
    text_part,
)
from posthouse.mail.encoded_word import decode_header_text
from posthouse.mail.header import scan_header, unfold

ALICE = parse_address("alice@alice.test")


def _read(octets: bytes) -> EmailMessage:
    found = message_from_bytes(octets, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


@given(st.text(max_size=300))
def test_an_unstructured_field_is_one_field_in_short_lines(text: str) -> None:
    octets = field("Subject", text)
    scan = scan_header(octets + b"\r\n")
    assert [one.name for one in scan.fields] == [b"Subject"]
    assert octets.isascii()
    lines = octets.removesuffix(b"\r\n").split(b"\r\n")
    assert all(line.strip() for line in lines[1:])
    assert all(len(line) <= LINE_WIDTH or b" " not in line.strip() or line is lines[0] for line in lines)
    shown = "".join(char if char >= " " and char != "\x7f" else " " for char in text).encode("utf-8", "replace")
    if "=?" not in text:
        assert decode_header_text(scan.get(b"subject") or b"").split() == shown.decode().split()


@given(st.text(max_size=60))
def test_a_display_name_comes_back(name: str) -> None:
    octets = address_field("From", [(name, ALICE), ("", ALICE)])
    assert octets.isascii()
    found = parse_address_list(scan_header(octets + b"\r\n").get(b"from") or b"")
    shown = "".join(char if char >= " " and char != "\x7f" else " " for char in name).encode("utf-8", "replace")
    assert [member.address for member in found.flat()] == [ALICE, ALICE]
    if "=?" not in name:
        assert next(found.flat()).name.split() == shown.decode().split()


def test_a_value_cannot_end_its_field() -> None:
    assert structured_field("X", "a\r\nBcc: b\0") == b"X: a  Bcc: b\r\n"
    assert field("Subject", "a\r\nBcc: b") == b"Subject: a  Bcc: b\r\n"


def test_long_values_fold_at_blanks() -> None:
    octets = structured_field("References", " ".join(f"<{number:030}@example.test>" for number in range(5)))
    assert octets.count(b"\r\n ") == 4
    assert unfold(octets).count(b"<") == 5


@pytest.mark.parametrize(
    ("text", "eight_bit", "encoding"),
    [
        ("plain\n", False, "7bit"),
        ("Grüße aus Köln\n", False, "quoted-printable"),
        ("你好，世界\n" * 5, False, "base64"),
        ("你好\n", True, "8bit"),
        ("x" * 999, True, "quoted-printable"),
        ("nul\0", True, "quoted-printable"),
        ("", False, "7bit"),
    ],
)
def test_text_parts_choose_an_encoding_that_survives(text: str, *, eight_bit: bool, encoding: str) -> None:
    octets = message(b"Subject: x\r\n", text_part(text, may_use_eight_bit=eight_bit))
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert b"\n" not in octets.replace(b"\r\n", b"")
    found = _read(octets)
    assert found["content-transfer-encoding"] == encoding
    if "\0" not in text:
        assert found.get_content().rstrip("\r\n").replace("\r\n", "\n") == text.rstrip("\n")


@given(st.text(alphabet="a =.\n\r\tü你", max_size=200))
def test_any_text_comes_back(text: str) -> None:
    octets = message(b"", text_part(text))
    assert octets.isascii()
    wanted = text.replace("\r\n", "\n").replace("\r", "\n")
    assert _read(octets).get_content().replace("\r\n", "\n").rstrip("\n") == wanted.rstrip("\n")


def test_a_multipart_keeps_its_parts_apart() -> None:
    inner = multipart("alternative", [text_part("one"), text_part("<p>two", subtype="html")], "=_inner")
    octets = message(b"Subject: x\r\n", multipart("mixed", [inner, text_part("three")], "=_outer", preamble="MIME"))
    found = _read(octets)
    kinds = [part.get_content_type() for part in found.walk()]
    assert kinds == ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "text/plain"]
    assert not found.defects


@pytest.mark.parametrize("boundary", ["", "a b", "x" * 71, "a\r\nb", 'a"b', "used"])
def test_a_boundary_that_would_not_bound_is_refused(boundary: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        multipart("mixed", [Part(b"", b"--used\r\n")], boundary)
