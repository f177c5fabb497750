# SPDX-License-Identifier: Apache-2.0
"""Our IMAP client and our IMAP server: names, passwords, searches and letters arrive octet for octet, both ways,
however both streams are cut, compressed or not.
"""

from __future__ import annotations

from random import Random

from fuzz.choices import Choices, pieces
from fuzz.imap_house import House
from fuzz.smtp_house import NAME, PASSWORD
from posthouse.mail.search import InText
from posthouse.protocol.engine import Signal
from posthouse.protocol.imap import events as ev
from posthouse.protocol.imap.admission import Terms
from posthouse.protocol.imap.client import Fetched, ImapClient, Status
from posthouse.protocol.imap.client_words import astring
from posthouse.protocol.imap.server import ImapServer

DICTIONARY = "content.dict"
MAX_TURNS = 100_000
SECTION = "BODY[]"


def target(data: bytes) -> None:
    choices = Choices(data)
    is_compressed = choices.flag()
    terms = Terms(literal_minus=choices.flag())
    name = "".join(character for character in choices.text(30) if character.isprintable())
    chance = choices.chance()
    converse(choices.rest, name, chance, terms, is_compressed=is_compressed)


def converse(letter: bytes, name: str, chance: Random, terms: Terms, *, is_compressed: bool = False) -> None:
    """One session that stores the letter, looks for it and reads it."""
    house = House(ImapServer(terms), letter=letter)
    client = ImapClient()
    heard = _run(client, house, chance)
    client.login(NAME, PASSWORD)
    heard += _run(client, house, chance)
    if is_compressed:
        client.compress()
        heard += _run(client, house, chance)
    client.select("INBOX")
    client.append(name, letter or b"x")
    client.command("SEARCH", "TEXT", astring(name))
    client.fetch("1", f"UID {SECTION} BODYSTRUCTURE BINARY[1]")
    client.logout()
    heard += _run(client, house, chance)
    kinds = [event.kind for event in heard if isinstance(event, Status) and event.tag is not None]
    assert set(kinds) == {"OK"}, "a command of ours is refused"
    assert house.letters == [letter or b"x"], "the letter changed on its way in"
    for event in house.heard:
        if isinstance(event, ev.MessageStart):
            assert event.mailbox.upper() == name.upper(), "the name changed"
        if isinstance(event, ev.Search):
            assert event.key == InText(name), "the text changed"
    fetched = [event for event in heard if isinstance(event, Fetched)]
    assert [event.items[SECTION] for event in fetched] == [letter], "the letter changed on its way out"
    assert [event.items["BINARY[1]"] for event in fetched] == [letter]


def _run(client: ImapClient, house: House, chance: Random) -> list[object]:
    heard: list[object] = []
    engine = house.engine
    for _ in range(MAX_TURNS):
        said = b"".join(client.data_to_send())
        answer = b""
        for piece in pieces(said, chance):
            engine.receive_data(piece)
            answer += _pump(house)
        answer += _pump(house)
        for piece in pieces(answer, chance):
            client.receive_data(piece)
            heard += _listen(client)
        if not answer and not said:
            return heard
    raise AssertionError("the conversation does not end")


def _pump(house: House) -> bytes:
    """What the server says, as it goes out."""
    out: list[bytes] = []
    while True:
        event = house.engine.next_event()
        out += map(bytes, house.engine.data_to_send())
        if event is Signal.MORE:
            continue
        if isinstance(event, Signal):
            return b"".join(out)
        house.hear(event)


def _listen(client: ImapClient) -> list[object]:
    heard: list[object] = []
    while not isinstance(event := client.next_event(), Signal):
        heard.append(event)
    return heard
