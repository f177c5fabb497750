# SPDX-License-Identifier: Apache-2.0
"""A strange mail server that sends: one letter in one session, politely or not.

Invariant: `is_acknowledged` is true only when our server said 2yz after the whole content; when the whole content
may have reached it and no answer came back, `is_uncertain` says so. Anything else was not accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random

from posthouse.mail.dates import format_date
from posthouse.mail.header import scan_header
from posthouse.net.session import TlsRefused
from posthouse.ports import NameNotFound, Resolver, ResolverFault
from posthouse.sim.strangers_wire import Over, Wire
from posthouse.sim.tls import WorldTlsStarter

# Seconds: for a connection, for each reply (RFC 5321 §4.5.3.2.6 gives the last one ten minutes), for all of it.
CONNECT_SECONDS = 30.0
REPLY_SECONDS = 600.0
PATIENCE = 3600.0
EPOCH = 1_800_000_000.0  # as sim/machine.py
# Of the letter that hides in another: no mailbox may ever have it.
SMUGGLED_ID = "smuggled@strangers"


class Call(Enum):
    """How the letter is sent."""

    POLITE = auto()
    HELO = auto()  # a client of the last century
    PIPELINED = auto()  # MAIL, RCPT, DATA in one breath
    EARLY = auto()  # everything in one breath, before the greeting, content and QUIT too
    BDAT = auto()  # in two chunks
    TYPED = auto()  # octet by octet
    NO_QUIT = auto()  # closes after the last answer
    RESET = auto()  # breaks the connection after the last answer
    STAY = auto()  # never closes: waits until the server does
    BREAK_IN_CONTENT = auto()  # resets the connection in the middle
    CLOSE_IN_CONTENT = auto()  # closes it before the final dot
    BREAK_IN_CHUNK = auto()  # announces more than it sends
    GONE_AFTER_DOT = auto()  # resets the connection without waiting for the answer
    CLOSE_AFTER_DOT = auto()  # closes it, and does not listen any more
    SMALL_SIZE = auto()  # announces fewer octets than come
    HUGE_SIZE = auto()  # announces more than anybody takes
    BARE_LF = auto()  # the content has lines that end in LF alone
    SMUGGLE = auto()  # a second letter hides behind LF, dot, CRLF
    NONSENSE = auto()  # unknown and broken commands first
    MUTE = auto()  # connects and says nothing
    NO_MAIL = auto()  # DATA without a mail transaction
    STARTTLS = auto()
    TLS_INJECTION = auto()  # the whole letter in the same breath as STARTTLS, in the clear (CVE-2011-0411)
    TLS_NOT_MEANT = auto()  # STARTTLS, and on in the clear
    TLS_SILENCE = auto()  # STARTTLS, and nothing more


class Guise(Enum):
    """Whom the letter says it is from."""

    HONEST = auto()
    FORGED = auto()  # somebody of the recipient's own domain
    BELOW = auto()  # somebody of a domain below it, which is not there
    TWICE = auto()  # itself, and in a second From field somebody of the recipient's domain
    NOBODY = auto()  # no From field

    @property
    def is_lie(self) -> bool:
        """Its author is somebody else, who has a DMARC policy."""
        return self in (Guise.FORGED, Guise.BELOW)


@dataclass(slots=True)
class SentLetter:
    """One letter to one recipient. `octets` as it was meant; `replies`: the last line of each."""

    recipient: str
    octets: bytes
    call: Call
    at: float
    reverse_path: str = ""
    guise: Guise = Guise.HONEST
    is_acknowledged: bool = False
    is_uncertain: bool = False
    replies: list[str] = field(default_factory=list)

    @property
    def message_id(self) -> str:
        """With its brackets."""
        return f"<{scan_header(self.octets).message_id.decode()}>"

    def __str__(self) -> str:
        fate = "accepted" if self.is_acknowledged else "uncertain" if self.is_uncertain else "not accepted"
        return f"{self.message_id} to {self.recipient}, {self.call.name}: {fate}; {' / '.join(self.replies[-3:])}"


def compose(number: int, domain: str, to: str, guise: Guise = Guise.HONEST) -> bytes:
    """A small letter, with dots at the beginning of lines."""
    here = to.rpartition("@")[2]
    authors = {
        Guise.HONEST: [domain],
        Guise.FORGED: [here],
        Guise.BELOW: [f"news.{here}"],
        Guise.TWICE: [domain, here],
        Guise.NOBODY: [],
    }
    header = (
        "".join(f"From: somebody@{author}\r\n" for author in authors[guise])
        + f"To: {to}\r\nSubject: Letter {number}\r\n"
        f"Date: {format_date(EPOCH + number)}\r\nMessage-ID: <strange-{number}@{domain}>\r\n"
    )
    return f"{header}\r\n.\r\n..two dots\r\nLetter {number} from {domain}\r\n".encode()


class Conversation:
    """Sends one letter. `run` always ends and never raises."""

    def __init__(self, sent: SentLetter, hostname: str, resolver: Resolver, chance: Random) -> None:
        self._sent = sent
        self._hostname = hostname
        self._resolver = resolver
        self._chance = chance
        self._wire = Wire()

    async def run(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connect()
                await self._talk()
        except (Over, OSError, TimeoutError, TlsRefused, NameNotFound, ResolverFault) as why:
            self._sent.replies.append(f"({type(why).__name__})")
        finally:
            if self._wire.transport is not None:
                self._wire.close()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        hosts = await self._resolver.mx(self._sent.recipient.rpartition("@")[2])
        best = min(hosts, key=lambda record: record.preference, default=None)
        addresses = await self._resolver.addresses(best.host) if best is not None else []
        if not addresses:
            raise Over
        async with asyncio.timeout(CONNECT_SECONDS):
            await loop.create_connection(lambda: self._wire, str(addresses[0]), 25)

    # --- the ways to do it ------------------------------------------------------------------------

    async def _talk(self) -> None:
        match self._sent.call:
            case Call.MUTE:
                await self._wire.loss()
            case Call.EARLY:
                await self._early()
            case Call.NO_MAIL:
                await self._greet()
                await self._say("DATA")
                await self._say("QUIT")
            case Call.NONSENSE:
                await self._greet()
                for line in ("FROB", "MAIL TO:<a>", "RCPT", "EHLO", "DATA now", "VRFY", "\x00\xff", "x" * 3000):
                    await self._say(line)
                await self._letter()
            case Call.STARTTLS | Call.TLS_INJECTION | Call.TLS_NOT_MEANT | Call.TLS_SILENCE:
                await self._secured()
            case Call.BDAT | Call.BREAK_IN_CHUNK:
                await self._greet()
                await self._chunks()
            case _:
                await self._greet()
                await self._letter()

    async def _greet(self) -> None:
        await self._reply()
        if self._sent.call is Call.HELO:
            await self._must(f"HELO {self._hostname}", "2")
        else:
            await self._must(f"EHLO {self._hostname}", "2")

    async def _secured(self) -> None:
        await self._greet()
        everything = "\r\n".join((*self._envelope(), "DATA", "")).encode() + _stuffed(self._sent.octets) + b".\r\n"
        match self._sent.call:
            case Call.TLS_INJECTION:
                self._write(b"STARTTLS\r\n" + everything)
                await self._reply()
            case Call.TLS_NOT_MEANT:
                await self._must("STARTTLS", "2")
                self._write(everything)
                await self._wire.loss()
                raise Over
            case Call.TLS_SILENCE:
                await self._must("STARTTLS", "2")
                await self._wire.loss()
                raise Over
            case _:
                await self._must("STARTTLS", "2")
        transport, wire = self._wire.end, self._wire
        wire.discard()
        await WorldTlsStarter().start(transport, wire, self._hostname, is_verified=False)
        if self._sent.call is Call.TLS_INJECTION:
            await self._say("NOOP")  # were the letter believed, this would be answered with 250 for MAIL first
            await self._say("QUIT")
            return
        await self._must(f"EHLO {self._hostname}", "2")
        await self._letter()

    async def _letter(self) -> None:
        call = self._sent.call
        if call is Call.PIPELINED:
            self._write("\r\n".join((*self._envelope(), "DATA", "")).encode())
            codes = [await self._reply() for _ in range(3)]
            if codes[-1] != "354":
                raise Over
        else:
            for line in self._envelope():
                await self._must(line, "2")
            await self._must("DATA", "3")
        await self._content()

    async def _content(self) -> None:
        sent, wire = self._sent, self._wire
        stuffed = _stuffed(sent.octets)
        match sent.call:
            case Call.BREAK_IN_CONTENT:
                self._write(stuffed[: self._chance.randrange(len(stuffed))])
                wire.abort()
                return
            case Call.CLOSE_IN_CONTENT:
                self._write(stuffed[: self._chance.randrange(len(stuffed))])
                return
            case Call.BARE_LF:
                self._write(stuffed[:-2].replace(b"\r\n", b"\n") + b"\r\n")
            case Call.SMUGGLE:
                self._write(stuffed + self._smuggled())
            case _:
                self._write(stuffed)
        sent.is_uncertain = True
        self._write(b".\r\n")
        if sent.call is Call.GONE_AFTER_DOT:
            wire.abort()
            return
        if sent.call is Call.CLOSE_AFTER_DOT:
            return
        await self._answered()

    async def _chunks(self) -> None:
        sent = self._sent
        for line in self._envelope():
            await self._must(line, "2")
        cut = self._chance.randrange(1, len(sent.octets))
        first, last = sent.octets[:cut], sent.octets[cut:]
        self._write(b"BDAT %d\r\n" % len(first) + first)
        if (await self._reply())[:1] != "2":
            raise Over
        if sent.call is Call.BREAK_IN_CHUNK:
            self._write(b"BDAT %d LAST\r\n" % len(last) + last[:-1])
            return
        sent.is_uncertain = True
        self._write(b"BDAT %d LAST\r\n" % len(last) + last)
        await self._answered()

    async def _early(self) -> None:
        lines = (f"EHLO {self._hostname}", *self._envelope(), "DATA", "")
        self._sent.is_uncertain = True
        self._write("\r\n".join(lines).encode() + _stuffed(self._sent.octets) + b".\r\nQUIT\r\n")
        codes = [await self._reply() for _ in range(5)]
        if codes[-1] == "354":
            await self._answered(is_quitting=False)

    async def _answered(self, *, is_quitting: bool = True) -> None:
        """The answer that counts, then the end."""
        sent = self._sent
        sent.is_acknowledged = (await self._reply())[:1] == "2"
        sent.is_uncertain = False
        match sent.call:
            case Call.NO_QUIT:
                return
            case Call.RESET:
                self._wire.abort()
            case Call.STAY:
                await self._wire.loss()
            case _ if is_quitting:
                await self._say("QUIT")

    def _envelope(self) -> Sequence[str]:
        size = {Call.SMALL_SIZE: " SIZE=10", Call.HUGE_SIZE: f" SIZE={10**15}"}.get(self._sent.call, "")
        return (f"MAIL FROM:<{self._sent.reverse_path}>{size}", f"RCPT TO:<{self._sent.recipient}>")

    def _smuggled(self) -> bytes:
        """What a server that takes LF for the end of a line would take for another letter."""
        lines = (*self._envelope(), "DATA", f"Message-ID: <{SMUGGLED_ID}>", "", "Boo!", "")
        return b"\n.\r\n" + "\r\n".join(lines).encode()

    # --- words ------------------------------------------------------------------------------------

    def _write(self, octets: bytes) -> None:
        self._wire.write(octets, is_dribbling=self._sent.call is Call.TYPED)

    async def _say(self, line: str) -> str:
        self._write(f"{line}\r\n".encode("latin-1"))
        return await self._reply()

    async def _must(self, line: str, kind: str) -> None:
        """Over unless the reply is of that kind."""
        if (await self._say(line))[:1] != kind:
            raise Over

    async def _reply(self) -> str:
        """The code of the next reply."""
        async with asyncio.timeout(REPLY_SECONDS):
            while True:
                line = (await self._wire.line()).decode("utf-8", "replace")
                if line[3:4] != "-":
                    self._sent.replies.append(line)
                    return line[:3]


def _stuffed(octets: bytes) -> bytes:
    """RFC 5321 §4.5.2, without the final dot; `octets` ends with CRLF."""
    text = octets.replace(b"\r\n.", b"\r\n..")
    return b"." + text if text.startswith(b".") else text
