# SPDX-License-Identifier: Apache-2.0
"""A whole session of our POP3 client with our POP3 server: STLS, a login of any kind, then any commands, pipelined.

What the client says is what the server understands, and what the client is told is what the server did. The input is
a letter, then everything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from fuzz.choices import Choices, pieces
from fuzz.pop3_house import LETTERS, House
from fuzz.smtp_house import NAME, PASSWORD, TLS
from posthouse.protocol.engine import Signal
from posthouse.protocol.pop3 import events as ev
from posthouse.protocol.pop3.client import Answer, Challenge, Pop3Client
from posthouse.protocol.pop3.server import Pop3Server
from posthouse.protocol.sasl import SaslError
from posthouse.protocol.sasl.table import MECHANISMS

DICTIONARY = "content.dict"
MAX_TURNS = 10_000
MAX_COMMANDS = 24
CLIENT_NONCE = "fyko+d2lbbFgONRv9qkxdawL"
_NAMES = tuple(MECHANISMS)


def target(data: bytes) -> None:
    choices = Choices(data)
    bits = choices.number(256)
    mood = choices.octets(4) if bits & 1 else b""
    engine = Pop3Server(offers_tls=bits & 6 != 0, requires_tls=bits & 8 == 8)
    chance = choices.chance()
    wish = _Wish(bits & 2 == 2, _NAMES[choices.number(4)] if bits & 16 else "", bits & 32 == 0, bits & 64 == 64)
    codes = choices.octets(MAX_COMMANDS)
    letters = [pieces(choices.rest, chance) or [b""], *LETTERS]
    _Session(House(engine, mood, letters), chance, letters).play(wish, codes, is_refusing=bool(mood))


@dataclass(frozen=True, slots=True)
class _Wish:
    """`mechanism` "" : USER and PASS."""

    uses_tls: bool
    mechanism: str
    is_right: bool
    sends_initial: bool


@dataclass(slots=True)
class _Session:
    house: House
    chance: Random
    letters: list[list[bytes]]
    client: Pop3Client = field(default_factory=Pop3Client)

    def play(self, wish: _Wish, codes: bytes, *, is_refusing: bool) -> None:
        if not self._hear().is_ok:
            assert is_refusing, "the greeting is refused"
            return
        if wish.uses_tls:
            self.client.start_tls()
            is_secure = self._hear().is_ok
            assert is_refusing or is_secure == (self.house.engine.tls is not None)
        is_in = self._log_in(wish)
        may_try = self.house.engine.is_protected or wish.mechanism != ""
        assert not is_in or wish.is_right, "a wrong password is taken"
        assert is_in or is_refusing or not (wish.is_right and may_try), "the right password is refused"
        if is_in:
            self._work(codes)
        self.client.quit()
        answer = self._hear()
        assert answer.is_ok or is_refusing, "QUIT is refused"
        assert isinstance(self.house.heard[-1], ev.Quit)
        assert self._event() is Signal.CLOSE

    # --- login ------------------------------------------------------------------------------------

    def _log_in(self, wish: _Wish) -> bool:
        password = PASSWORD if wish.is_right else PASSWORD + "x"
        if not wish.mechanism:
            self.client.user(NAME)
            self.client.password(password)
            answers = [self._hear(), self._hear()]
            return all(answer.is_ok for answer in answers)
        exchange = MECHANISMS[wish.mechanism].client(NAME, password, CLIENT_NONCE)
        initial = exchange.initial()
        self.client.auth(wish.mechanism, initial if wish.sends_initial else None)
        if wish.sends_initial:
            initial = None
        while isinstance(event := self._event(), Challenge):
            if initial is not None:
                self.client.respond(initial)
                initial = None
                continue
            try:
                self.client.respond(exchange.respond(event.data))
            except SaslError:
                self.client.cancel()
        assert isinstance(event, Answer)
        assert not event.is_ok or exchange.is_complete, "let in in the middle of an exchange"
        return event.is_ok

    # --- commands ---------------------------------------------------------------------------------

    def _work(self, codes: bytes) -> None:
        """Say them in groups without waiting within one (RFC 2449 §6.8), then hear all answers."""
        left = list(codes)
        while left:
            size = self.chance.randint(1, len(left))
            group, left = left[:size], left[size:]
            before, deleted = len(self.house.heard), list(self.house.deleted)
            meant = [self._say(code) for code in group]
            for event in meant:
                _account(event, self._hear(), self.letters, deleted)
            assert self.house.heard[before:] == meant, "the server understands something else"
            assert self.house.deleted == deleted, "other letters are removed than the client was told"

    def _say(self, code: int) -> ev.Event:
        client = self.client
        number, lines = code // 16 % 6, code // 16
        match code % 16:
            case 0 | 1 | 2:
                client.retrieve(number)
                return ev.Retr(number)
            case 3 | 4:
                client.top(number, lines)
                return ev.Top(number, lines)
            case 5 | 6:
                client.delete(number)
                return ev.Dele(number)
            case 7:
                client.command("RSET")
                return ev.Rset()
            case 8:
                client.sizes()
                return ev.List(None)
            case 9:
                client.unique_ids()
                return ev.Uidl(None)
            case 10:
                client.command(f"LIST {number}")
                return ev.List(number)
            case 11:
                client.command(f"UIDL {number}")
                return ev.Uidl(number)
            case 12:
                client.capabilities()
                return ev.Capa()
            case 13:
                client.command("LANG *")
                return ev.Lang("*")
            case 14:
                client.stat()
                return ev.Stat()
            case _:
                client.command("NOOP")
                return ev.Noop()

    # --- the line ---------------------------------------------------------------------------------

    def _hear(self) -> Answer:
        event = self._event()
        assert isinstance(event, Answer), f"{event} where an answer was due"
        return event

    def _event(self) -> object:
        client, house = self.client, self.house
        for _ in range(MAX_TURNS):
            event = client.next_event()
            if event is Signal.START_TLS:
                client.tls_started()
                house.wants_tls = False
                house.engine.tls_started(TLS)
                return Answer(is_ok=True, code=None, text="")
            if event is not Signal.NEED_DATA:
                return event
            for piece in self._cut(b"".join(client.data_to_send())):
                house.engine.receive_data(piece)
                house.pump()
            signal = house.pump()
            said = house.take_said()
            for piece in self._cut(said):
                client.receive_data(piece)
            if signal is Signal.CLOSE and not said:
                client.receive_data(b"")
        raise AssertionError("both sides wait")

    def _cut(self, octets: bytes) -> Iterator[bytes]:
        yield from pieces(octets, self.chance)


def _account(event: ev.Event, answer: Answer, letters: list[list[bytes]], deleted: list[int]) -> None:
    """What this answer means for the client."""
    if not answer.is_ok:
        assert answer.body is None
        return
    match event:
        case ev.Retr(number) | ev.Top(number, _):
            content = b"".join(letters[number - 1])
            assert number > 0
            expected = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
            assert answer.body == expected, "the letter changed"
        case ev.List(None) | ev.Uidl(None):
            assert answer.body is not None
            assert answer.body.count(b"\r\n") == len(letters), "a letter is missing in a list"
        case ev.Dele(number):
            deleted.append(number)
        case ev.Rset():
            deleted.clear()
        case _:
            assert (answer.body is not None) == isinstance(event, ev.Capa)
