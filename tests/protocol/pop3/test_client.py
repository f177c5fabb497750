# SPDX-License-Identifier: Apache-2.0
"""Pop3Client against scripted servers, against Pop3Server, and octet by octet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.engine import LocalProtocolError, RemoteProtocolError, Signal
from posthouse.protocol.pop3 import client as client_module
from posthouse.protocol.pop3.client import Answer, Challenge, Pop3Client
from tests.transcripts.pop3_session import LETTERS, Pop3Script

GREETING = b"+OK ready\r\n"


def greeted() -> Pop3Client:
    client = Pop3Client()
    client.receive_data(GREETING)
    assert client.next_event() == Answer(is_ok=True, code=None, text="ready")
    return client


def converse(client: Pop3Client, script: Pop3Script, piece: int) -> list[Answer | Challenge]:
    """Carry octets both ways in pieces until neither has more to say."""
    heard: list[Answer | Challenge] = []
    while True:
        while not isinstance(event := script.engine.next_event(), Signal):
            script.answer(event)
        to_client = b"".join(script.engine.data_to_send())
        for start in range(0, len(to_client), piece):
            client.receive_data(to_client[start : start + piece])
            while not isinstance(said := client.next_event(), Signal):
                heard.append(said)
        to_server = b"".join(client.data_to_send())
        if not to_server:
            return heard
        for start in range(0, len(to_server), piece):
            script.engine.receive_data(to_server[start : start + piece])
            while not isinstance(event := script.engine.next_event(), Signal):
                script.answer(event)


@pytest.mark.parametrize("piece", [1, 3, 100_000])
def test_client_and_server_understand_each_other(piece: int) -> None:
    client, script = Pop3Client(), Pop3Script({}, [])
    converse(client, script, piece)
    client.user("alice@alice.test")
    client.password("open sesame")
    client.stat()
    client.sizes()
    client.unique_ids()
    client.retrieve(1)
    client.retrieve(2)
    client.retrieve(3)
    client.top(1, 1)
    client.delete(1)
    client.command("NOOP")
    client.quit()
    heard = [answer for answer in converse(client, script, piece) if isinstance(answer, Answer)]
    assert [answer.is_ok for answer in heard] == [True] * 7 + [False] + [True] * 4
    bodies = [answer.body for answer in heard if answer.body is not None]
    assert bodies == [
        b"1 38\r\n2 36\r\n3 24\r\n",
        b"1 a1\r\n2 b2\r\n3 c3\r\n",
        LETTERS[0],
        LETTERS[1],
        b"Subject: one\r\n\r\nfirst\r\n",
    ]
    assert heard[7].code == "UTF8"
    assert script.deleted == {1}


def test_authentication_with_challenge() -> None:
    client, script = Pop3Client(), Pop3Script({}, [])
    converse(client, script, 5)
    client.auth("PLAIN")
    assert converse(client, script, 5) == [Challenge(b"")]
    client.respond(b"\0alice@alice.test\0open sesame")
    assert converse(client, script, 5) == [Answer(is_ok=True, code=None, text="3 messages")]


def test_cancelled_authentication() -> None:
    client, script = Pop3Client(), Pop3Script({}, [])
    converse(client, script, 5)
    client.auth("PLAIN")
    converse(client, script, 5)
    client.cancel()
    [answer] = converse(client, script, 5)
    assert isinstance(answer, Answer)
    assert not answer.is_ok


def test_stls_throws_away_what_was_said_in_the_clear() -> None:
    client = greeted()
    client.start_tls()
    client.receive_data(b"+OK go\r\n+OK injected\r\n")
    assert client.next_event() is Signal.START_TLS
    client.tls_started()
    client.stat()
    assert client.next_event() is Signal.NEED_DATA


@given(st.lists(st.sampled_from([b".", b"..", b"", b"a", b".a"]), max_size=8), st.integers(1, 9))
def test_bodies_survive_the_way(lines: list[bytes], piece: int) -> None:
    body = b"".join(line + b"\r\n" for line in lines)
    stuffed = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
    client = greeted()
    client.retrieve(1)
    octets = b"+OK letter\r\n" + stuffed + b".\r\n"
    heard = []
    for start in range(0, len(octets), piece):
        client.receive_data(octets[start : start + piece])
        while not isinstance(event := client.next_event(), Signal):
            heard.append(event)
    assert heard == [Answer(is_ok=True, code=None, text="letter", body=body)]


@pytest.mark.parametrize(
    "octets",
    [
        b"220 smtp.example.test ESMTP\r\n",
        b"* OK IMAP4rev1\r\n",
        b"x" * (client_module.MAX_LINE + 1),
    ],
)
def test_other_protocols_are_not_guessed_at(octets: bytes) -> None:
    client = Pop3Client()
    client.receive_data(octets)
    with pytest.raises(RemoteProtocolError):
        client.next_event()


def test_answers_that_nobody_asked_for() -> None:
    client = greeted()
    client.receive_data(b"+OK again\r\n")
    with pytest.raises(RemoteProtocolError):
        client.next_event()


def test_server_that_goes_away_in_a_letter() -> None:
    client = greeted()
    client.retrieve(1)
    client.receive_data(b"+OK letter\r\nhalf")
    assert client.next_event() is Signal.NEED_DATA
    client.receive_data(b"")
    with pytest.raises(RemoteProtocolError):
        client.next_event()


def test_body_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_BODY", 1000)
    client = greeted()
    client.retrieve(1)
    client.receive_data(b"+OK letter\r\n" + b"x" * 1001)
    with pytest.raises(RemoteProtocolError):
        client.next_event()


@pytest.mark.parametrize("line", ["NOOP\r\nQUIT", "USER a\0b", "X" * 300])
def test_commands_that_are_none(line: str) -> None:
    with pytest.raises(LocalProtocolError):
        greeted().command(line)
