# SPDX-License-Identifier: Apache-2.0
"""A small SMTP session with fixed opinions, enough to play transcripts against the engine alone.

Local parts decide: `unknown` is 550 5.1.1, `full` 452 4.2.2, `blocked` as sender 550 5.7.1, `over` takes the RCPT
but refuses the content in LMTP (552 5.2.2); everyone else is welcome. Alice's password is `secret`.
"""

from __future__ import annotations

from typing import assert_never

from posthouse.protocol.smtp import events as ev
from posthouse.protocol.smtp.extensions import Mode
from posthouse.protocol.smtp.replies import Reply
from posthouse.protocol.smtp.server import DEFAULT_MAX_MESSAGE_SIZE, DEFAULT_MAX_RECIPIENTS, SmtpServer
from tests.transcripts.engine_world import TLS

OK = Reply.of(250, (2, 0, 0), "OK")
ALICE = b"\0alice@alice.test\0secret"


class SmtpScript:
    def __init__(self, settings: dict[str, str], letters: list[bytes]) -> None:
        def flag(name: str, default: str = "no") -> bool:
            return settings.get(name, default) == "yes"

        self.engine = SmtpServer(
            offers_requiretls=True,
            hostname="mail.example.test",
            mode=Mode(settings.get("mode", "mx")),
            max_message_size=int(settings.get("max_message_size", DEFAULT_MAX_MESSAGE_SIZE)),
            max_recipients=int(settings.get("max_recipients", DEFAULT_MAX_RECIPIENTS)),
            offers_tls=flag("offers_tls"),
            requires_tls=flag("requires_tls"),
            requires_auth=flag("requires_auth"),
            auth_needs_tls=flag("auth_needs_tls", "yes"),
        )
        if settings.get("implicit_tls") == "yes":
            self.engine.tls_started(TLS)
        self.events: list[ev.Event] = []  # all, pieces of content joined
        self._settings = settings
        self._letters = letters
        self._content = b""
        self._recipients: list[str] = []
        self._names: list[str] = []

    def answer(self, event: ev.Event) -> None:
        self._remember(event)
        send = self.engine.send
        match event:
            case ev.BodyChunk(data):
                self._content += data
            case ev.MailFrom(path):
                self._recipients = []
                self._content = b""
                if path.address is not None and path.address.local_part == "blocked":
                    send(Reply.of(550, (5, 7, 1), "Not from you"))
                else:
                    send(Reply.of(250, (2, 1, 0), "Sender OK"))
            case ev.RcptTo(path):
                self._rcpt(path.address.local_part)
            case ev.DataStart():
                send(Reply.of(354, None, "Go on"))
            case ev.ChunkEnd(size):
                send(Reply.of(250, (2, 0, 0), f"{size} octets"))
            case ev.MessageEnd():
                self._message()
            case ev.MessageBad(reply) | ev.CommandError(reply):
                send(reply)
            case ev.AuthStart() | ev.AuthResponse():
                self._auth(event)
            case _:
                self._answer_rest(event)

    def _answer_rest(
        self,
        event: ev.Opened
        | ev.Hello
        | ev.Reset
        | ev.StartTls
        | ev.Vrfy
        | ev.Expn
        | ev.Help
        | ev.Noop
        | ev.Quit
        | ev.Disconnected,
    ) -> None:
        send = self.engine.send
        match event:
            case ev.Opened():
                send(Reply.of(int(self._settings.get("greeting", "220")), None, "mail.example.test ready"))
            case ev.Hello():
                self.engine.accept_hello(("PLAIN", "LOGIN") if self._settings.get("auth", "yes") == "yes" else ())
            case ev.Reset() | ev.Noop():
                send(OK)
            case ev.StartTls():
                send(Reply.of(220, (2, 0, 0), "Go ahead"))
            case ev.Vrfy():
                send(Reply.of(252, (2, 5, 2), "Perhaps"))
            case ev.Expn():
                send(Reply.of(550, (5, 7, 1), "No lists"))
            case ev.Help():
                send(Reply.of(214, (2, 0, 0), "RFC 5321"))
            case ev.Quit():
                send(Reply.of(221, (2, 0, 0), "Bye"))
            case ev.Disconnected():
                pass
            case _:
                assert_never(event)

    def _remember(self, event: ev.Event) -> None:
        last = self.events[-1] if self.events else None
        if isinstance(event, ev.BodyChunk) and isinstance(last, ev.BodyChunk):
            self.events[-1] = ev.BodyChunk(last.data + event.data)
        else:
            self.events.append(event)

    def _rcpt(self, local_part: str) -> None:
        match local_part:
            case "unknown":
                self.engine.send(Reply.of(550, (5, 1, 1), "No such user"))
            case "full":
                self.engine.send(Reply.of(452, (4, 2, 2), "Mailbox full"))
            case _:
                self._recipients.append(local_part)
                self.engine.send(Reply.of(250, (2, 1, 5), "Recipient OK"))

    def _message(self) -> None:
        self._letters.append(self._content)
        self._content = b""
        if self.engine.mode is Mode.LMTP:
            over = Reply.of(552, (5, 2, 2), "Over quota")
            self.engine.send_each([over if name == "over" else OK for name in self._recipients])
        else:
            self.engine.send(OK)

    def _auth(self, event: ev.AuthStart | ev.AuthResponse) -> None:
        data = event.initial if isinstance(event, ev.AuthStart) else event.data
        if isinstance(event, ev.AuthStart):
            self._names = ["Username:", "Password:"] if event.mechanism == "LOGIN" else [""]
            self._said: list[bytes] = []
        if data is not None:
            self._said.append(data)
        if len(self._said) < len(self._names):
            self.engine.challenge(self._names[len(self._said)].encode())
        elif self._said in ([ALICE], [b"alice@alice.test", b"secret"]):
            self.engine.send(Reply.of(235, (2, 7, 0), "Welcome"))
        else:
            self.engine.send(Reply.of(535, (5, 7, 8), "Wrong name or password"))
