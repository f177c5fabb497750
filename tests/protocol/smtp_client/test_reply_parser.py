# SPDX-License-Identifier: Apache-2.0
"""Replies of servers: well formed ones become values, the others an error, within limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.outcome import Status
from posthouse.protocol.engine import RemoteProtocolError
from posthouse.protocol.smtp.replies import Reply
from posthouse.protocol.smtp.reply_parser import (
    MAX_REPLY_LINE,
    MAX_REPLY_LINES,
    MAX_REPLY_TEXT,
    ReplyParser,
    remote_reply,
)


def parse(octets: bytes, at_once: int = 0) -> list[Reply]:
    parser = ReplyParser()
    replies: list[Reply] = []
    step = at_once or max(1, len(octets))
    for start in range(0, len(octets), step):
        parser.feed(octets[start : start + step])
        while (reply := parser.next_reply()) is not None:
            replies.append(reply)
    return replies


WELL_FORMED = [
    (b"220 mx.bob.test ESMTP\r\n", Reply(220, None, ("mx.bob.test ESMTP",))),
    (b"250\r\n", Reply(250, None, ("",))),
    (b"250 \r\n", Reply(250, None, ("",))),
    (b"250-\r\n250 x\r\n", Reply(250, None, ("", "x"))),
    (b"250 2.1.5 Ok\r\n", Reply(250, Status(2, 1, 5), ("Ok",))),
    (b"550 5.1.1\r\n", Reply(550, Status(5, 1, 1), ("",))),
    (b"550-5.7.1 one\r\n550 5.7.1 two\r\n", Reply(550, Status(5, 7, 1), ("one", "two"))),
    (b"550-5.7.1 one\r\n550 two\r\n", Reply(550, Status(5, 7, 1), ("one", "two"))),
    (b"250 2.1.5. is a sentence\r\n", Reply(250, None, ("2.1.5. is a sentence",))),
    (b"250 3.1.5 no such class\r\n", Reply(250, None, ("3.1.5 no such class",))),
    (b"354 go\r\n", Reply(354, None, ("go",))),
    (b"550 a\tb\rc\x00d\r\n", Reply(550, None, ("a b c d",))),
    (b"550 caf\xc3\xa9 \xff\r\n", Reply(550, None, ("café \ufffd",))),
]


@pytest.mark.parametrize("at_once", [0, 1, 2, 7])
@pytest.mark.parametrize(("octets", "reply"), WELL_FORMED)
def test_replies_are_read_however_they_are_cut(octets: bytes, reply: Reply, at_once: int) -> None:
    assert parse(octets * 2, at_once) == [reply, reply]


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"\r\n",
        b"25 short\r\n",
        b"2500 long\r\n",
        b"150 class 1 is not SMTP\r\n",
        b"650 class 6 neither\r\n",
        b"250_x\r\n",
        b"250-one\r\n550 two\r\n",
        b"250-one\r\nnothing\r\n",
        b"250 bare LF\n",
        b"\n",
        b"250 " + b"x" * MAX_REPLY_LINE + b"\r\n",
        b"x" * (MAX_REPLY_LINE + 1),
        b"250-x\r\n" * (MAX_REPLY_LINES + 1),
    ],
)
@pytest.mark.parametrize("at_once", [0, 1])
def test_what_is_no_reply_is_an_error_and_never_a_guess(octets: bytes, at_once: int) -> None:
    with pytest.raises(RemoteProtocolError):
        parse(octets, at_once)


def test_the_longest_allowed_reply_is_read() -> None:
    line = b"x" * (MAX_REPLY_LINE - 6)
    octets = (b"250-" + line + b"\r\n") * (MAX_REPLY_LINES - 1) + b"250 " + line + b"\r\n"
    [reply] = parse(octets)
    assert len(reply.lines) == MAX_REPLY_LINES


def test_discard_forgets_half_a_reply_too() -> None:
    """STARTTLS: nothing of what was heard before it may be completed after it."""
    parser = ReplyParser()
    parser.feed(b"220 go\r\n250-evil\r\n250 ha")
    assert parser.next_reply() is not None
    assert parser.next_reply() is None
    assert parser.has_unread
    parser.discard()
    assert not parser.has_unread
    parser.feed(b"250 mx\r\n")
    assert parser.next_reply() == Reply(250, None, ("mx",))


def test_kept_text_is_one_line_of_bounded_length() -> None:
    kept = remote_reply(Reply(550, Status(5, 7, 1), ("x" * 900, "", "y" * 900)))
    assert len(kept.text) == MAX_REPLY_TEXT
    assert kept.text.startswith("x" * 900 + " y")


texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_categories=("Cc", "Cs", "Z"))).map(
    str.strip
)


@given(
    st.integers(200, 599),
    st.none() | st.builds(Status, st.sampled_from([2, 4, 5]), st.integers(0, 999), st.integers(0, 999)),
    st.lists(texts, min_size=1, max_size=8),
    st.integers(1, 20),
)
def test_encoded_replies_come_back(code: int, status: Status | None, lines: list[str], at_once: int) -> None:
    reply = Reply(code, status, tuple(lines))
    [read] = parse(reply.encode(), at_once)
    assert (read.code, read.lines) == (code, reply.lines)
    assert read.status == status


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_octets_give_replies_or_the_one_error(octets: bytes, at_once: int) -> None:
    def outcome(step: int) -> object:
        try:
            return parse(octets, step)
        except RemoteProtocolError:
            return "error"

    assert outcome(at_once) == outcome(0)
