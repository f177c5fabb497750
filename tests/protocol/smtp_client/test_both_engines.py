# SPDX-License-Identifier: Apache-2.0
"""Our client against our server, without a socket: what one says the other understands, octet for octet."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.address import Address, Domain, parse_address
from posthouse.mail.envelope import BodyType, DsnReturn, Envelope, ForwardPath, Notify, ReversePath
from posthouse.outcome import Outcome
from posthouse.ports import Buffer
from posthouse.protocol.engine import Signal
from posthouse.protocol.smtp import events as said
from posthouse.protocol.smtp.client import SmtpClient
from posthouse.protocol.smtp.client_content import BDAT_CHUNK, BDAT_WORTHWHILE
from posthouse.protocol.smtp.client_events import LetterDone, SessionReady
from posthouse.protocol.smtp.extensions import Mode
from posthouse.protocol.smtp.replies import Reply
from posthouse.protocol.smtp.server import SmtpServer
from tests.protocol.smtp_client.script import TLS, client

OK = Reply.of(250, (2, 0, 0), "ok")


class World:
    """Both engines, joined by memory."""

    def __init__(
        self, smtp_client: SmtpClient, *, mode: Mode = Mode.MX, at_once: int = 0, offers_tls: bool = False
    ) -> None:
        self.client = smtp_client
        self.server = SmtpServer(hostname="mx.bob.test", mode=mode, offers_tls=offers_tls)
        self.at_once = at_once
        self.path: ReversePath | None = None
        self.paths: list[ForwardPath] = []
        self.content = b""
        self.refused: set[str] = set()
        self.is_over = False

    def run(self) -> list[object]:
        """Turn by turn, until nobody has anything to say; the client's events."""
        events: list[object] = []
        while True:
            events += self._client()
            out = self._move(self.client, self.server)
            self._server()
            if not out and not self._move(self.server, self.client):
                events += self._client()
                return events

    def _move(self, giver: SmtpClient | SmtpServer, taker: SmtpClient | SmtpServer) -> bool:
        moved = False
        while buffers := giver.data_to_send():
            octets = b"".join(bytes(buffer) for buffer in buffers)
            step = self.at_once or len(octets)
            for start in range(0, len(octets), step):
                taker.receive_data(octets[start : start + step])
                if taker is self.server:
                    self._server()
            moved = True
        return moved

    def _client(self) -> list[object]:
        events: list[object] = []
        while (event := self.client.next_event()) not in (Signal.NEED_DATA, Signal.CLOSE):
            if event is Signal.START_TLS:
                self.client.tls_started(TLS)
            else:
                events.append(event)
        return events

    def _server(self) -> None:
        while True:
            event = self.server.next_event()
            match event:
                case Signal.START_TLS:
                    self.server.tls_started(TLS)
                case Signal():
                    return
                case said.Opened():
                    self.server.send(Reply.of(220, None, "mx.bob.test ESMTP"))
                case said.Hello():
                    self.server.accept_hello()
                case said.MailFrom(path):
                    self.path, self.paths, self.content = path, [], b""
                    self.server.send(OK)
                case said.RcptTo(path):
                    if path.address.local_part in self.refused:
                        self.server.send(Reply.of(550, (5, 1, 1), "who?"))
                    else:
                        self.paths.append(path)
                        self.server.send(OK)
                case said.DataStart():
                    self.server.send(Reply.of(354, None, "go"))
                case said.BodyChunk(data):
                    self.content += data
                case said.StartTls():
                    self.server.send(Reply.of(220, (2, 0, 0), "go"))
                case said.Quit():
                    self.server.send(Reply.of(221, (2, 0, 0), "bye"))
                case said.MessageBad(reply) | said.CommandError(reply):
                    self.server.send(reply)
                case said.Disconnected():
                    return
                case _:
                    self.server.send(OK)

    def letter(self, envelope: Envelope, content: list[Buffer]) -> tuple[Outcome, ...]:
        self.client.begin(envelope, content)
        [event] = self.run()
        assert isinstance(event, LetterDone)
        return event.outcomes


