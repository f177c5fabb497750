# SPDX-License-Identifier: Apache-2.0
"""Whatever a client says to the SMTP server engine: no exception, bounded memory, the same story however it is cut."""

from __future__ import annotations

from functools import partial

from fuzz.choices import Choices
from fuzz.server_session import play
from fuzz.smtp_house import House, drawn_engine
from posthouse.protocol.engine import RemoteProtocolError
from posthouse.protocol.smtp.reply_parser import ReplyParser

DICTIONARY = "smtp.dict"
MAX_REPLY_LINE = 512  # octets with CRLF, RFC 5321 §4.5.3.1.5


def target(data: bytes) -> None:
    once = _play(data, is_cut=False)
    again = _play(data, is_cut=True)
    assert once.heard == again.heard, "what is understood depends on how the network cuts it"
    assert once.letters == again.letters
    assert once.said == again.said
    _check_replies(once.said)


def _play(data: bytes, *, is_cut: bool) -> House:
    choices = Choices(data)
    engine = drawn_engine(choices)
    return play(choices, engine, partial(House, engine), is_cut=is_cut)


def _check_replies(said: bytes) -> None:
    """Our own client must understand every word."""
    parser = ReplyParser()
    parser.feed(said)
    try:
        while parser.next_reply() is not None:
            pass
    except RemoteProtocolError as error:
        raise AssertionError(f"the server says what is no reply: {error}") from error
    assert not parser.has_unread, "a reply without its end"
    assert all(len(line) + 2 <= MAX_REPLY_LINE for line in said.split(b"\r\n")), "a reply line is too long"
