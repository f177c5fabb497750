# SPDX-License-Identifier: Apache-2.0
"""The people of the world: they submit letters and read their mailboxes as a mail program would.

Invariant: what a person believes about a letter is what the server said, no more: accepted, refused, or not
known because the connection broke.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from posthouse.mail.address import parse_address
from posthouse.mail.compose import address_field, structured_field
from posthouse.mail.compose import field as text_field
from posthouse.mail.dates import format_date
from posthouse.mail.envelope import Envelope, ForwardPath, ReversePath
from posthouse.mail.header import scan_header
from posthouse.net.session import TlsRefused
from posthouse.net.smtp_transport import SmtpTransport
from posthouse.outcome import Outcome
from posthouse.ports import ConnectFault, Target
from posthouse.protocol.engine import RemoteProtocolError, Signal
from posthouse.protocol.pop3.client import Answer, Challenge, Pop3Client
from posthouse.protocol.smtp.client_transaction import MAY_BE_TWICE
from posthouse.sim.devices import Device
from posthouse.sim.holdings import Holdings
from posthouse.sim.loop import Life, WorldLoop
from posthouse.sim.machine import EPOCH, SeededEntropy
from posthouse.sim.tls import WorldTlsStarter
from posthouse.sim.transport import READ_SIZE, WorldTransport

T = TypeVar("T")

# Seconds for a whole visit to the mailbox. Beyond, a person gives up and comes back later.
PATIENCE = 900.0


@dataclass(frozen=True, slots=True)
class Try:
    """One mail transaction with the own server: an outcome per recipient."""

    recipients: tuple[str, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(slots=True)
class Sent:
    """One letter that somebody tried to submit, as often as they wished."""

    message_id: str  # with its brackets
    sender: str
    recipients: tuple[str, ...]
    octets: bytes
    at: float
    tries: list[Try] = field(default_factory=list)
    underway: tuple[str, ...] = ()  # recipients of the try that goes on now

    def outcomes(self, recipient: str) -> list[Outcome]:
        """Of every try for that recipient."""
        return [
            outcome
            for each in self.tries
            for name, outcome in zip(each.recipients, each.outcomes, strict=True)
            if name == recipient
        ]

    @property
    def accepted(self) -> list[str]:
        """The recipients that the server took responsibility for."""
        return [name for name in self.recipients if any(each.is_delivered for each in self.outcomes(name))]

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Those for whom the server has said neither yes nor no for good."""
        return tuple(name for name in self.recipients if all(each.is_deferred for each in self.outcomes(name)))

    def copies(self, recipient: str) -> int:
        """Copies that may have come into being at the own server: it said yes, or said nothing."""
        answered = sum(is_uncertain(each) or each.is_delivered for each in self.outcomes(recipient))
        return answered + (recipient in self.underway)


def is_uncertain(outcome: Outcome) -> bool:
    """Whether the other side may have taken the letter all the same: it had the whole of it, and no answer came, or
    none that can be one."""
    return outcome.reply is None and outcome.diagnostic.endswith(MAY_BE_TWICE)


@dataclass(frozen=True, slots=True)
class Found:
    """A letter in the own mailbox, as POP3 gave it."""

    unique_id: str
    octets: bytes


class MailboxFault(Exception):  # noqa: N818 - as ConnectFault
    """The mailbox could not be read; try again later."""


