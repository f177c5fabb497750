# SPDX-License-Identifier: Apache-2.0
"""A small POP3 session with fixed letters, enough to play transcripts against the engine alone.

Alice's password is `open sesame` (with its space); busy@alice.test is in use, broken@alice.test has a fault. Her
maildrop has three letters: a short one, one with lines that begin with dots, one in UTF-8.
"""

from __future__ import annotations

from posthouse.protocol.pop3 import events as ev
from posthouse.protocol.pop3.server import Pop3Server
from tests.transcripts.engine_world import TLS

LETTERS = (
    b"Subject: one\r\n\r\nfirst\r\nsecond\r\nthird\r\n",
    b"Subject: dots\r\n\r\n.\r\n..\r\n.QUIT\r\nend\r\n",
    "Subject: 你好\r\n\r\n信\r\n".encode(),
)
UNIQUE_IDS = ("a1", "b2", "c3")
ALICE = b"\0alice@alice.test\0open sesame"
LANGUAGES = {"en": "English", "zh": "中文"}


class Pop3Script:
    def __init__(self, settings: dict[str, str], letters: list[bytes]) -> None:
        self._settings = settings
        self.engine = Pop3Server(
            offers_tls=settings.get("offers_tls") == "yes",
            requires_tls=settings.get("requires_tls") == "yes",
        )
        if settings.get("implicit_tls") == "yes":
            self.engine.tls_started(TLS)
        self.events: list[ev.Event] = []
        self.deleted: set[int] = set()
        self._errors = 0
        self._is_utf8 = False
        self._letters = letters  # what QUIT left behind goes here, as one entry of numbers

    def answer(self, event: ev.Event) -> None:
        self.events.append(event)
        engine = self.engine
        match event:
            case ev.Opened():
                if self._settings.get("greeting") == "err":
                    engine.err("too many connections", "SYS/TEMP")
                else:
                    engine.ok("posthouse ready")
            case ev.User():
                engine.ok("password?")
            case ev.Pass(name, secret):
                self._login(name, secret)
            case ev.AuthStart(mechanism, initial):
                if mechanism != "PLAIN":
                    engine.err("no such mechanism")
                elif initial is None:
                    engine.challenge(b"")
                else:
                    self._plain(initial)
            case ev.AuthResponse(data):
                self._plain(data)
            case ev.Capa():
                engine.listing("capabilities", ["SASL PLAIN", *(["STLS"] if engine.offers_tls else [])])
            case ev.AuthList():
                engine.listing("mechanisms", ["PLAIN"])
            case ev.Quit(is_update):
                self._quit(is_update=is_update)
            case ev.CommandError(text, code):
                engine.err(text, code)
                self._errors += 1
                if self._errors == int(self._settings.get("patience", "100")):
                    engine.end("enough")
            case ev.Disconnected():
                pass
            case _:
                self._answer_rest(event)

    def _answer_rest(self, event: ev.Event) -> None:
        engine = self.engine
        match event:
            case ev.Stls():
                engine.ok("begin TLS")
            case ev.Utf8():
                self._is_utf8 = True
                engine.ok("UTF-8 from here on")
            case ev.Lang(tag):
                self._language(tag)
            case _:
                self._maildrop(event)

    def _quit(self, *, is_update: bool) -> None:
        if is_update:
            self._letters.append(b" ".join(b"%d" % number for number in sorted(self.deleted)))
        if is_update and self._settings.get("update") == "fails":
            self.engine.err("some deleted messages not removed", "SYS/TEMP")
        else:
            self.engine.ok("bye")

    def _login(self, name: str, secret: str) -> None:
        match name, secret:
            case "alice@alice.test", "open sesame":
                self.engine.ok("3 messages")
            case "busy@alice.test", _:
                self.engine.err("the maildrop is locked", "IN-USE")
            case "broken@alice.test", _:
                self.engine.err("try later", "SYS/TEMP")
            case _:
                self.engine.err("wrong name or password", "AUTH")

    def _plain(self, data: bytes) -> None:
        _, name, secret = data.split(b"\0") if data.count(b"\0") == 2 else (b"", b"", b"")
        self._login(name.decode(), secret.decode())

    def _language(self, tag: str | None) -> None:
        if tag is None:
            self.engine.listing("languages", [f"{each} {name}" for each, name in LANGUAGES.items()])
        elif tag in LANGUAGES or tag == "*":
            self.engine.ok(f"{'en' if tag == '*' else tag} done")
        else:
            self.engine.err("no such language")

    def _maildrop(self, event: ev.Event) -> None:
        engine = self.engine
        sizes = [len(letter) for letter in LETTERS]
        left = [number for number in (1, 2, 3) if number not in self.deleted]
        match event:
            case ev.Stat():
                engine.ok(f"{len(left)} {sum(sizes[number - 1] for number in left)}")
            case ev.Noop():
                engine.ok()
            case ev.Rset():
                self.deleted.clear()
                engine.ok()
            case ev.List(None):
                engine.listing("sizes", [f"{number} {sizes[number - 1]}" for number in left])
            case ev.Uidl(None):
                engine.listing("ids", [f"{number} {UNIQUE_IDS[number - 1]}" for number in left])
            case ev.List(number) | ev.Uidl(number) | ev.Retr(number) | ev.Dele(number) | ev.Top(number, _):
                if number not in left:
                    engine.err("no such message")
                else:
                    self._one(event, number or 0)
            case _:
                raise AssertionError(event)

    def _one(self, event: ev.Event, number: int) -> None:
        engine = self.engine
        letter = LETTERS[number - 1]
        match event:
            case ev.List():
                engine.ok(f"{number} {len(letter)}")
            case ev.Uidl():
                engine.ok(f"{number} {UNIQUE_IDS[number - 1]}")
            case ev.Dele():
                self.deleted.add(number)
                engine.ok("deleted")
            case ev.Retr() | ev.Top() if number == 3 and not self._is_utf8:
                engine.err("this letter needs UTF8", "UTF8")
            case ev.Retr():
                engine.letter(f"{len(letter)} octets", [memoryview(letter)], has_dot_lines=number == 2)
            case ev.Top(_, lines):
                header, _, body = letter.partition(b"\r\n\r\n")
                top = b"".join(body.splitlines(keepends=True)[:lines])
                engine.letter("top", [header, b"\r\n\r\n", top], has_dot_lines=number == 2)
            case _:
                raise AssertionError(event)
