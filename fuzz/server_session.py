# SPDX-License-Identifier: Apache-2.0
"""One session of a client that says whatever the input says, with the house around a server engine.

The input is the client's octets, `<TLS>` where they go on within TLS, then the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from fuzz.choices import Choices, pieces
from fuzz.smtp_house import TLS
from posthouse.protocol.engine import Engine, Signal


class ServerHouse(Protocol):
    """Answers every event of its engine at once."""

    wants_tls: bool

    def pump(self) -> Signal: ...

    def check_hoard(self) -> None:
        """An engine that wants octets holds no more than a line of them."""


H = TypeVar("H", bound=ServerHouse)


def play(choices: Choices, engine: Engine[Any], open_house: Callable[[bytes], H], *, is_cut: bool) -> H:
    """To its end, or as far as the input goes; `is_cut`: its octets come as a network might cut them."""
    ending = choices.number(4)
    chance = choices.chance()
    house = open_house(choices.octets(8))
    plain, _, secured = choices.rest.partition(b"<TLS>")
    if is_cut:
        _feed(house, engine, pieces(plain, chance), pieces(secured, chance))
    else:
        _feed(house, engine, [plain] if plain else [], [secured] if secured else [])
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


def _feed(house: ServerHouse, engine: Engine[Any], plain: Sequence[bytes], secured: Sequence[bytes]) -> None:
    """Octets piece by piece; those of `secured` after a handshake, where there is one."""
    house.pump()
    if not _all_taken(house, engine, plain) or not house.wants_tls:
        return
    engine.tls_started(TLS)
    _all_taken(house, engine, secured)


def _all_taken(house: ServerHouse, engine: Engine[Any], octets: Sequence[bytes]) -> bool:
    for piece in octets:
        engine.receive_data(piece)
        if house.pump() is Signal.CLOSE:
            return False
        house.check_hoard()
    return True
