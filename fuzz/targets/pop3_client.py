# SPDX-License-Identifier: Apache-2.0
"""Whatever a server says to the POP3 client engine: an answer or RemoteProtocolError, however it is cut."""

from __future__ import annotations

from fuzz.choices import Choices, pieces
from posthouse.protocol.engine import LocalProtocolError, RemoteProtocolError, Signal
from posthouse.protocol.pop3.client import MAX_COMMAND_LINE, Answer, Challenge, Pop3Client

DICTIONARY = "pop3.dict"
MAX_SIZE = 10_000  # beyond the longest line


def target(data: bytes) -> None:
    choices = Choices(data)
    script = choices.octets(20)
    word = choices.text(40)
    chance = choices.chance()
    once = _play(script, word, [choices.rest])
    assert once == _play(script, word, pieces(choices.rest, chance)), "what is heard depends on how it is cut"


def _play(script: bytes, word: str, cut: list[bytes]) -> list[object]:
    client = Pop3Client()
    heard: list[object] = []
    for code in script:
        _say(client, code, word)
    for octets in client.data_to_send():
        assert len(octets) <= MAX_COMMAND_LINE
        assert bytes(octets).count(b"\r\n") == 1, "a command is one line"
    for piece in [*cut, b""]:
        if piece or piece is cut[-1] if cut else False:
            client.receive_data(piece)
        if not _listen(client, heard):
            return heard
    client.receive_data(b"")
    _listen(client, heard)
    return heard


def _listen(client: Pop3Client, heard: list[object]) -> bool:
    while True:
        try:
            event = client.next_event()
        except RemoteProtocolError:
            heard.append("fault")
            return False
        match event:
            case Signal.NEED_DATA:
                return True
            case Signal.CLOSE:
                return False
            case Signal.START_TLS:
                client.tls_started()
                heard.append("tls")
                return False  # what comes now comes within TLS
            case Challenge():
                client.respond(b"response")
            case Answer(body=body):
                assert body is None or not body or body.endswith(b"\r\n"), "a body is lines"
        heard.append(event)


def _say(client: Pop3Client, code: int, word: str) -> None:
    try:
        match code % 9:
            case 0:
                client.user(word)
            case 1:
                client.auth("PLAIN", word.encode() if code & 16 else None)
            case 2:
                client.capabilities()
            case 3:
                client.retrieve(code)
            case 4:
                client.sizes()
            case 5:
                client.start_tls()
            case 6:
                client.command(word)
            case 7:
                client.unique_ids()
            case _:
                client.stat()
    except LocalProtocolError:
        pass  # the word is none that can be said
