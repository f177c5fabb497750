# SPDX-License-Identifier: Apache-2.0
"""Surrogates of international letters (RFC 6858, RFC 6857): ASCII, readable, and no address of somebody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail import downgrade
from posthouse.mail.address_list import parse_address_list
from posthouse.mail.downgrade import surrogate
from posthouse.mail.encoded_word import decode_header_text
from posthouse.mail.header import MAX_HEADER, scan_header

NOBODY = "<invalid@internationalized-address.invalid>"
TEAM = "=?utf-8?q?T=C3=ABam?="


def one(field: str) -> str:
    """The field's surrogate, unfolded, without its line end."""
    made = surrogate(f"{field}\r\n\r\n".encode())
    assert made.endswith(b"\r\n\r\n") or made == b"\r\n"
    return made.removesuffix(b"\r\n").decode("ascii").replace("\r\n ", " ").removesuffix("\r\n")


def test_ascii_stays_octet_for_octet() -> None:
    """Signatures of ordinary letters stay valid."""
    header = b"From:  a@b.test\r\nX: folded\r\n\tas it is \r\nno field at all\r\n\r\n"
    assert surrogate(header) is header


def test_ascii_fields_beside_others_stay_octet_for_octet() -> None:
    header = "From:  a@b.test\r\nSubject: 你好\r\nX: folded\r\n\tas it is \r\n\r\n".encode()
    made = surrogate(header)
    assert made.startswith(b"From:  a@b.test\r\nSubject: ")
    assert made.endswith(b"\r\nX: folded\r\n\tas it is \r\n\r\n")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("From: Fred Foo <fréd@b.test>", f"From: =?utf-8?q?Fred_Foo_fr=C3=A9d=40b=2Etest?= {NOBODY}"),
        ("From: fréd@b.test", f"From: =?utf-8?q?fr=C3=A9d=40b=2Etest?= {NOBODY}"),
        # RFC 6857 §3.1.6: a domain has an ASCII form that names the same host.
        ("Sender: fred@exämple.test", "Sender: <fred@xn--exmple-cua.test>"),
        ("To: Fréd <fred@b.test>, x@y.test", "To: =?utf-8?q?Fr=C3=A9d?= <fred@b.test>, <x@y.test>"),
        ("Cc: Tëam: a@b.test, ä@b.test;", f"Cc: {TEAM}: <a@b.test>, =?utf-8?q?=C3=A4=40b=2Etest?= {NOBODY};"),
        ("Resent-To: nobody é", f"Resent-To: =?utf-8?q?nobody_=C3=A9?= {NOBODY}"),
        ("Return-Path: <fréd@b.test>", f"Return-Path: {NOBODY}"),
        ("Return-Path: <fred@exämple.test>", "Return-Path: <fred@xn--exmple-cua.test>"),
        ("Subject: né =?utf-8?q?=C3=A9?= xyz uvw", "Subject: =?utf-8?q?n=C3=A9_=C3=A9_xyz_uvw?="),
        ("Content-Type: text/x; charset=utf-8; name=é", "Content-Type: text/x; charset=utf-8; name*=utf-8''%C3%A9"),
        ('Content-Type: a/b; name="a\\"é;b"', "Content-Type: a/b; name*=utf-8''a%22%C3%A9%3Bb"),
        # Said by RFC 2231 already: once is enough.
        ("Content-Disposition: a; filename=é; filename*=utf-8''x", "Content-Disposition: a; filename*=utf-8''x"),
    ],
)  # fmt: skip
def test_what_can_be_said_in_ascii(field: str, expected: str) -> None:
    assert one(field) == expected


@pytest.mark.parametrize(
    "field",
    [
        "Message-ID: <é@b.test>",
        "Received: from a for <é@b.test>; Mon, 1 Jan 2024 00:00:00 +0000",
        "Delivered-To: é@b.test",
        "X-Anything: é",
        "Content-Type: text/é; charset=utf-8",
        "no field é",
        "é: x",
    ],
)
def test_what_cannot_is_left_out(field: str) -> None:
    """RFC 6858 §2.4."""
    assert one(field) == ""


def test_a_long_file_name_comes_in_sections() -> None:
    """RFC 2231 §3, so that no line is over 998 octets."""
    made = surrogate(f"Content-Disposition: attachment; filename={'é' * 400}\r\n\r\n".encode())
    assert b"filename*0*=utf-8''%C3%A9" in made
    assert b"filename*16*=%C3%A9" in made
    assert max(map(len, made.split(b"\r\n"))) < 998


def test_old_eight_bit_text_becomes_readable() -> None:
    assert one_of(b"Subject: caf\xe9\r\n\r\n", b"subject") == "café"


def one_of(header: bytes, name: bytes) -> str:
    value = scan_header(surrogate(header)).get(name)
    assert value is not None
    return decode_header_text(value)


def test_a_header_without_its_empty_line_gets_none() -> None:
    assert surrogate("Subject: é\r\n".encode()) == b"Subject: =?utf-8?b?w6k=?=\r\n"


def test_no_more_is_rewritten_than_is_cheap() -> None:
    line = "Subject: é\r\n".encode()
    made = surrogate(line * 10_000 + b"X: y\r\n\r\n")
    assert made.count(b"Subject") == downgrade.MAX_REWRITTEN // len(line)


def test_of_a_header_beyond_bounds_the_begin_is_sent() -> None:
    header = b"Subject: \xc3\xa9\r\n" + b"X: y\r\n" * MAX_HEADER + b"\r\n"
    made = surrogate(header)
    assert len(made) <= MAX_HEADER + 100
    assert made.endswith(b"X: y\r\n\r\n")


NAMES = st.sampled_from(["From", "To", "Subject", "Content-Type", "Return-Path", "X-Any", "é", "no field"])
TEXT = st.text(st.sampled_from("aé你 \t<>@.,;:\"\\()=?*'\x00\r\n😀"), max_size=40)


@given(st.lists(st.tuples(NAMES, TEXT), max_size=6))
def test_any_header_becomes_ascii_fields(fields: list[tuple[str, str]]) -> None:
    """ASCII, one empty line at the end and nowhere else, no address that was not there."""
    header = "".join(f"{name}: {text}\r\n" for name, text in fields).encode()
    while b"\r\n\r\n" in header:
        header = header.replace(b"\r\n\r\n", b"\r\n")
    header = header.removeprefix(b"\r\n") + b"\r\n"
    made = surrogate(header)
    assert made.isascii()
    assert made.endswith(b"\r\n")
    assert b"\r\n\r\n" not in made[:-2]
    before, after = addresses_of(header), addresses_of(made)
    assert after <= before | {NOBODY[1:-1]}


def addresses_of(header: bytes) -> set[str]:
    scan = scan_header(header)
    values = [value for name in (b"from", b"to", b"return-path") for value in scan.all(name)]
    return {str(each.address) for value in values for each in parse_address_list(value).flat() if each.address}
