# SPDX-License-Identifier: Apache-2.0
"""Whatever a client says to the POP3 server engine: no exception, bounded memory, the same story however it is cut."""

from __future__ import annotations

from fuzz.choices import Choices, pieces
from fuzz.pop3_house import House, feed
from posthouse.protocol.engine import Signal
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
