# SPDX-License-Identifier: Apache-2.0
"""A session without a mailbox: it says yes to everything, so that a test sees what the engine does by itself."""

from __future__ import annotations

from posthouse.ports import TlsInfo
from posthouse.protocol.engine import Signal
from posthouse.protocol.imap import events as ev
from posthouse.protocol.imap.admission import Terms
from posthouse.protocol.imap.server import ImapServer

TLS = TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256")


class Script:
    """Feeds octets, answers events; `events` what came, `said` what went out since it was last asked."""

    def __init__(self, terms: Terms | None = None, *, offers_tls: bool = False, piece: int = 0) -> None:
        self.engine = ImapServer(terms or Terms(), offers_tls=offers_tls)
        self.events: list[ev.Event] = []
        self.piece = piece  # octets per feed; 0 feeds all at once
        self.refuses: dict[type, tuple[str, str, str]] = {}  # events that get another answer: kind, text, code
        self.is_closed = False
        self.wants_tls = False
        self._out = b""
        self._pump()

    def say(self, octets: bytes) -> bytes:
        """What the server says to it."""
        size = self.piece or max(len(octets), 1)
        for start in range(0, len(octets), size):
            self.engine.receive_data(octets[start : start + size])
            self._pump()
        return self.said()

    def end(self) -> None:
        self.engine.receive_data(b"")
        self._pump()

    def said(self) -> bytes:
        self.pump_out()
        out, self._out = self._out, b""
        return out

    def log_in(self) -> Script:
        self.say(b"l LOGIN alice secret\r\n")
        self.events.clear()
        return self

    def select(self) -> Script:
        self.log_in().say(b"s SELECT INBOX\r\n")
        self.events.clear()
        return self

    def pump_out(self) -> None:
        self._out += b"".join(self.engine.data_to_send())

    def _pump(self) -> None:
        while True:
            event = self.engine.next_event()
            self.pump_out()
            if event is Signal.MORE:
                continue
            if isinstance(event, Signal):
                assert event is not Signal.PAUSED
                self.is_closed |= event is Signal.CLOSE
                self.wants_tls |= event is Signal.START_TLS
                if event is not Signal.START_TLS:
                    return
                continue
            self.events.append(event)
            self.answer(event)

    def answer(self, event: ev.Event) -> None:
        engine = self.engine
        if type(event) in self.refuses:
            kind, text, code = self.refuses[type(event)]
            {"NO": engine.no, "BAD": engine.bad, "BYE": engine.bye}[kind](text, code)
            return
        match event:
            case ev.Opened():
                engine.greet("ready")
            case ev.MessageStart():
                engine.go_on()
            case ev.MessageChunk() | ev.Disconnected():
                pass
            case ev.CommandError():
                engine.refuse(event)
            case ev.Idle():
                engine.idle()
            case ev.AuthStart(initial=None):
                engine.challenge(b"say on")
            case ev.Enable(words):
                engine.enable(words)
                engine.ok("enabled")
            case _:
                engine.ok("done")


def log_of(script: Script) -> list[ev.Event]:
    """Events with the chunks of each message joined."""
    found: list[ev.Event] = []
    for event in script.events:
        if isinstance(event, ev.MessageChunk) and found and isinstance(found[-1], ev.MessageChunk):
            found[-1] = ev.MessageChunk(found[-1].data + event.data)
        else:
            found.append(event)
    return found
