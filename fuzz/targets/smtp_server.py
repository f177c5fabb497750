# SPDX-License-Identifier: Apache-2.0
"""Whatever a client says to the SMTP server engine: no exception, bounded memory, the same story however it is cut.

The input is the client's octets, `<TLS>` where they go on within TLS, then the settings.
"""

from __future__ import annotations

from fuzz.choices import Choices, pieces
from fuzz.smtp_house import House, drawn_engine, feed
from posthouse.protocol.engine import RemoteProtocolError, Signal
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
    ending = choices.number(4)
    chance = choices.chance()
    house = House(engine, choices.octets(8))
    plain, _, secured = choices.rest.partition(b"<TLS>")
    if is_cut:
        feed(house, pieces(plain, chance), pieces(secured, chance))
    else:
        feed(house, [plain] if plain else [], [secured] if secured else [])
    match ending:
        case 0:
            engine.receive_data(b"")
        case 1:
            engine.timed_out()
        case 2:
            engine.shut_down()
        case _:
            return house
    last = house.pump()
    assert last is Signal.CLOSE or ending == 2, "the session does not end"
    return house


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
