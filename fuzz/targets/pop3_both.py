# SPDX-License-Identifier: Apache-2.0
"""Our POP3 client reads letters from our POP3 server: each arrives octet for octet, however both streams are cut."""

from __future__ import annotations

from random import Random

from fuzz.choices import Choices, pieces
from fuzz.pop3_house import House, has_dot_lines
from fuzz.smtp_house import NAME, PASSWORD
from posthouse.protocol.engine import Signal
from posthouse.protocol.pop3.client import Answer, Pop3Client
from posthouse.protocol.pop3.server import Pop3Server

DICTIONARY = "content.dict"
MAX_TURNS = 100_000


def target(data: bytes) -> None:
    choices = Choices(data)
    chance = choices.chance()
    retrieve(choices.rest.split(b"<next>"), chance)


def retrieve(letters: list[bytes], chance: Random) -> None:
    """One session that reads every letter."""
    house = House(Pop3Server(), letters=[pieces(letter, chance) or [b""] for letter in letters])
    client = Pop3Client()
    client.user(NAME)
    client.password(PASSWORD)
    client.stat()
    client.sizes()
    for number, letter in enumerate(letters, 1):
        client.retrieve(number)
        client.top(number, chance.randrange(5))
        if chance.random() < 0.3:
            client.delete(number)
        assert has_dot_lines(letter) == (b"\r\n." in b"\r\n" + letter)
    client.quit()
    answers = _run(client, house, chance)
    assert all(answer.is_ok for answer in answers), "a command of ours is refused"
    bodies = [answer.body for answer in answers if answer.body is not None]
    for letter, body in zip(letters, bodies[1::2], strict=True):
        assert body == (letter if letter.endswith(b"\r\n") or not letter else letter + b"\r\n"), "the letter changed"


def _run(client: Pop3Client, house: House, chance: Random) -> list[Answer]:
    answers: list[Answer] = []
    for _ in range(MAX_TURNS):
        for piece in pieces(b"".join(client.data_to_send()), chance):
            house.engine.receive_data(piece)
            house.pump()
        signal = house.pump()
        for piece in pieces(house.take_said(), chance):
            client.receive_data(piece)
        if signal is Signal.CLOSE:
            client.receive_data(b"")
        while isinstance(event := client.next_event(), Answer):
            answers.append(event)
        if event is Signal.CLOSE:
            return answers
        assert event is Signal.NEED_DATA
    raise AssertionError("the conversation does not end")
