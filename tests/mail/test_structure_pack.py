# SPDX-License-Identifier: Apache-2.0
"""The column that keeps a structure: what was packed comes back, anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.structure import Part, Span, parse
from posthouse.mail.structure_pack import pack, unpack
from tests.mail.test_sections import FORWARDED, IN_LETTER, SIMPLE
from tests.mail.test_structure import LETTER, PIECES, nested


@pytest.mark.parametrize("letter", [b"", SIMPLE, LETTER, FORWARDED, IN_LETTER, nested(100)])
def test_what_was_packed_comes_back(letter: bytes) -> None:
    part = parse(letter)
    assert unpack(pack(part)) == part


def test_it_is_small() -> None:
    assert len(pack(parse(SIMPLE))) < 70
    assert len(pack(parse(LETTER))) < 400


def test_a_letter_of_more_than_four_gigabytes_has_wide_offsets() -> None:
    part = parse(SIMPLE)._replace(body=Span(14, 5 << 32))
    assert unpack(pack(part)) == part


@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_any_structure_comes_back(letter: bytes) -> None:
    assert unpack(pack(parse(letter))) == parse(letter)


@pytest.mark.parametrize(
    "part",
    [
        parse(SIMPLE)._replace(id=b"a\0b"),
        parse(SIMPLE)._replace(parameters=((b"a", b"b"),) * 300),
        parse(SIMPLE)._replace(lines=-1),
    ],
)
def test_what_no_letter_has_is_refused(part: Part) -> None:
    with pytest.raises(ValueError, match=r"structure"):
        pack(part)


PACKED = pack(parse(FORWARDED))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x01",
        b"\x03" + PACKED[1:],
        b"\x01\x00\x00",
        b"\x01\xff\xff",
        *(PACKED[:size] for size in (3, 20, len(PACKED) // 2)),
        PACKED + b"\0more",
        PACKED.replace(b"multipart", b"multiPART", 1),
        PACKED[:1] + b"\x00\x01" + PACKED[3:],
        PACKED[:4] + b"\x00\x01" + PACKED[6:],
        PACKED[:4] + b"\xff\xff" + PACKED[6:],
    ],
)
def test_anything_else_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"packed"):
        unpack(packed)


@given(st.binary(max_size=200) | st.tuples(st.integers(0, len(PACKED)), st.binary(max_size=4)).map(
    lambda change: PACKED[: change[0]] + change[1] + PACKED[change[0] + len(change[1]) :]
))  # fmt: skip
def test_any_octets_are_a_structure_or_refused(packed: bytes) -> None:
    try:
        part = unpack(packed)
    except ValueError:
        return
    assert unpack(pack(part)) == part
