# SPDX-License-Identifier: Apache-2.0
"""An IMAP server around our engine without a store: answers every event at once and remembers what it heard.

Invariant: its answers depend on what was said and on its mood alone, never on how the network cut the octets.
"""

from __future__ import annotations

import zlib

from fuzz.smtp_house import MECHANISMS, NAME, NONCE, PASSWORD, secrets
from posthouse.mail.structure import parse
from posthouse.protocol.engine import Signal
from posthouse.protocol.imap import capabilities, codes, fetch_results, limits, responses, search_results
from posthouse.protocol.imap import events as ev
from posthouse.protocol.imap.deflate import PIECE
from posthouse.protocol.imap.fetch_items import Attribute, BinarySection, BinarySize, BodySection, FetchItem, Preview
from posthouse.protocol.imap.search_results import Found
from posthouse.protocol.imap.server import ImapServer
from posthouse.protocol.imap.strings import string
from posthouse.protocol.imap.structure_results import body_structure
from posthouse.protocol.sasl import SaslError
from posthouse.protocol.sasl.exchange import Challenge, PasswordGiven, Proven, SecretsWanted, ServerExchange
from posthouse.protocol.sasl.table import server_exchange

LETTER = b"Subject: one\r\nContent-Type: text/plain\r\n\r\n{3}\r\n* BYE\0\r\n\xff)\r\n"
MOST_EVENTS = 200_000  # of one session: more is a loop without an end


