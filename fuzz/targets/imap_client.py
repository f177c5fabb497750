# SPDX-License-Identifier: Apache-2.0
"""Whatever a server says to the IMAP client engine: responses or RemoteProtocolError, however it is cut."""

from __future__ import annotations

from fuzz.choices import Choices, pieces
from posthouse.protocol.engine import LocalProtocolError, RemoteProtocolError, Signal
from posthouse.protocol.imap.client import Challenge, Idling, ImapClient
from posthouse.protocol.imap.client_words import Literal, astring

DICTIONARY = "imap_responses.dict"


def target(data: bytes) -> None:
    choices = Choices(data)
    script = choices.octets(12)
    word = choices.text(40)
    chance = choices.chance()
    once = _play(script, word, [choices.rest])
    assert once == _play(script, word, pieces(choices.rest, chance)), "what is heard depends on how it is cut"


def _play(script: bytes, word: str, cut: list[bytes]) -> tuple[list[object], bytes]:
    client = ImapClient()
    heard: list[object] = []
    for code in script:
        _say(client, code, word)
    for piece in cut:
        if piece:
            client.receive_data(piece)
        if not _listen(client, heard):
            return heard, b"".join(client.data_to_send())
    client.receive_data(b"")
    _listen(client, heard)
    return heard, b"".join(client.data_to_send())


def _listen(client: ImapClient, heard: list[object]) -> bool:
    while True:
        try:
            event = client.next_event()
        except RemoteProtocolError:
            heard.append("fault")
            return False
        match event:
            case Signal.NEED_DATA:
                return True
            case Signal():
                heard.append(event)
                return False
            case Challenge():
                client.respond(b"response")
            case Idling():
                client.done()
            case _:
                pass
        heard.append(event)


def _say(client: ImapClient, code: int, word: str) -> None:
    try:
        match code % 9:
            case 0:
                client.login(word, word)
            case 1:
                client.authenticate("PLAIN", word.encode() if code & 16 else None)
            case 2:
                client.select(word)
            case 3:
                client.append(word, word.encode() or b"x")
            case 4:
                client.fetch("1:*", "FLAGS")
            case 5:
                client.start_tls()
            case 6:
                client.command("SEARCH", "TEXT", astring(word))
            case 7:
                client.command("X", Literal(word.encode(), is_binary=True))
            case _:
                client.idle()
    except LocalProtocolError:
        pass  # the word is none that can be said, or not now
