# SPDX-License-Identifier: Apache-2.0
"""Sections by number and name, and choices of header fields (RFC 9051 §6.4.5.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.sections import Kind, find, header_fields, leaf, span
from posthouse.mail.structure import parse

SIMPLE = b"Subject: x\r\n\r\nHello\r\n"
FORWARDED = (
    b"Subject: outer\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\none\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: inner\r\n\r\ninner text\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: both\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n"
    b"--i\r\n\r\nplain\r\n--i\r\nContent-Type: text/html\r\n\r\n<p>\r\n--i--\r\n--b--\r\n"
)
IN_LETTER = b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner text\r\n"


def section(letter: bytes, path: tuple[int, ...], kind: Kind = Kind.WHOLE) -> bytes | None:
    found = span(parse(letter), path, kind)
    return None if found is None else letter[found.start : found.end]


@pytest.mark.parametrize(
    ("letter", "path", "kind", "expected"),
    [
        (SIMPLE, (), Kind.WHOLE, SIMPLE),
        (SIMPLE, (), Kind.HEADER, b"Subject: x\r\n\r\n"),
        (SIMPLE, (), Kind.TEXT, b"Hello\r\n"),
        (SIMPLE, (), Kind.MIME, None),
        (SIMPLE, (1,), Kind.WHOLE, b"Hello\r\n"),
        (SIMPLE, (1,), Kind.MIME, b"Subject: x\r\n\r\n"),
        (SIMPLE, (1,), Kind.HEADER, None),
        (SIMPLE, (1,), Kind.TEXT, None),
        (SIMPLE, (2,), Kind.WHOLE, None),
        (SIMPLE, (1, 1), Kind.WHOLE, None),
        (SIMPLE, (0,), Kind.WHOLE, None),
        (FORWARDED, (), Kind.WHOLE, FORWARDED),
        (FORWARDED, (1,), Kind.WHOLE, b"one"),
        (FORWARDED, (1,), Kind.MIME, b"\r\n"),
        (FORWARDED, (1, 1), Kind.WHOLE, None),
        (FORWARDED, (2,), Kind.WHOLE, b"Subject: inner\r\n\r\ninner text"),
        (FORWARDED, (2,), Kind.MIME, b"Content-Type: message/rfc822\r\n\r\n"),
        (FORWARDED, (2,), Kind.HEADER, b"Subject: inner\r\n\r\n"),
        (FORWARDED, (2,), Kind.TEXT, b"inner text"),
        (FORWARDED, (2, 1), Kind.WHOLE, b"inner text"),
        (FORWARDED, (2, 1), Kind.MIME, b"Subject: inner\r\n\r\n"),
        (FORWARDED, (2, 1), Kind.TEXT, None),
        (FORWARDED, (2, 2), Kind.WHOLE, None),
        (FORWARDED, (2, 1, 1), Kind.WHOLE, None),
        (FORWARDED, (3, 1), Kind.WHOLE, b"plain"),
        (FORWARDED, (3, 2), Kind.WHOLE, b"<p>"),
        (FORWARDED, (3, 2), Kind.MIME, b"Content-Type: text/html\r\n\r\n"),
        (FORWARDED, (3, 3), Kind.WHOLE, None),
        (FORWARDED, (4,), Kind.WHOLE, None),
        (IN_LETTER, (1,), Kind.WHOLE, b"Subject: inner\r\n\r\ninner text\r\n"),
        (IN_LETTER, (1,), Kind.HEADER, b"Subject: inner\r\n\r\n"),
        (IN_LETTER, (1,), Kind.MIME, b"Content-Type: message/rfc822\r\n\r\n"),
        (IN_LETTER, (1, 1), Kind.WHOLE, b"inner text\r\n"),
        (IN_LETTER, (1, 1, 1), Kind.WHOLE, None),
        (b"", (), Kind.WHOLE, b""),
        (b"", (1,), Kind.WHOLE, b""),
    ],
)
def test_sections(letter: bytes, path: tuple[int, ...], kind: Kind, expected: bytes | None) -> None:
    assert section(letter, path, kind) == expected


def test_no_numbers_mean_the_whole_letter() -> None:
    root = parse(FORWARDED)
    assert find(root, ()) is root


def test_binary_is_of_leaves() -> None:
    root = parse(FORWARDED)
    assert leaf(root, (1,)) is root.children[0]
    assert leaf(root, ()) is None
    assert leaf(root, (2,)) is None
    assert leaf(root, (2, 1)) is root.children[1].children[0]
    assert leaf(root, (9,)) is None


HEADER = (
    b"Received: a\r\n\tb\r\nFrom: alice\r\nno field\r\nTO : bob\r\nSubject: x\r\n y\r\nreceived: c\r\nX-From: z\r\n\r\n"
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([b"From"], b"From: alice\r\n\r\n"),
        ([b"RECEIVED", b"from"], b"Received: a\r\n\tb\r\nFrom: alice\r\nreceived: c\r\n\r\n"),
        ([b"to"], b"TO : bob\r\n\r\n"),
        ([b"Fro", b"Subject "], b"\r\n"),
        ([b""], b"no field\r\n\r\n"),
        ([], b"\r\n"),
    ],
)
def test_fields_are_chosen_by_their_whole_names(names: list[bytes], expected: bytes) -> None:
    assert header_fields(HEADER, names) == expected


def test_the_other_fields_are_all_the_rest_in_order() -> None:
    chosen = header_fields(HEADER, [b"received", b"subject"], others=True)
    assert chosen == b"From: alice\r\nno field\r\nTO : bob\r\nX-From: z\r\n\r\n"
    assert header_fields(HEADER, [], others=True) == HEADER


@pytest.mark.parametrize("header", [b"", b"A: 1", b"A: 1\r\n", b"A: 1\r\nB: 2"])
def test_no_empty_line_is_told_where_there_is_none(header: bytes) -> None:
    """RFC 9051 §6.4.5.1: a message that has no body and no blank line."""
    assert header_fields(header, [b"x"]) == b""
    assert header_fields(header, [b"x"], others=True) == header


def test_an_empty_header_is_its_empty_line() -> None:
    assert header_fields(b"\r\n", [b"a"]) == header_fields(b"\r\n", [b"a"], others=True) == b"\r\n"


def test_a_header_longer_than_any_limit_is_told_whole() -> None:
    header = b"X: " + b"x" * 300_000 + b"\r\nFrom: a\r\nno field\r\nTo: b\r\n\r\n"
    assert header_fields(header, [b"from"]) == b"From: a\r\n\r\n"
    assert header_fields(header, [b"x"], others=True) == b"From: a\r\nno field\r\nTo: b\r\n\r\n"


PIECES = [b"From", b"to", b"X.y", b":", b": ", b" ", b"\t", b"\r\n", b"\r\n ", b"\r", b"\n", b"a%", b"\0", b"From: a"]
NAMES = [b"FROM", b"To", b"x.y", b"a%", b"a b", b"From "]


@given(
    st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    st.booleans(),
)
def test_fields_are_found_by_their_names_as_by_taking_all_apart(header: bytes, names: list[bytes], ends: bool) -> None:
    """A few names are looked for, many are not: with more of them the header is taken apart."""
    header += b"\r\n\r\n" if ends else b""
    others = [b"other%d" % number for number in range(50)]
    assert header_fields(header, names) == header_fields(header, names + others)