class House:
    """`mood`: octets that decide about refusals, used in turn; empty for a house that takes everything."""

    def __init__(self, engine: ImapServer, mood: bytes = b"", letter: bytes = LETTER) -> None:
        self.engine = engine
        self.heard: list[ev.Event] = []
        self.said = b""
        self.wants_tls = False
        self.letters: list[bytes] = []  # what APPEND and REPLACE have brought whole
        self.letter = letter
        self._coming: list[bytes] = []
        self._mood = mood
        self._turn = 0
        self._exchange: ServerExchange | None = None
        self._unpack: zlib._Decompress | None = None

    def check_hoard(self) -> None:
        """An engine that wants octets holds no more than a line and a command of them."""
        held = self.engine._inbox.unread
        assert held <= limits.MAX_LINE + PIECE, f"{held} octets are held"
        pending = self.engine._pending
        if pending is not None:
            kept = len(pending.text) + sum(map(len, pending.literals)) + sum(map(len, self.engine._literal))
            assert kept <= limits.MAX_COMMAND + limits.MAX_LINE, f"{kept} octets of a command are held"

    def pump(self) -> Signal:
        for _ in range(MOST_EVENTS):
            event = self.engine.next_event()
            self._hear_out()
            if isinstance(event, Signal):
                if event is Signal.START_TLS:
                    self.wants_tls = True
                elif event is not Signal.MORE:
                    assert event is not Signal.PAUSED, "an event was left without its answer"
                    return event
                continue
            self.hear(event)
            self._hear_out()  # the answer to COMPRESS is plain, what follows it is not
        raise AssertionError("the engine goes on without octets")

    def hear(self, event: ev.Event) -> None:
        if isinstance(event, ev.MessageChunk):
            self._coming.append(event.data)
            return
        self.heard.append(event)
        self._answer(event)

    def _hear_out(self) -> None:
        octets = b"".join(self.engine.data_to_send())
        if self._unpack is not None:
            octets = self._unpack.decompress(octets)
        elif self.engine.is_compressed and octets:
            self._unpack = zlib.decompressobj(-15)
        self.said += octets

    def _answer(self, event: ev.Event) -> None:
        engine = self.engine
        match event:
            case ev.Disconnected():
                return
            case ev.CommandError():
                self._coming.clear()
                engine.refuse(event)
                return
            case ev.Opened():
                engine.greet("ready", codes.capability(self._capabilities(is_logged_in=False)))
                return
            case _:
                pass
        if self._mood and not isinstance(event, ev.More):
            mood = self._mood[self._turn % len(self._mood)]
            self._turn += 1
            if mood % 4 == 0:
                self._coming.clear()
                engine.no("not now", codes.UNAVAILABLE)
                return
        self._take(event)

    def _take(self, event: ev.Event) -> None:
        engine = self.engine
        match event:
            case ev.MessageStart(size=size):
                assert 0 < size <= engine.terms.max_message_size
                self._finish_letter()
                engine.go_on()
            case ev.AppendEnd() | ev.ReplaceEnd():
                self._finish_letter()
                engine.ok("kept", codes.append_uid(1, ((1, 1),)))
            case ev.AuthStart() | ev.AuthResponse():
                self._authenticate(event)
            case ev.Login(name, password) if (name, password) != (NAME, PASSWORD):
                engine.no("no", codes.AUTHENTICATIONFAILED)
            case ev.Idle():
                engine.idle()
                engine.tell([responses.exists(3)])
            case ev.Enable(words):
                found = capabilities.enabling(words, engine.enabled)
                engine.enable(word.upper() for word in found)
                engine.tell([responses.enabled(found)])
                engine.ok("enabled")
            case ev.Unauthenticate() if engine.is_compressed:
                # What a client says behind it, and still compressed, cannot be told from what is not.
                engine.bye("come again")
            case ev.Fetch():
                engine.more(self._fetched(event.items))
            case ev.Search() | ev.Sort():
                self._found(event)
            case ev.List():
                engine.tell([responses.list_row(name, (), is_utf8=engine.is_utf8) for name in event.patterns])
                engine.ok("listed")
            case ev.Status():
                values: dict[ev.StatusItem, int | str | None] = dict.fromkeys(event.items, 1)
                engine.tell([responses.status(event.mailbox, values, is_utf8=engine.is_utf8)])
                engine.ok("told")
            case ev.Capability():
                engine.tell([responses.capability(self._capabilities(is_logged_in=True))])
                engine.ok("told")
            case _:
                engine.ok("yes")

    def _finish_letter(self) -> None:
        if self._coming:
            self.letters.append(b"".join(self._coming))
            self._coming.clear()

    def _capabilities(self, *, is_logged_in: bool) -> list[str]:
        return capabilities.capabilities(
            is_logged_in=is_logged_in,
            is_protected=self.engine.is_protected,
            offers_tls=self.engine.offers_tls,
            mechanisms=MECHANISMS,
            append_limit=self.engine.terms.max_message_size,
            literal_minus=self.engine.terms.literal_minus,
        )

    def _found(self, event: ev.Search | ev.Sort) -> None:
        found = Found((1, 2, 9))
        if event.returns is None and event.partial is None:
            said = search_results.search(found)
        else:
            returns = event.returns or ()
            said = search_results.esearch(self.engine.tag, found, returns, is_uid=event.by_uid, partial=event.partial)
        self.engine.tell([said])
        self.engine.ok("found")

    def _fetched(self, items: tuple[FetchItem, ...]) -> list[bytes | memoryview]:
        return fetch_results.message(1, [self._item(item) for item in items], is_uid_only=self.engine.is_uid_only)

    def _item(self, item: FetchItem) -> bytes | list[bytes | memoryview]:
        match item:
            case Attribute.BODY | Attribute.BODYSTRUCTURE:
                is_extended = item is Attribute.BODYSTRUCTURE
                written = body_structure(parse(self.letter), is_extended=is_extended, is_utf8=self.engine.is_utf8)
                return fetch_results.value(item, written)
            case Attribute.FLAGS | Attribute.EMAILID | Attribute.THREADID:
                return fetch_results.value(item, b"x")
            case Attribute.UID | Attribute.MODSEQ | Attribute.RFC822_SIZE:
                return fetch_results.value(item, 7)
            case Attribute():
                return fetch_results.value(item, string(self.letter[:40], is_utf8=self.engine.is_utf8))
            case BodySection(label=label):
                return fetch_results.section(label, memoryview(self.letter))
            case BinarySection(label=label):
                return fetch_results.binary(label, self.letter)
            case BinarySize():
                return fetch_results.value(item, len(self.letter))
            case Preview():
                return fetch_results.preview("one")

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
            self.engine.no("no", codes.AUTHENTICATIONFAILED)
            return
        match step:
            case Challenge(data):
                self.engine.challenge(data)
            case Proven():
                self.engine.ok("welcome")
            case PasswordGiven(name, password) if (name, password) == (NAME, PASSWORD):
                self.engine.ok("welcome")
            case _:
                self.engine.no("no", codes.AUTHENTICATIONFAILED)
