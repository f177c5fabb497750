# SPDX-License-Identifier: Apache-2.0
"""Our SMTP client says letters to our SMTP server, over a network that cuts at will and a middlebox that hides offers.

What the client is told was delivered is what the server took, octet for octet and recipient for recipient; whoever
was not delivered to has another outcome. The input is the content, then everything else.
"""

from __future__ import annotations

from random import Random

from fuzz.choices import Choices, pieces
from fuzz.smtp_house import MECHANISMS, NAME, PASSWORD, TLS, House, Letter, drawn_engine
from posthouse.mail.address import Address, AddressError, Domain, parse_address
from posthouse.mail.envelope import BodyType, DsnReturn, Envelope, ForwardPath, Notify, ReversePath
from posthouse.outcome import Outcome
from posthouse.protocol.engine import Signal
from posthouse.protocol.smtp.client import SmtpClient
from posthouse.protocol.smtp.client_auth import Credentials
from posthouse.protocol.smtp.client_events import ClientSettings, LetterDone, SessionFailed, SessionReady, TlsUse
from posthouse.protocol.smtp.extensions import Mode

DICTIONARY = "content.dict"
MAX_TURNS = 100_000  # of the pump: more is a livelock
HIDEABLE = (b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"CHUNKING", b"DSN", b"STARTTLS", b"AUTH", b"SIZE", b"LIMITS")
_PLAIN = (parse_address("a@one.test"), parse_address("b.c@two.test"), parse_address('"odd @>< one"@[192.0.2.1]'))


def target(data: bytes) -> None:
    choices = Choices(data)
    engine = drawn_engine(choices)
    mood = choices.octets(8)
    chance = choices.chance()
    hidden = [word for word in HIDEABLE if choices.number(8) == 7]
    settings = _settings(choices, is_lmtp=engine.mode is Mode.LMTP)
    envelope = _envelope(choices)
    house = House(engine, mood, tuple(name for name in MECHANISMS if choices.number(4)))
    letters = [(envelope, choices.rest)] * (1 + chance.randrange(3))
    converse(house, settings, letters, hidden, chance)


def converse(
    house: House,
    settings: ClientSettings,
    letters: list[tuple[Envelope, bytes]],
    hidden: list[bytes],
    chance: Random,
) -> list[tuple[Outcome, ...]]:
    """One session with these letters; the outcomes of those that were said."""
    client = SmtpClient(settings)
    line = _Line(client, house, chance, hidden)
    ready = line.run()
    told: list[tuple[Outcome, ...]] = []
    if not isinstance(ready, SessionReady):
        assert isinstance(ready, SessionFailed)
        return told
    for envelope, content in letters:
        before = len(house.letters)
        client.begin(envelope, _buffers(content, chance))
        done = line.run()
        assert isinstance(done, LetterDone)
        _check(envelope, content, done.outcomes, house.letters[before:])
        told.append(done.outcomes)
        if not client.is_usable:
            return told
    client.quit()
    assert line.run() is Signal.CLOSE
    assert house.engine.next_event() is Signal.CLOSE
    return told


def _settings(choices: Choices, *, is_lmtp: bool) -> ClientSettings:
    bits = choices.number(256)
    return ClientSettings(
        helo="client.example.test",
        host="mail.example.test",
        tls=(TlsUse.NEVER, TlsUse.OFFERED, TlsUse.OFFERED, TlsUse.REQUIRED)[bits % 4],
        is_lmtp=is_lmtp,
        credentials=Credentials(NAME, PASSWORD + ("x" if bits & 96 == 96 else "")) if bits & 4 else None,
        nonce="fyko+d2lbbFgONRv9qkxdawL",
        may_show_password=bool(bits & 8),
        may_bdat=bool(bits & 16),
    )


def _address(choices: Choices) -> Address:
    kind = choices.number(8)
    if kind < 3:
        return _PLAIN[kind]
    if kind == 3:
        return Address("postmaster", Domain("mail.example.test"))
    try:
        return parse_address(choices.text(60))
    except AddressError:
        return _PLAIN[0]


