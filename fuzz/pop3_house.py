# SPDX-License-Identifier: Apache-2.0
"""A POP3 server around our engine with a few letters; answers every event at once and remembers what it heard.

Invariant: its answers depend on what was said and on its mood alone, never on how the network cut the octets.
"""

from __future__ import annotations

from collections.abc import Sequence

from fuzz.smtp_house import MECHANISMS, NAME, NONCE, PASSWORD, secrets
from posthouse.protocol.engine import Signal
from posthouse.protocol.pop3 import events as ev
from posthouse.protocol.pop3 import table
from posthouse.protocol.pop3.server import Pop3Server
from posthouse.protocol.sasl import SaslError
from posthouse.protocol.sasl.exchange import Challenge, PasswordGiven, Proven, SecretsWanted, ServerExchange
from posthouse.protocol.sasl.table import server_exchange

LETTERS = (
    [b"Subject: one\r\n\r\n.dot\r\n..\r\n.\r\n"],
    [b"Subject: two\r", b"\n\r", b"\n.", b"\r\n", b"no end"],
    [b""],
)


def has_dot_lines(content: bytes) -> bool:
    return content.startswith(b".") or b"\r\n." in content


class House:
    """`mood`: octets that decide about refusals, used in turn; empty for a house that takes everything."""

    def __init__(self, engine: Pop3Server, mood: bytes = b"", letters: Sequence[list[bytes]] = LETTERS) -> None:
        self.engine = engine
        self.heard: list[ev.Event] = []
        self.said = b""
        self.wants_tls = False
        self.deleted: list[int] = []
        self._letters = letters
        self._mood = mood
        self._turn = 0
        self._exchange: ServerExchange | None = None

    def check_hoard(self) -> None:
        """An engine that wants octets holds no more than a line of them."""
        held = self.engine._inbox.unread
        assert held <= table.MAX_AUTH_LINE, f"{held} octets are held"

    def pump(self) -> Signal:
        while True:
            event = self.engine.next_event()
            self.said += b"".join(self.engine.data_to_send())
            if isinstance(event, Signal):
                if event is Signal.START_TLS:
                    self.wants_tls = True
                elif event is not Signal.MORE:
                    assert event is not Signal.PAUSED, "an event was left without its answer"
                    return event
                continue
            self.heard.append(event)
            self._answer(event)

    def take_said(self) -> bytes:
        said, self.said = self.said, b""
        return said

    def _answer(self, event: ev.Event) -> None:
        engine = self.engine
        if isinstance(event, ev.Disconnected):
            return
        if isinstance(event, ev.CommandError):
            engine.err(event.text, event.code)
            return
        if self._mood:
            mood = self._mood[self._turn % len(self._mood)]
            self._turn += 1
            if mood % 4 == 0:
                engine.err("not now", "SYS/TEMP")
                return
        match event:
            case ev.AuthStart() | ev.AuthResponse():
                self._authenticate(event)
            case ev.AuthList() | ev.Capa():
                engine.listing("these", MECHANISMS)
            case ev.List(number) | ev.Uidl(number) if number is None:
                pairs = [(at, sum(map(len, parts))) for at, parts in enumerate(self._letters, 1)]
                engine.rows("these", b"%d %d", pairs)
            case ev.Retr(number) | ev.Top(number, _):
                self._letter(number)
            case ev.Dele(number):
                self.deleted.append(number)
                engine.ok("gone")
            case ev.Rset():
                self.deleted.clear()
                engine.ok()
            case ev.Pass(name, password) if (name, password) != (NAME, PASSWORD):
                engine.err("no", "AUTH")
            case _:
                engine.ok("yes")

    def _letter(self, number: int) -> None:
        if not 1 <= number <= len(self._letters):
            self.engine.err("no such letter")
            return
        parts = self._letters[number - 1]
        self.engine.letter("here it is", parts, has_dot_lines=has_dot_lines(b"".join(parts)))

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
            self.engine.err("no", "AUTH")
            return
        match step:
            case Challenge(data):
                self.engine.challenge(data)
            case Proven():
                self.engine.ok("welcome")
            case PasswordGiven(name, password) if (name, password) == (NAME, PASSWORD):
                self.engine.ok("welcome")
            case _:
                self.engine.err("no", "AUTH")
