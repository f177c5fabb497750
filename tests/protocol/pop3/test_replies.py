# SPDX-License-Identifier: Apache-2.0
"""Dot-stuffing on whole buffers against its definition line by line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.pop3 import replies
from posthouse.protocol.pop3.replies import ROWS, numbered, stuffed

ALPHABET = st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"\r\n.", b"a"])


def by_the_line(octets: bytes) -> bytes:
    """RFC 1939 §3, literally."""
    if not octets.endswith(b"\r\n") and octets:
        octets += b"\r\n"
    lines = octets.split(b"\r\n")[:-1]
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines) + b".\r\n"


@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
@given(chunks=st.lists(st.lists(ALPHABET, max_size=12).map(b"".join), max_size=5))
def test_stuffing_does_not_depend_on_where_the_buffers_end(piece: int, chunks: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replies, "PIECE", piece)
        sent = b"".join(stuffed([memoryview(chunk) for chunk in chunks], has_dot_lines=True))
    assert sent == by_the_line(b"".join(chunks))


def test_pieces_without_dots_are_views() -> None:
    """Only what must change is copied."""
    octets = b"a\r\n" * 200_000 + b".\r\n" + b"b\r\n" * 200_000
    parts = list(stuffed([octets], has_dot_lines=True))
    assert sum(isinstance(part, memoryview) for part in parts) >= len(parts) - 3
    assert b"".join(parts) == by_the_line(octets)


def test_a_letter_of_empty_lines_costs_no_loop() -> None:
    """A sender chooses the content: a million empty lines are a million octets and nothing more."""
    octets = b".\r\n" + b"\r\n" * 500_000
    assert b"".join(stuffed([octets], has_dot_lines=True)) == by_the_line(octets)


@pytest.mark.parametrize("count", [0, 1, 2, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS, 100_000])
def test_listings_of_any_length(count: int) -> None:
    """A line per letter and the end mark, however they are cut; no piece grows with the maildrop."""
    pieces = list(numbered(b"%d e%x", ((number, number * 999) for number in range(1, count + 1))))
    expected = b"".join(b"%d e%x\r\n" % (number, number * 999) for number in range(1, count + 1)) + b".\r\n"
    assert b"".join(pieces) == expected
    assert max(map(len, pieces)) <= ROWS * 32