def _envelope(choices: Choices) -> Envelope:
    bits = choices.number(256)
    reverse = ReversePath(
        address=_address(choices) if bits % 4 else None,
        body=BodyType.BINARY if bits % 32 == 9 else BodyType.SEVEN_BIT,
        smtputf8=bool(bits & 16),
        dsn_return=(None, DsnReturn.FULL, DsnReturn.HEADERS)[bits % 3],
        envelope_id=choices.text(40) if bits & 32 else None,
    )
    notifies = (None, Notify.NEVER, Notify.SUCCESS | Notify.DELAY, Notify.FAILURE)
    paths = tuple(
        ForwardPath(
            _address(choices),
            notifies[choices.number(4)],
            f"rfc822;{choices.text(30)}" if choices.number(4) == 3 else None,
        )
        for _ in range(1 + choices.number(4))
    )
    return Envelope(reverse, paths)


def _buffers(content: bytes, chance: Random) -> list[bytes | memoryview]:
    return [memoryview(piece) if chance.random() < 0.5 else piece for piece in pieces(content, chance)]


class _Line:
    """Two engines and what lies between them."""

    def __init__(self, client: SmtpClient, house: House, chance: Random, hidden: list[bytes]) -> None:
        self._client = client
        self._house = house
        self._chance = chance
        self._hidden = hidden

    def run(self) -> object:
        """Until the client has something to tell, or ends."""
        client, house = self._client, self._house
        for _ in range(MAX_TURNS):
            is_moving = self._send()
            signal = house.pump()
            is_moving |= self._reply()
            if signal is Signal.CLOSE:
                client.receive_data(b"")
                is_moving = True
            event = client.next_event()
            if event is Signal.START_TLS:
                client.data_to_send()
                house.wants_tls = False
                house.engine.tls_started(TLS)
                client.tls_started(TLS)
            elif event is not Signal.NEED_DATA:
                return event
            elif not is_moving:
                raise AssertionError(f"both sides wait: the client in {client.phase.name}")
        raise AssertionError("the conversation does not end")

    def _send(self) -> bool:
        sent = False
        while octets := b"".join(self._client.data_to_send()):
            sent = True
            for piece in pieces(octets, self._chance):
                self._house.engine.receive_data(piece)
                self._house.pump()
        return sent

    def _reply(self) -> bool:
        said = self._house.take_said()
        lines = said.splitlines(keepends=True)
        kept = [line for line in lines if not any(line[4:].startswith(word) for word in self._hidden)]
        for piece in pieces(b"".join(kept), self._chance):
            self._client.receive_data(piece)
        return bool(said)


def _check(envelope: Envelope, content: bytes, outcomes: tuple[Outcome, ...], letters: list[Letter]) -> None:
    paths = envelope.forward_paths
    assert len(outcomes) == len(paths), "an outcome for each recipient, in order"
    delivered = [path.address for path, outcome in zip(paths, outcomes, strict=True) if outcome.is_delivered]
    taken = [path.address for letter in letters for path in letter.forward_paths]
    # The answer to the end may be lost with the connection: then it was taken and is sent again.
    assert all(address in taken for address in delivered), "delivered, says the client, and nobody has it"
    assert len(letters) <= 1, "one letter became two"
    expected = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    for letter in letters:
        assert letter.content == expected, "the content changed on its way"
        _same_sender(envelope.reverse_path, letter.reverse_path)
        assert letter.reverse_path.size in (None, len(expected)), "SIZE is not the size"
        if letter.reverse_path.body is BodyType.SEVEN_BIT and not expected.isascii():
            raise AssertionError("8-bit content is declared as 7-bit")
        for path in letter.forward_paths:
            # One address may be named twice, with different parameters, and be taken once.
            said = [each for each in paths if each.address == path.address]
            assert said, "a recipient whom nobody named"
            assert any(_is_same_recipient(each, path) for each in said), f"{said} became {path}"


def _same_sender(said: ReversePath, heard: ReversePath) -> None:
    assert said.address == heard.address, "the reverse-path changed on its way"
    assert heard.dsn_return in (said.dsn_return, None)
    assert heard.envelope_id in (said.envelope_id, None) or not (said.envelope_id or "").isprintable()


def _is_same_recipient(said: ForwardPath, heard: ForwardPath) -> bool:
    if heard.notify not in (None, said.notify):
        return False
    original = said.original_recipient
    if heard.original_recipient is None or not (original or "").isprintable():
        return True  # a control stays encoded: decoded it would break the lines of a DSN
    kind, _, text = (original or "").partition(";")
    if not text.isascii():
        kind = "utf-8"  # RFC 6533 §3: the only type that can say it
    return heard.original_recipient == f"{kind};{text}"
