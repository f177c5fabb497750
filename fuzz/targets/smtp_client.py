# SPDX-License-Identifier: Apache-2.0
"""Whatever a server says to the SMTP client engine: no exception, bounded memory, and an outcome for each recipient.

The input is the server's octets, `<TLS>` where they go on within TLS, then the settings.
"""

from __future__ import annotations

from collections.abc import Iterator

from fuzz.choices import Choices, pieces
from fuzz.smtp_house import NAME, TLS
from posthouse.mail.address import parse_address
from posthouse.mail.envelope import BodyType, DsnReturn, Envelope, ForwardPath, Notify, ReversePath
from posthouse.protocol.engine import Signal
from posthouse.protocol.smtp.client import SmtpClient
from posthouse.protocol.smtp.client_auth import Credentials
from posthouse.protocol.smtp.client_events import ClientSettings, LetterDone, SessionFailed, SessionReady, TlsUse
from posthouse.protocol.smtp.reply_parser import MAX_REPLY_TEXT

DICTIONARY = "smtp_replies.dict"
MAX_LETTERS = 8  # of one session: a server that keeps saying 250 takes them all
CONTENT = b"Subject: fuzz\r\n\r\n.dot\r\n" + b"x" * 300_000 + b"\r\n"
ENVELOPE = Envelope(
    ReversePath(parse_address("alice@alice.test"), dsn_return=DsnReturn.FULL, envelope_id="e+1"),
    (
        ForwardPath(parse_address("bob@bob.test"), Notify.SUCCESS | Notify.DELAY, "rfc822;bob@old.test"),
        ForwardPath(parse_address("b\u00f6b@bob.test")),
        ForwardPath(parse_address("carol@carol.test"), Notify.NEVER),
    ),
)
PLAIN = Envelope(ReversePath(None, body=BodyType.SEVEN_BIT), ENVELOPE.forward_paths[::2])


def target(data: bytes) -> None:
    choices = Choices(data)
    bits = choices.number(256)
    client = SmtpClient(
        ClientSettings(
            helo="mail.alice.test",
            host="mail.bob.test",
            tls=(TlsUse.OFFERED, TlsUse.NEVER, TlsUse.REQUIRED)[bits % 3],
            is_lmtp=bits & 4 == 4,
            credentials=Credentials(NAME, "secret") if bits & 8 else None,
            nonce="fyko+d2lbbFgONRv9qkxdawL",
            may_show_password=bits & 16 == 16,
        )
    )
    envelope = PLAIN if bits & 32 else ENVELOPE
    content = [CONTENT] if bits & 64 else [CONTENT[:30], CONTENT[-50:]]
    chance = choices.chance()
    plain, _, secured = choices.rest.partition(b"<TLS>")
    octets = iter(pieces(plain, chance))
    begun = _Session(client, envelope, content)
    if begun.play(octets):
        begun.play(iter(pieces(secured, chance)))
    client.lost("the host closed the connection")
    begun.play(iter(()))
    begun.check_end()


class _Session:
    def __init__(self, client: SmtpClient, envelope: Envelope, content: list[bytes]) -> None:
        self._client = client
        self._envelope = envelope
        self._content = content
        self._letters = 0
        self._under_way = 0

    def play(self, octets: Iterator[bytes]) -> bool:
        """Until the octets are used up, or TLS begins: True."""
        client = self._client
        while True:
            while client.data_to_send():
                pass
            event = client.next_event()
            match event:
                case Signal.START_TLS:
                    client.tls_started(TLS)
                    return True
                case Signal.NEED_DATA:
                    piece = next(octets, None)
                    if piece is None:
                        return False
                    client.receive_data(piece)
                case Signal.CLOSE:
                    return False
                case SessionReady():
                    self._begin()
                case LetterDone(outcomes):
                    self._under_way -= 1
                    assert len(outcomes) == len(self._envelope.forward_paths), "an outcome for each recipient"
                    for outcome in outcomes:
                        assert outcome.reply is None or len(outcome.reply.text) <= MAX_REPLY_TEXT
                        str(outcome.diagnostic).encode()
                    self._begin()
                case SessionFailed(outcome):
                    assert not outcome.is_delivered, "a session that failed has delivered something"
                case _:
                    raise AssertionError(f"{event} is no news")

    def _begin(self) -> None:
        if self._client.is_usable and self._letters < MAX_LETTERS:
            self._letters += 1
            self._under_way += 1
            self._client.begin(self._envelope, self._content)
        elif self._client.is_usable:
            self._client.quit()

    def check_end(self) -> None:
        assert self._under_way == 0, "a letter has no outcome"
