# SPDX-License-Identifier: Apache-2.0
"""Whatever a client says to the POP3 server engine: no exception, bounded memory, the same story however it is cut."""

from __future__ import annotations

from functools import partial

from fuzz.choices import Choices
from fuzz.pop3_house import House
from fuzz.server_session import play
from posthouse.protocol.pop3.server import Pop3Server

DICTIONARY = "pop3.dict"


def target(data: bytes) -> None:
    once = _play(data, is_cut=False)
    again = _play(data, is_cut=True)
    assert once.heard == again.heard, "what is understood depends on how the network cuts it"
    assert once.said == again.said
    assert once.deleted == again.deleted


def _play(data: bytes, *, is_cut: bool) -> House:
    choices = Choices(data)
    bits = choices.number(256)
    engine = Pop3Server(offers_tls=bits & 1 == 1, requires_tls=bits & 2 == 2)
    return play(choices, engine, partial(House, engine), is_cut=is_cut)
