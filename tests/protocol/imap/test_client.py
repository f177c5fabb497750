# SPDX-License-Identifier: Apache-2.0
"""The client engine: against scripted servers, and against our own server engine, however the octets are cut."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from posthouse.protocol.engine import LocalProtocolError, RemoteProtocolError, Signal
from posthouse.protocol.imap import events as ev
from posthouse.protocol.imap.client import Challenge, Event, Fetched, Idling, ImapClient, Status, Untagged
from posthouse.protocol.imap.client_words import Literal, astring, raw
from tests.protocol.imap.script import TLS, Script, log_of

GREETING = b"* OK [CAPABILITY IMAP4rev1 LITERAL+] ready\r\n"


@pytest.fixture(params=[0, 1, 3], ids=lambda piece: f"pieces-{piece}")
def piece(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def said(client: ImapClient) -> bytes:
    return b"".join(client.data_to_send())


def hear(client: ImapClient, octets: bytes, piece: int = 0) -> list[Event | Signal]:
    """Events until more octets are needed."""
    found: list[Event | Signal] = []
    size = piece or max(len(octets), 1)
    for start in range(0, len(octets), size):
        client.receive_data(octets[start : start + size])
        while (event := client.next_event()) is not Signal.NEED_DATA:
            found.append(event)
            if isinstance(event, Signal):
                break
    return found


def greeted(greeting: bytes = b"* OK ready\r\n") -> ImapClient:
    client = ImapClient()
    hear(client, greeting)
    return client


def test_greeting_and_codes(piece: int) -> None:
    client = ImapClient()
    assert hear(client, GREETING, piece) == [Status(None, "OK", "CAPABILITY IMAP4rev1 LITERAL+", "ready")]
    assert client.capabilities == {"IMAP4REV1", "LITERAL+"}


def test_responses(piece: int) -> None:
    client = greeted()
    client.command("NOOP")
    octets = (
        b"* 23 EXISTS\r\n* FLAGS (\\Seen $x)\r\n* OK [PERMANENTFLAGS (\\Seen \\*)] Limited {5}\r\n"
        b'* LIST (\\HasNoChildren) "/" "a \\"b"\r\n* SEARCH\r\n* SEARCH 1 2\r\n'
        b"* STATUS {3}\r\na b (MESSAGES 3)\r\n"
        b"* 2 FETCH (UID 7 BODY[HEADER.FIELDS (From To)]<0> {4}\r\nF: x FLAGS () ENVELOPE (NIL {1}\r\n\xe9 ((NIL)))"
        b" BINARY[1] ~{2}\r\n\0\0)\r\n"
        b"* VANISHED (EARLIER) 41,43:116\r\n* 9 UIDFETCH (FLAGS (\\Seen))\r\nc1 OK [X] done\r\n"
    )
    assert hear(client, octets, piece) == [
        Untagged("EXISTS", (), 23),
        Untagged("FLAGS", (("\\Seen", "$x"),)),
        Status(None, "OK", "PERMANENTFLAGS (\\Seen \\*)", "Limited {5}"),
        Untagged("LIST", (("\\HasNoChildren",), b"/", b'a "b')),
        Untagged("SEARCH", ()),
        Untagged("SEARCH", ("1", "2")),
        Untagged("STATUS", (b"a b", ("MESSAGES", "3"))),
        Fetched(
            2,
            {
                "UID": "7",
                "BODY[HEADER.FIELDS (FROM TO)]<0>": b"F: x",
                "FLAGS": (),
                "ENVELOPE": (None, b"\xe9", ((None,),)),
                "BINARY[1]": b"\0\0",
            },
        ),
        Untagged("VANISHED", (("EARLIER",), "41,43:116")),
        Fetched(9, {"FLAGS": ("\\Seen",)}, is_uid=True),
        Status("c1", "OK", "X", "done"),
    ]


def test_literals_wait_for_leave(piece: int) -> None:
    client = greeted()
    client.login("al\u00efce", "x\r\ny")
    client.command("NOOP")
    assert said(client) == b"c1 LOGIN {6}\r\n"
    hear(client, b"+ go\r\n", piece)
    assert said(client) == "al\u00efce {4}\r\n".encode()
    hear(client, b"+ \r\n", piece)
    assert said(client) == b"x\r\ny\r\nc2 NOOP\r\n"


def test_a_refused_literal_is_not_said() -> None:
    client = greeted()
    client.append("x", b"letter")
    client.command("NOOP")
    assert said(client) == b"c1 APPEND x () {6}\r\n"
    assert hear(client, b"c1 NO [TRYCREATE] no\r\n") == [Status("c1", "NO", "TRYCREATE", "no")]
    assert said(client) == b"c2 NOOP\r\n"


def test_literals_that_need_not_wait() -> None:
    client = greeted(GREETING)
    client.append("x", b"a" * 5000, flags=["\\Seen"], internal_date=datetime(2024, 1, 2, tzinfo=UTC))
    assert said(client) == b'c1 APPEND x (\\Seen) " 2-Jan-2024 00:00:00 +0000" {5000+}\r\n' + b"a" * 5000 + b"\r\n"
    client = greeted(b"* OK [CAPABILITY IMAP4rev2] ready\r\n")
    client.append("x", b"a" * 4096)
    client.append("x", b"a\0" * 2049)
    assert said(client).endswith(b"\r\nc2 APPEND x () ~{4098}\r\n")


def test_authenticate() -> None:
    client = greeted()
    client.authenticate("PLAIN")
    assert said(client) == b"c1 AUTHENTICATE PLAIN\r\n"
    assert hear(client, b"+ aGk=\r\n") == [Challenge(b"hi")]
    client.respond(b"\0a\0b")
    assert said(client) == b"AGEAYg==\r\n"
    with pytest.raises(LocalProtocolError):
        client.cancel()
    assert hear(client, b"c1 OK in\r\n") == [Status("c1", "OK", "", "in")]
    client.authenticate("EXTERNAL", b"")
    assert said(client) == b"c2 AUTHENTICATE EXTERNAL =\r\n"


def test_idle() -> None:
    client = greeted()
    client.idle()
    assert hear(client, b"+ idling\r\n* 3 EXISTS\r\n") == [Idling(), Untagged("EXISTS", (), 3)]
    with pytest.raises(LocalProtocolError):
        client.command("NOOP")
    client.done()
    assert said(client) == b"c1 IDLE\r\nDONE\r\n"
    with pytest.raises(LocalProtocolError):
        client.done()
    hear(client, b"c1 OK\r\n")
    client.command("NOOP")


def test_starttls_throws_away_what_was_injected() -> None:
    client = greeted(GREETING)
    client.start_tls()
    with pytest.raises(LocalProtocolError):
        client.compress()
    assert hear(client, b"c1 OK begin\r\n* BYE evil\r\n") == [Signal.START_TLS]
    client.tls_started()
    assert client.capabilities == frozenset()
    assert client.next_event() is Signal.NEED_DATA


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"* 1 EXISTS\r\n",
        b"* OK ready\r\nc9 OK what\r\n",
        b"* OK ready\r\n+ more\r\n",
        b"* OK ready\r\n* LIST (a\r\n",
        b"* OK ready\r\n* LIST a)\r\n",
        b'* OK ready\r\n* LIST "a\r\n',
        b"* OK ready\r\n* 1 FETCH (UID)\r\n",
        b"* OK ready\r\n* 1 FETCH (() 1)\r\n",
        b"* OK ready\r\n* 1 FETCH x\r\n",
        b"* OK ready\r\n* 1 FETCH (BODY[] {999999999999}\r\n",
        b"* OK ready\r\n* X " + b"(" * 1000 + b"\r\n",
    ],
)
def test_a_server_that_breaks_the_protocol(octets: bytes, piece: int) -> None:
    with pytest.raises(RemoteProtocolError):
        hear(ImapClient(), octets, piece)


def test_a_server_that_goes_in_between() -> None:
    client = greeted()
    client.logout()
    client.receive_data(b"")
    with pytest.raises(RemoteProtocolError):
        client.next_event()
    client = greeted()
    client.receive_data(b"")
    assert client.next_event() is Signal.CLOSE


@pytest.mark.parametrize("text", ["a\r\nb", "", "\u00e9", "x {5}", "a\0b"])
def test_words_cannot_end_a_command(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        raw(text)


def test_strings_are_dressed() -> None:
    assert astring("x") == b"x"
    assert astring('a "b') == b'"a \\"b"'
    assert astring("nil") == b'"nil"'
    assert astring("a\nb") == Literal(b"a\nb")
    with pytest.raises(LocalProtocolError):
        astring("a\0b")


def test_capabilities_are_learned_from_the_response_too() -> None:
    client = greeted(GREETING)
    hear(client, b"* CAPABILITY IMAP4rev1 IDLE\r\n")
    assert client.capabilities == {"IMAP4REV1", "IDLE"}
    assert client.wait_limit() is not None


def test_a_challenge_is_base64() -> None:
    client = greeted()
    client.authenticate("PLAIN")
    with pytest.raises(RemoteProtocolError):
        hear(client, b"+ !!\r\n")


def test_a_server_that_does_not_compress() -> None:
    client = greeted()
    client.compress()
    with pytest.raises(RemoteProtocolError):
        hear(client, b"c1 OK yes\r\n* 3 EXISTS\r\n")


# --- both engines --------------------------------------------------------------------------------------


class Pair:
    """Our client and our server, joined; streams cut in pieces."""

    def __init__(self, piece: int, *, offers_tls: bool = False) -> None:
        self.client = ImapClient()
        self.server = Script(offers_tls=offers_tls, piece=piece)
        self.piece = piece
        self.heard: list[Event | Signal] = []
        self.run()

    def run(self) -> list[Event | Signal]:
        """Until neither has more to say; what the client heard."""
        self.heard = []
        answer = self.server.said()
        while True:
            self.heard += hear(self.client, answer, self.piece) if answer else []
            octets = said(self.client)
            if not octets:
                return self.heard
            answer = self.server.say(octets)


def statuses(heard: list[Event | Signal]) -> list[tuple[str | None, str]]:
    return [(event.tag, event.kind) for event in heard if isinstance(event, Status)]


def test_a_whole_session(piece: int) -> None:
    pair = Pair(piece, offers_tls=True)
    client, server = pair.client, pair.server
    client.start_tls()
    assert pair.run() == [Signal.START_TLS]
    server.engine.tls_started(TLS)
    client.tls_started()
    client.login("alice", 'se"cr\u00e9t\r\n')
    client.select("Entw\u00fcrfe & mehr")
    client.append("x", b"one\0letter\r\n{3}\r\n", flags=["\\Seen"])
    client.fetch("1:*", "UID FLAGS BODY.PEEK[]")
    client.command("UID SEARCH", "TEXT", astring("\u4f60\u597d"))
    assert statuses(pair.run()) == [(f"c{number}", "OK") for number in range(2, 7)]
    client.idle()
    assert pair.run() == [Idling()]
    server.engine.tell([b"* 5 EXISTS\r\n"])
    client.done()
    assert pair.run() == [Untagged("EXISTS", (), 5), Status("c7", "OK", "", "done")]
    client.authenticate("PLAIN")
    assert statuses(pair.run()) == [("c8", "BAD")]
    client.logout()
    assert statuses(pair.run()) == [(None, "BYE"), ("c9", "OK")]
    kinds = [type(event) for event in log_of(server)]
    assert kinds == [
        ev.Opened, ev.StartTls, ev.Login, ev.Select, ev.MessageStart, ev.MessageChunk, ev.AppendEnd, ev.Fetch,
        ev.Search, ev.Idle, ev.IdleDone, ev.CommandError, ev.Logout,
    ]  # fmt: skip
    events = log_of(server)
    assert events[2] == ev.Login("alice", 'se"cr\u00e9t\r\n')
    assert events[3] == ev.Select("Entw\u00fcrfe & mehr", is_read_only=False)
    assert events[5] == ev.MessageChunk(b"one\0letter\r\n{3}\r\n")


def test_compressed_both_ways(piece: int) -> None:
    pair = Pair(piece)
    client = pair.client
    client.login("alice", "x")
    pair.run()
    client.compress()
    assert statuses(pair.run()) == [("c2", "OK")]
    client.append("x", b"letter " * 1000)
    client.command("NOOP")
    assert statuses(pair.run()) == [("c3", "OK"), ("c4", "OK")]
    chunks = [event.data for event in pair.server.events if isinstance(event, ev.MessageChunk)]
    assert b"".join(chunks) == b"letter " * 1000
    client.unauthenticate()
    assert statuses(pair.run()) == [("c5", "OK")]
    client.login("bob", "y")
    assert statuses(pair.run()) == [("c6", "OK")]
    assert not pair.server.engine.is_compressed


def test_an_exchange(piece: int) -> None:
    pair = Pair(piece)
    pair.client.authenticate("SCRAM-SHA-256")
    assert pair.run() == [Challenge(b"say on")]
    pair.client.respond(b"")
    assert statuses(pair.run()) == [("c1", "OK")]
