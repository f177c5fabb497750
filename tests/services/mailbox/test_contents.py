# SPDX-License-Identifier: Apache-2.0
"""Sections of a stored letter: with what was put before it they are the letter, octet by octet."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.decoding import UnknownEncodingError, decoded
from posthouse.mail.header import scan_header
from posthouse.mail.sections import Kind
from posthouse.mail.structure import Part, parse
from posthouse.services.mailbox.contents import Extract, Letter

PREFIX = b"Return-Path: <a@b.test>\r\nReceived: x\r\n"
SAMPLES = sorted((Path(__file__).parents[2] / "data" / "mime").rglob("*.*"))


def letter_of(content: bytes, *, header_size: int | None = None, prefix: bytes = PREFIX) -> Letter:
    size = scan_header(content).header_size if header_size is None else header_size
    letter = Letter(1, prefix, memoryview(content), size)
    letter.structure = letter.parse()
    return letter


def octets(found: Extract | None) -> bytes | None:
    return None if found is None else found.before + bytes(found.rest)


@given(st.binary(max_size=9), st.binary(max_size=9), st.integers(0, 25), st.integers(1, 25))
def test_a_piece_of_an_extract_is_that_of_its_octets(before: bytes, rest: bytes, offset: int, count: int) -> None:
    found = Extract(before, rest).cut(offset, count)
    assert found.before + bytes(found.rest) == (before + rest)[offset : offset + count]
    assert found.size == len(found.before + found.rest)


def test_there_are_samples() -> None:
    assert len(SAMPLES) > 20


def paths(part: Part, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Part]]:
    """Numbers of all parts, as RFC 9051 §6.4.5.1 gives them."""
    found = []
    members = part.children if part.is_multipart else (part,)
    for number, each in enumerate(members, 1):
        here = (*path, number)
        found.append((here, each))
        if each.is_multipart:
            found += paths(each, here)
        elif each.holds_letter:
            found += paths(each.children[0], here)
    return found


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_sections_of_any_letter_are_its_octets(sample: Path) -> None:
    content = sample.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    letter = letter_of(content)
    whole = PREFIX + content
    assert octets(letter.section((), Kind.WHOLE)) == whole
    header, text = octets(letter.section((), Kind.HEADER)), octets(letter.section((), Kind.TEXT))
    assert header is not None
    assert text is not None
    assert header + text == whole
    assert letter.header == header
    assert letter.section((), Kind.MIME) is None
    root = parse(content)
    for path, part in paths(root):
        assert octets(letter.section(path, Kind.WHOLE)) == content[part.body.start : part.body.end]
        mime = octets(letter.section(path, Kind.MIME))
        assert mime == (header if part is root else content[part.header.start : part.header.end])
        if part.holds_letter:
            inner = part.children[0]
            assert octets(letter.section(path, Kind.HEADER)) == content[inner.header.start : inner.header.end]
            assert octets(letter.section(path, Kind.TEXT)) == content[inner.body.start : inner.body.end]
        else:
            assert letter.section(path, Kind.HEADER) is None
            assert letter.section(path, Kind.TEXT) is None
            assert letter.fields(path, [b"subject"], others=False) is None
        if part.children:
            assert octets(letter.decoded(path)) == content[part.body.start : part.body.end]
            assert not letter.encoded_size(path)
            continue
        try:
            expected = decoded(part, content)
        except UnknownEncodingError:
            with pytest.raises(UnknownEncodingError):
                letter.decoded(path)
        else:
            assert octets(letter.decoded(path)) == expected


def test_a_body_alone_is_all_text() -> None:
    """The header is what was put before it, with the empty line."""
    letter = letter_of(b"=C3=A9t\xc3\xa9\r\n", header_size=0, prefix=PREFIX + b"\r\n")
    assert letter.lacks_header
    for path, kind in (((), Kind.TEXT), ((1,), Kind.WHOLE)):
        assert octets(letter.section(path, kind)) == b"=C3=A9t\xc3\xa9\r\n"
    for path, kind in (((), Kind.HEADER), ((1,), Kind.MIME)):
        assert octets(letter.section(path, kind)) == PREFIX + b"\r\n"
    assert octets(letter.decoded((1,))) == b"=C3=A9t\xc3\xa9\r\n"
    assert letter.fields((), [b"return-path"], others=False) == b"Return-Path: <a@b.test>\r\n\r\n"
    assert letter.preview() == "=C3=A9té"


def test_there_is_no_part_behind_the_last() -> None:
    letter = letter_of(b"Subject: x\r\n\r\ny")
    assert letter.section((2,), Kind.WHOLE) is None
    assert letter.decoded((1, 1)) is None
    assert letter.encoded_size((2,)) == letter.encoded_size(()) == 0
