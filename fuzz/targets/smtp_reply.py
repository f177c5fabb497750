# SPDX-License-Identifier: Apache-2.0
"""The reply parser: the same replies however they are cut, and what it reads it can say again."""

from __future__ import annotations

from fuzz.choices import Choices, pieces
from posthouse.protocol.engine import RemoteProtocolError
from posthouse.protocol.smtp.client_offer import parse_offer
from posthouse.protocol.smtp.client_outcomes import Host, rcpt_status, status_of
from posthouse.protocol.smtp.replies import Reply
from posthouse.protocol.smtp.reply_parser import ReplyParser

DICTIONARY = "smtp_replies.dict"


def target(data: bytes) -> None:
    choices = Choices(data)
    chance = choices.chance()
    once, fault = _read([choices.rest])
    assert (once, fault) == _read(pieces(choices.rest, chance)), "what is read depends on how the network cuts it"
    for reply in once:
        said = Host("mail.bob.test").said(reply, "RCPT TO")
        said.diagnostic.encode()
        assert reply.status is None or status_of(reply).cls in (2, 4, 5)
        rcpt_status(reply)
        offer = parse_offer(reply)
        assert offer.max_size is None or offer.max_size > 0
        str(offer.limits), str(offer.mechanisms)
        parser = ReplyParser()
        parser.feed(reply.encode())
        again = parser.next_reply()
        assert again is not None
        assert (again.code, len(again.lines)) == (reply.code, len(reply.lines)), "a reply changes when it is said again"


def _read(cut: list[bytes]) -> tuple[list[Reply], bool]:
    parser = ReplyParser()
    found: list[Reply] = []
    for piece in cut:
        parser.feed(piece)
        try:
            while (reply := parser.next_reply()) is not None:
                found.append(reply)
        except RemoteProtocolError:
            return found, True
    return found, False
