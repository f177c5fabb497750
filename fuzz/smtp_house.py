# SPDX-License-Identifier: Apache-2.0
"""An SMTP server around our engine: answers every event at once, remembers what it heard and which letters it took.

Invariant: its answers depend on what was said and on its mood alone, never on how the network cut the octets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fuzz.choices import Choices
from posthouse.mail.envelope import ForwardPath, ReversePath
from posthouse.ports import TlsInfo
from posthouse.protocol.engine import Signal
from posthouse.protocol.sasl import SaslError, ScramSecrets
from posthouse.protocol.sasl.exchange import Challenge, PasswordGiven, Proven, SecretsWanted, ServerExchange
from posthouse.protocol.sasl.scram import derive
from posthouse.protocol.sasl.table import server_exchange
from posthouse.protocol.smtp import events as ev
from posthouse.protocol.smtp import table
from posthouse.protocol.smtp.extensions import Mode
from posthouse.protocol.smtp.replies import Reply
from posthouse.protocol.smtp.server import SmtpServer

TLS = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")
NAME, PASSWORD = "alice@alice.test", "pencil \u00e9"
NONCE = "3rfcNHYJY1ZVvWVs7j"
MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
_OK = Reply.of(250, (2, 0, 0), "OK")
_REFUSALS = (
    Reply.of(450, (4, 2, 0), "Later"),
    Reply.of(550, (5, 7, 1), "No"),
    Reply(554, None, ("No", "and no again")),
    Reply.of(421, (4, 3, 2), "Goodbye"),
    Reply.of(521, (5, 3, 2), "Never"),
)


@dataclass(frozen=True, slots=True)
class Letter:
    """What was accepted with 250."""

    reverse_path: ReversePath
    forward_paths: tuple[ForwardPath, ...]
    content: bytes


@lru_cache(maxsize=4)  # the slow part of SCRAM
def secrets(mechanism: str) -> ScramSecrets:
    return derive(mechanism, PASSWORD, b"salt of a fuzzer", 4096)


class House:
    """`mood`: octets that decide about refusals, used in turn; empty for a house that takes everything."""

    def __init__(self, engine: SmtpServer, mood: bytes = b"", mechanisms: tuple[str, ...] = MECHANISMS) -> None:
        self.engine = engine
        self.mechanisms = mechanisms
        self.heard: list[ev.Event] = []  # but content: of a bad one the first part may come or not
        self.letters: list[Letter] = []
        self.said = b""
        self.wants_tls = False
        self._mood = mood
        self._turn = 0
        self._sender: ReversePath | None = None
        self._recipients: list[ForwardPath] = []
        self._content = bytearray()
        self._exchange: ServerExchange | None = None

    def check_hoard(self) -> None:
        """An engine that wants octets holds no more than a line of them."""
        assert self.engine.unread_octets <= table.MAX_AUTH_LINE, f"{self.engine.unread_octets} octets are held"

    def pump(self) -> Signal:
        """Answer until the engine wants something else."""
        while True:
            event = self.engine.next_event()
            if isinstance(event, Signal):
                self.said += b"".join(self.engine.data_to_send())
                if event is Signal.START_TLS:
                    self.wants_tls = True
                    continue
                assert event is not Signal.PAUSED, "an event was left without its answer"
                return event
            self._remember(event)
            self._answer(event)

    def take_said(self) -> bytes:
        said, self.said = self.said, b""
        return said

    def _remember(self, event: ev.Event) -> None:
        if isinstance(event, ev.BodyChunk):
            assert event.data, "an empty piece of content"
            self._content += event.data
        else:
            self.heard.append(event)

    def _refusal(self) -> Reply | None:
        if not self._mood:
            return None
        mood = self._mood[self._turn % len(self._mood)]
        self._turn += 1
        return None if mood % 4 else _REFUSALS[mood // 4 % len(_REFUSALS)]

    def _answer(self, event: ev.Event) -> None:
        match event:
            case ev.BodyChunk() | ev.Disconnected():
                return
            case ev.MessageBad(reply):
                self._content.clear()
                self.engine.send(reply)
            case ev.CommandError(reply):
                self.engine.send(reply)
            case ev.AuthStart() | ev.AuthResponse():
                self._authenticate(event)
            case ev.MessageEnd(size):
                assert size == len(self._content), "the size is not that of the content"
                self._message()
            case _:
                refusal = self._refusal()
                if refusal is not None and not isinstance(event, ev.Opened):
                    self.engine.send(refusal)
                else:
                    self._agree(event)

    def _agree(self, event: ev.Event) -> None:
        send = self.engine.send
        match event:
            case ev.Opened():
                send(Reply(220, None, ("mail.example.test ready",)))
            case ev.Hello():
                self._forget()
                self.engine.accept_hello(self.mechanisms)
            case ev.MailFrom(path):
                self._forget()
                self._sender = path
                send(_OK)
            case ev.RcptTo(path):
                self._recipients.append(path)
                send(_OK)
            case ev.DataStart():
                send(Reply(354, None, ("Go on",)))
            case ev.StartTls():
                send(Reply.of(220, (2, 0, 0), "Go on"))
            case ev.Quit():
                send(Reply.of(221, (2, 0, 0), "Bye"))
            case ev.Help():
                send(Reply.of(214, (2, 0, 0), "RFC 5321"))
            case ev.Vrfy() | ev.Expn():
                send(Reply.of(550, (5, 1, 1), "Nobody"))
            case ev.Reset():
                self._forget()
                send(_OK)
            case _:
                send(_OK)

    def _forget(self) -> None:
        self._sender = None
        self._recipients = []
        self._content.clear()

    def _message(self) -> None:
        engine, content = self.engine, bytes(self._content)
        check_content(content)
        count = engine.accepted_recipients
        assert self._sender is not None
        assert count == len(self._recipients) > 0, "the engine and its session count recipients differently"
        replies = [self._refusal() or _OK for _ in range(count if engine.mode is Mode.LMTP else 1)]
        taken = [path for path, reply in zip(self._recipients, replies, strict=False) if reply is _OK]
        if engine.mode is not Mode.LMTP and replies == [_OK]:
            taken = self._recipients
        if engine.mode is Mode.LMTP and any(reply.code in table.FAREWELLS for reply in replies):
            replies, taken = [Reply.of(421, (4, 3, 2), "Goodbye")], []
            engine.send(replies[0])
        elif engine.mode is Mode.LMTP:
            engine.send_each(replies)
        else:
            engine.send(replies[0])
        if taken:
            self.letters.append(Letter(self._sender, tuple(taken), content))
        self._forget()

    def _authenticate(self, event: ev.AuthStart | ev.AuthResponse) -> None:
        try:
            if isinstance(event, ev.AuthStart):
                self._exchange = server_exchange(event.mechanism, NONCE)
                step = self._exchange.step(event.initial)
            else:
                assert self._exchange is not None
                step = self._exchange.step(event.data)
            if isinstance(step, SecretsWanted):
                step = self._exchange.secrets(secrets(self._exchange.mechanism))
        except SaslError:
            self.engine.send(Reply.of(535, (5, 7, 8), "No"))
            return
        match step:
            case Challenge(data):
                self.engine.challenge(data)
            case PasswordGiven(name, password) if (name, password) == (NAME, PASSWORD):
                self.engine.send(Reply.of(235, (2, 7, 0), "Welcome"))
            case Proven():
                self.engine.send(Reply.of(235, (2, 7, 0), "Welcome"))
            case _:
                self.engine.send(Reply.of(535, (5, 7, 8), "No"))


def check_content(content: bytes) -> None:
    """What is accepted is lines: CR and LF in pairs alone, no NUL, a line end at the end."""
    bare = content.replace(b"\r\n", b"")
    assert b"\r" not in bare, "a bare CR was accepted"
    assert b"\n" not in bare, "a bare LF was accepted"
    assert b"\0" not in content, "a NUL was accepted"
    assert not content or content.endswith(b"\r\n"), "the last line does not end"


def drawn_engine(choices: Choices) -> SmtpServer:
    """A server with settings drawn from the input."""
    bits = choices.number(256)
    return SmtpServer(
        hostname="mail.example.test",
        mode=(Mode.MX, Mode.SUBMISSION, Mode.LMTP)[bits % 3],
        max_message_size=(64, 1000, 50_000_000)[bits // 3 % 3],
        max_recipients=(1, 3, 1000)[bits // 9 % 3],
        offers_tls=bits % 2 == 1,
        requires_tls=bits % 32 == 7,
        requires_auth=bits % 16 == 3,
        auth_needs_tls=bits % 8 == 5,
    )
