# SPDX-License-Identifier: Apache-2.0
"""A scripted server for the client engine: what it must hear, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import Envelope, ForwardPath, ReversePath
from posthouse.outcome import Outcome
from posthouse.ports import Buffer, TlsInfo
from posthouse.protocol.engine import Signal
from posthouse.protocol.smtp.client import SmtpClient
from posthouse.protocol.smtp.client_events import ClientEvent, ClientSettings, LetterDone, SessionFailed, SessionReady

TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", "mx.bob.test")
LETTER = b"Subject: hello\r\n\r\nHello Bob\r\n"

Settings = ClientSettings


class Script:
    """Steps are ("C: …", "S: …") lines; a `C:` line must be exactly what the engine says next."""

    def __init__(self, engine: SmtpClient, *, at_once: int = 0) -> None:
        self.engine = engine
        self.said = b""
        self._at_once = at_once  # feed that many octets at a time; 0: all of it

    def hear(self) -> bytes:
        """Everything the engine has to say now."""
        while buffers := self.engine.data_to_send():
            self.said += b"".join(bytes(buffer) for buffer in buffers)
        said, self.said = self.said, b""
        return said

    def answer(self, octets: bytes) -> list[ClientEvent | Signal]:
        """Feed; the events that came of it."""
        events: list[ClientEvent | Signal] = []
        step = self._at_once or max(1, len(octets))
        for start in range(0, len(octets), step):
            self.engine.receive_data(octets[start : start + step])
            events += self.pull()
        return events

    def pull(self) -> list[ClientEvent | Signal]:
        """All events until the engine wants something."""
        events: list[ClientEvent | Signal] = []
        while True:
            event = self.engine.next_event()
            if event is Signal.NEED_DATA or event is Signal.PAUSED:
                return events
            events.append(event)
            if event is Signal.CLOSE:
                return events

    def play(self, text: str) -> list[ClientEvent | Signal]:
        """Run a transcript; the events of its last answer. `S:` lines in a row are one reading."""
        events: list[ClientEvent | Signal] = self.pull()
        said = b""
        block: list[str] = []
        for line in [*(line.strip() for line in text.splitlines()), "C:end"]:
            if line.startswith("C:") and block:
                assert not said, f"the client said more than the script knows: {said!r}"
                events = self.answer("".join(reply + "\r\n" for reply in block).encode())
                block = []
            if line == "C:end":
                break
            if line.startswith("C: "):
                said += self.hear()
                expected = line[3:].encode() + b"\r\n"
                assert said.startswith(expected), f"expected {expected!r}, the client said {said!r}"
                said = said[len(expected) :]
            elif line.startswith("S: "):
                block.append(line[3:])
        assert not said, f"the client said more than the script knows: {said!r}"
        return events


OFFER = """
250-mx.bob.test greets you
250-PIPELINING
250-SIZE 1000000
250-8BITMIME
250-SMTPUTF8
250-DSN
250-ENHANCEDSTATUSCODES
250 HELP
"""


def offer_lines(text: str = OFFER) -> str:
    return "\n".join(f"S: {line.strip()}" for line in text.strip().splitlines())


def client(**changes: object) -> SmtpClient:
    values: dict[str, object] = {"helo": "mail.alice.test", "host": "mx.bob.test", "address": "192.0.2.25"}
    return SmtpClient(ClientSettings(**(values | changes)))  # type: ignore[arg-type]  # a test's short cut


def ready(*keywords: str, at_once: int = 0, **changes: object) -> Script:
    """A session that has greeted, with these keywords offered (none: HELP alone)."""
    script = Script(client(**changes), at_once=at_once)
    verb = "LHLO" if changes.get("is_lmtp") else "EHLO"
    lines = ["mx.bob.test", *keywords, "HELP"]
    replies = "\n".join(f"S: 250{' ' if number == len(lines) - 1 else '-'}{line}" for number, line in enumerate(lines))
    events = script.play(f"S: 220 mx.bob.test ESMTP\nC: {verb} mail.alice.test\n{replies}")
    assert [type(event) for event in events] == [SessionReady]
    return script


def envelope(*recipients: str, sender: str = "alice@alice.test", **parameters: object) -> Envelope:
    address = parse_address(sender) if sender else None
    return Envelope(
        ReversePath(address, **parameters),  # type: ignore[arg-type]  # a test's short cut
        tuple(ForwardPath(parse_address(text)) for text in recipients or ("bob@bob.test",)),
    )


def begin(script: Script, letter: Envelope | None = None, content: Sequence[Buffer] = (LETTER,)) -> Script:
    script.engine.begin(letter or envelope(), content)
    return script


def outcomes(events: list[ClientEvent | Signal]) -> tuple[Outcome, ...]:
    done = [event for event in events if isinstance(event, LetterDone)]
    assert len(done) == 1, events
    return done[0].outcomes


def statuses(events: list[ClientEvent | Signal]) -> list[str]:
    return [str(outcome.status) for outcome in outcomes(events)]


def failure(events: list[ClientEvent | Signal]) -> SessionFailed:
    assert isinstance(events[0], SessionFailed), events
    assert events[1] is Signal.CLOSE
    return events[0]