@dataclass(slots=True)
class Person:
    """`name` is the address. `home`: host name and address of their server. `mechanisms`: what their mail program
    knows to log in with for submission; empty: everything. `uses_imap`: the mailbox is read with it (mail_program.py),
    by several devices; else with POP3."""

    name: str
    password: str
    home: str
    home_address: str
    life: Life
    loop: WorldLoop
    entropy: SeededEntropy
    mechanisms: tuple[str, ...] = ("PLAIN",)  # SCRAM costs 3 ms of real time for each login
    taken: dict[str, bytes] = field(default_factory=dict)  # letters removed from the server, by unique id
    removed: dict[str, None] = field(default_factory=dict)  # those of which the server has said that they are gone
    written: int = 0
    uses_imap: bool = False
    devices: list[Device] = field(default_factory=list)
    holdings: Holdings = field(default_factory=Holdings)

    # --- writing ----------------------------------------------------------------------------------

    def letter(self, recipients: Sequence[str], text: str) -> Sent:
        """Written, not sent yet. `text` has lines that end in CRLF."""
        self.written += 1
        author = parse_address(self.name)
        message_id = f"<letter-{self.written}.{author.local_part}@{author.domain}>"
        now = self.loop.time()
        header = [
            address_field("From", [("", author)]),
            address_field("To", [("", parse_address(each)) for each in recipients]),
            text_field("Subject", f"Letter {self.written}"),
            structured_field("Date", format_date(EPOCH + now)),
            structured_field("Message-ID", message_id),
        ]
        body = text.encode()
        octets = b"".join(header) + b"\r\n" + body
        return Sent(message_id, self.name, tuple(recipients), octets, now)

    async def submit(self, sent: Sent) -> Sent:
        """Hand it to the own server, over STARTTLS, with the password, for whom it is not settled yet.

        Raises ConnectFault; it may be tried again.
        """
        await self.as_me(self._submit(sent))
        return sent

    async def _submit(self, sent: Sent) -> None:
        transport = SmtpTransport(self.entropy, WorldTlsStarter(), mechanisms=self.mechanisms)
        target = Target(
            host=self.home,
            address=self.home_address,
            port=587,
            tls="verify",
            username=self.name,
            password=self.password,
            helo=f"[{self.life.address}]",
        )
        connection = await transport.connect(target)
        envelope = Envelope(
            ReversePath(parse_address(sent.sender)),
            tuple(ForwardPath(parse_address(each)) for each in sent.unsettled),
        )
        sent.underway = sent.unsettled
        try:
            outcomes = await connection.send(envelope, [sent.octets])
            sent.tries.append(Try(sent.underway, tuple(outcomes)))
        finally:
            sent.underway = ()
            with suppress(ConnectFault):
                await connection.close()

    # --- reading ----------------------------------------------------------------------------------

    async def read(self, *, is_removing: bool = False, password: str | None = None) -> list[bytes]:
        """Every letter of the mailbox. `is_removing`: takes them away. Raises MailboxFault."""
        removed = (lambda _: True) if is_removing else (lambda _: False)
        return [each.octets for each in await self.visit(removed, password=password)]

    async def visit(self, removed: Callable[[int], bool], *, password: str | None = None) -> list[Found]:
        """Read every letter, and take away those whose number `removed` says. Raises MailboxFault."""
        return await self.as_me(self._read(self.password if password is None else password, removed))

    async def _read(self, password: str, removed: Callable[[int], bool]) -> list[Found]:
        try:
            async with asyncio.timeout(PATIENCE):
                visit = await _Visit.begin(self.home, self.home_address)
                try:
                    return await self._visit(visit, password, removed)
                finally:
                    visit.end()
        except (OSError, RemoteProtocolError, TimeoutError, TlsRefused) as error:
            raise MailboxFault(str(error) or "no answer") from error

    async def _visit(self, visit: _Visit, password: str, removed: Callable[[int], bool]) -> list[Found]:
        client = visit.client
        await visit.say()  # the greeting
        client.user(self.name)
        client.password(password)
        await visit.say()
        await visit.say()
        client.unique_ids()
        listing = (await visit.say()).body or b""
        found = []
        for line in listing.splitlines():
            said, unique_id = line.decode().split()
            client.retrieve(int(said))
            found.append(Found(unique_id, (await visit.say()).body or b""))
        marked = [number for number in range(1, len(found) + 1) if removed(number)]
        for number in marked:
            client.delete(number)
            await visit.say()
        # RFC 1939 §6: they go at QUIT, not before; when its answer is lost nobody knows whether they went.
        self.taken.update((found[number - 1].unique_id, found[number - 1].octets) for number in marked)
        client.quit()
        await visit.say()
        self.removed.update((found[number - 1].unique_id, None) for number in marked)
        return found

    async def as_me(self, work: Coroutine[Any, Any, T]) -> T:
        return await self.loop.create_task(work, context=self.life.context)


class _Visit:
    """A POP3 session over TLS, one command at a time."""

    def __init__(self, reader: asyncio.StreamReader, transport: WorldTransport) -> None:
        self.client = Pop3Client()
        self._reader = reader
        self._transport = transport

    @classmethod
    async def begin(cls, host: str, address: str) -> _Visit:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        transport, protocol = await loop.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), address, 995
        )
        assert isinstance(transport, WorldTransport)
        assert isinstance(protocol, asyncio.Protocol)
        await WorldTlsStarter().start(transport, protocol, host, is_verified=True)
        return cls(reader, transport)

    async def say(self) -> Answer:
        """Send what is waiting and hear the next answer. Raises MailboxFault for one that is not +OK."""
        while True:
            event = self.client.next_event()
            if isinstance(event, Answer):
                if not event.is_ok:
                    raise MailboxFault(f"[{event.code}] {event.text}")
                return event
            if isinstance(event, Challenge) or event is not Signal.NEED_DATA:
                raise RemoteProtocolError(f"{event} was not expected")
            self._transport.writelines(self.client.data_to_send())
            self.client.receive_data(await self._reader.read(READ_SIZE))

    def end(self) -> None:
        self._transport.close()


def message_id_of(letter: bytes) -> str:
    return scan_header(letter).message_id.decode()