def world(*, is_lmtp: bool = False, at_once: int = 0, offers_tls: bool = False) -> World:
    mode = Mode.LMTP if is_lmtp else Mode.MX
    one = World(client(is_lmtp=is_lmtp), mode=mode, at_once=at_once, offers_tls=offers_tls)
    [event] = one.run()
    assert isinstance(event, SessionReady)
    return one


local_parts = st.one_of(
    st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~\-]{1,8}(\.[a-z]{1,4})?", fullmatch=True),
    st.text(st.characters(codec="ascii", min_codepoint=0x20, exclude_characters="\x7f"), min_size=1, max_size=12),
    st.sampled_from(["bøb", "鮑勃"]),
)
addresses = st.builds(
    Address, local_parts, st.sampled_from(["bob.test", "bücher.test", "[192.0.2.7]"]).map(Domain.parse)
)
notifies = (
    st.none()
    | st.just(Notify.NEVER)
    | st.lists(st.sampled_from([Notify.SUCCESS, Notify.FAILURE, Notify.DELAY]), min_size=1).map(
        lambda flags: flags[0] | flags[-1]
    )
)
originals = st.none() | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20).map(
    lambda text: f"rfc822;{text}"
)
paths = st.builds(ForwardPath, addresses, notifies, originals)
envelope_ids = st.none() | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)
reverse_paths = st.builds(
    ReversePath, st.none() | addresses, dsn_return=st.none() | st.sampled_from(DsnReturn), envelope_id=envelope_ids
)
contents = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"x", "ø".encode(), b"x" * 70]), max_size=20).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)


@given(reverse_paths, st.lists(paths, min_size=1, max_size=5), contents, st.sampled_from([0, 1, 7]), st.booleans())
def test_what_is_sent_is_what_is_received(
    reverse: ReversePath, forward: list[ForwardPath], content: bytes, at_once: int, is_lmtp: bool
) -> None:
    is_wide = any(not address.is_ascii for address in [path.address for path in forward] + [reverse.address] if address)
    reverse = replace(reverse, smtputf8=is_wide)
    one = world(is_lmtp=is_lmtp, at_once=at_once)
    for _ in range(2):
        outcomes = one.letter(Envelope(reverse, tuple(forward)), [content[:5], memoryview(content)[5:]])
        assert [str(outcome.status) for outcome in outcomes] == ["2.0.0"] * len(forward), outcomes
        assert one.content == content
        assert one.paths == forward
        body = BodyType.SEVEN_BIT if content.isascii() else BodyType.EIGHT_BIT
        assert one.path == replace(reverse, size=len(content), body=body)


@pytest.mark.parametrize("size", [BDAT_WORTHWHILE, BDAT_CHUNK, 2 * BDAT_CHUNK + 1000])
def test_bdat(size: int) -> None:
    content = (b".x" + b"y" * 74 + b"\r\n") * (size // 78)
    content += b"z" * (size - len(content) - 2) + b"\r\n"
    one = world()
    outcomes = one.letter(Envelope(ReversePath(None), (ForwardPath(parse_address("bob@bob.test")),)), [content])
    assert [str(outcome.status) for outcome in outcomes] == ["2.0.0"]
    assert one.content == content


def test_some_recipients_none_and_then_the_next_letter() -> None:
    one = world(offers_tls=True)
    assert one.client.tls == TLS
    one.refused = {"bob"}
    bob, carol = (ForwardPath(parse_address(text)) for text in ("bob@bob.test", "carol@bob.test"))
    for recipients, expected in (((bob, carol), ["5.1.1", "2.0.0"]), ((bob,), ["5.1.1"]), ((carol,), ["2.0.0"])):
        outcomes = one.letter(Envelope(ReversePath(None), recipients), [b"Subject: x\r\n\r\n"])
        assert [str(outcome.status) for outcome in outcomes] == expected
    one.client.quit()
    assert one.run() == []
    assert one.client.next_event() is Signal.CLOSE
    assert one.server.next_event() is Signal.CLOSE
