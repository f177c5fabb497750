# SPDX-License-Identifier: Apache-2.0
"""A strange mail server at work: one session, read from top to bottom like a script.

Invariant: a letter is kept, once, exactly when the stranger took responsibility for it or behaves as if it had;
whether the client can know is in `was_answered`, which is true only after the client spoke again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

from posthouse.net.session import TlsRefused
from posthouse.sim.strangers_manners import Act, Manners, Say, Stage, Trick, Wait
from posthouse.sim.strangers_wire import Over, Wire
from posthouse.sim.tls import Certificate, WorldTlsUpgrader

HANDSHAKE_SECONDS = 30.0
# RFC 5321 §4.5.3.2.7: a server waits at least five minutes for a command; this one is patient.
COMMAND_SECONDS = 600.0
# For a whole letter, however slow its line.
CONTENT_SECONDS = 6 * 3600.0
# A session of our client has some dozens of commands; a stranger endures more, but not for ever.
MOST_COMMANDS = 10_000
ENDLESS_LINES = 1000  # of one reply
LONG_REPLY = 10 * 1024  # octets of a reply line that nobody should send (RFC 5321 §4.5.3.1.5: 512)


@dataclass(slots=True)
class KeptLetter:
    """`recipients` and `reverse_path` as they were said, without brackets; `content` octet for octet, unstuffed.
    `was_answered`: the client has heard our 250, since it spoke again after it. `at`: virtual seconds."""

    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes
    was_answered: bool
    at: float


class Office(Protocol):
    """What a session needs of its Stranger."""

    hostname: str
    domain: str

    @property
    def manners(self) -> Manners: ...

    @property
    def now(self) -> float: ...

    def act(self, stage: Stage) -> Act | None:
        """What goes wrong now, by its habits."""

    def is_greylisted(self, client: str, reverse_path: str, recipient: str) -> bool: ...

    def keep(self, letter: KeptLetter) -> None: ...

    def note(self, text: str) -> None: ...


class StrangeSession:
    def __init__(self, office: Office, wire: Wire) -> None:
        self._office = office
        self._wire = wire
        self._client = ""
        self._has_tls = False
        self._reverse_path: str | None = None
        self._recipients: list[str] = []
        self._content = bytearray()  # chunks of BDAT
        self._unheard: KeptLetter | None = None  # answered, and the client has not spoken since

    async def run(self) -> None:
        self._client = self._wire.end.get_extra_info("peername")[0]
        try:
            if await self._answer(Stage.GREETING, f"220 {self._office.hostname} at your service"):
                for _ in range(MOST_COMMANDS):
                    async with asyncio.timeout(COMMAND_SECONDS):
                        line = await self._wire.line()
                    self._heard()
                    await self._command(line.decode("utf-8", "replace"))
        except Over:
            self._wire.close()
        except TimeoutError:
            self._wire.abort()

    def _heard(self) -> None:
        if self._unheard is not None:
            self._unheard.was_answered = True
            self._unheard = None

    async def _command(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        match verb.upper():
            case "EHLO" if self._office.manners.has_ehlo:
                await self._ehlo()
            case "HELO":
                self._reset()
                await self._answer(Stage.EHLO, f"250 {self._office.hostname}")
            case "STARTTLS" if self._offers("STARTTLS") and not self._has_tls:
                await self._starttls()
            case "MAIL":
                await self._mail(rest)
            case "RCPT":
                await self._rcpt(rest)
            case "DATA":
                await self._data()
            case "BDAT" if self._offers("CHUNKING"):
                await self._bdat(rest)
            case "RSET":
                self._reset()
                await self._answer(Stage.RSET, "250 2.0.0 reset")
            case "NOOP":
                await self._reply("250 2.0.0 yes")
            case "QUIT":
                await self._answer(Stage.QUIT, "221 2.0.0 bye")
                raise Over
            case _:
                await self._reply("502 5.5.1 never heard of it")

    # --- commands ---------------------------------------------------------------------------------

    def _offers(self, keyword: str) -> bool:
        return any(each.split()[0] == keyword for each in self._office.manners.extensions)

    async def _ehlo(self) -> None:
        self._reset()
        offered = [each for each in self._office.manners.extensions if each != "STARTTLS" or not self._has_tls]
        lines = [self._office.hostname, *offered]
        last = len(lines) - 1
        reply = "\r\n".join(f"250{' ' if number == last else '-'}{line}" for number, line in enumerate(lines))
        await self._answer(Stage.EHLO, reply)

    async def _starttls(self) -> None:
        if not await self._answer(Stage.STARTTLS, "220 2.0.0 go ahead"):
            return
        self._wire.discard()
        certificate = Certificate((self._office.hostname,), is_broken=not self._office.manners.has_good_tls)
        try:
            await WorldTlsUpgrader(certificate).upgrade(self._wire.end, self._wire, HANDSHAKE_SECONDS, b"")
        except TlsRefused:
            raise Over from None
        self._has_tls = True
        self._reset()

    async def _mail(self, rest: str) -> None:
        if self._reverse_path is not None:
            await self._reply("503 5.5.1 one at a time")
        elif await self._answer(Stage.MAIL, "250 2.1.0 sender welcome"):
            self._reverse_path = _path(rest)

    async def _rcpt(self, rest: str) -> None:
        recipient = _path(rest)
        local_part, _, domain = recipient.rpartition("@")
        if self._reverse_path is None:
            await self._reply("503 5.5.1 MAIL first")
        elif domain.lower() != self._office.domain:
            await self._reply("550 5.7.1 we do not relay")
        elif local_part.lower() in self._office.manners.refused:
            await self._reply("550 5.1.1 nobody of that name")
        elif self._office.is_greylisted(self._client, self._reverse_path, recipient):
            await self._reply("451 4.7.1 greylisted, come back in five minutes")
        elif await self._answer(Stage.RCPT, "250 2.1.5 recipient welcome"):
            self._recipients.append(recipient)

    async def _data(self) -> None:
        if not self._recipients and (self._reverse_path is None or not self._office.manners.takes_data_for_nobody):
            await self._reply("503 5.5.1 RCPT first" if self._reverse_path is None else "554 5.5.1 no valid recipients")
            return
        if not await self._answer(Stage.DATA, "354 go ahead"):
            return
        async with asyncio.timeout(CONTENT_SECONDS):
            await self._wire.started(1)
            await self._in_content()
            stuffed = await self._wire.until_dot()
        content = stuffed.replace(b"\r\n..", b"\r\n.")
        await self._end(content[1:] if content.startswith(b"..") else content)

    async def _bdat(self, rest: str) -> None:
        if self._office.act(Stage.BDAT) is not None:
            await self._reply("502 5.5.1 never heard of it")
            return
        words = rest.upper().split()
        left = int(words[0])
        async with asyncio.timeout(CONTENT_SECONDS):
            if left:
                await self._wire.started(1)
                await self._in_content()
            while left:
                part = await self._wire.some(left)
                self._content += part
                left -= len(part)
        if not self._recipients:
            self._content.clear()
            await self._reply("503 5.5.1 RCPT first")
        elif words[1:] == ["LAST"]:
            content = bytes(self._content)
            self._content.clear()
            await self._end(content)
        else:
            await self._reply("250 2.0.0 more")

    # --- a letter ---------------------------------------------------------------------------------

    async def _in_content(self) -> None:
        """Something may happen while it comes."""
        act = self._office.act(Stage.CONTENT)
        match act:
            case None:
                return
            case Wait(seconds):
                self._wire.end.pause_reading()
                await self._wire.pause(seconds)
                self._wire.end.resume_reading()
            case Say(reply):
                await self._reply(reply)
                self._wire.close()
                raise Over
            case Trick.IGNORE:
                self._wire.end.pause_reading()
                await self._wire.loss()
            case Trick.CLOSE | Trick.KEEP_AND_CLOSE:
                self._wire.close()
                raise Over
            case Trick.DROP | Trick.KEEP_AND_DROP:
                self._wire.abort()
                raise Over
            case Trick.SUCCESS_OF_NOTHING | Trick.TWO_REPLIES:
                # A success here would be taken for the answer to a final dot that is on its way: a lie, no manner.
                self._wire.write(_wrong(Trick.GARBAGE, ""))
            case _:
                self._wire.write(_wrong(act, "451 4.3.0 that is enough"))

    async def _end(self, content: bytes) -> None:
        office = self._office
        reverse_path, recipients = self._reverse_path or "", tuple(self._recipients)
        self._reset()

        def keep() -> KeptLetter:
            letter = KeptLetter(reverse_path, recipients, content, was_answered=False, at=office.now)
            office.keep(letter)
            return letter

        letter = await self._answer(Stage.END, "250 2.6.0 kept", keep)
        if isinstance(letter, KeptLetter):
            self._unheard = letter

    def _reset(self) -> None:
        self._reverse_path = None
        self._recipients.clear()
        self._content.clear()

    # --- answers ----------------------------------------------------------------------------------

    async def _answer(
        self, stage: Stage, reply: str, effect: Callable[[], KeptLetter | None] = lambda: None
    ) -> KeptLetter | bool:
        """The usual reply, after its effect, or what the stranger does instead. False: there was no effect.
        Gives what the effect gave if the usual reply followed it, else True."""
        act = self._office.act(stage)
        if act is not None:
            self._office.note(f"{self._office.hostname} does {act} at {stage.name} to {self._client}")
        match act:
            case None:
                made = effect()
                await self._reply(reply)
                return made or True
            case Wait(seconds):
                made = effect()
                await self._wire.pause(seconds)
                await self._reply(reply)
                return made or True
            case Say(instead):
                await self._reply(instead)
                if instead.startswith("421") or stage is Stage.GREETING:
                    raise Over
                return False
            case Trick.IGNORE:
                await self._wire.loss()
                raise Over
            case Trick.KEEP_AND_DROP | Trick.KEEP_AND_CLOSE | Trick.DROP | Trick.CLOSE:
                if act in (Trick.KEEP_AND_DROP, Trick.KEEP_AND_CLOSE):
                    effect()
                if act in (Trick.DROP, Trick.KEEP_AND_DROP):
                    self._wire.abort()
                raise Over
            case Trick():
                effect()
                self._wire.write(_wrong(act, reply))
                return True
            case _:
                assert_never(act)

    async def _reply(self, text: str) -> None:
        manners = self._office.manners
        if manners.delay:
            await self._wire.pause(manners.delay)
        self._wire.write(f"{text}\r\n".encode(), is_dribbling=manners.is_dribbling)


def _path(rest: str) -> str:
    """What stands between the brackets."""
    return rest.partition("<")[2].partition(">")[0]


def _wrong(trick: Trick, reply: str) -> bytes:
    """The reply as no server should give it."""
    last = reply.rpartition("\r\n")[2]
    code, text = last[:3], last[4:]
    match trick:
        case Trick.CODES_DIFFER:
            wrong = f"{code}-{text}\r\n550 {text}\r\n"
        case Trick.NO_LAST_LINE:
            wrong = f"{code}-{text}\r\n{code}-and\r\n"
        case Trick.GARBAGE:
            wrong = "HTTP/1.1 400 Bad Request\r\n\r\n"
        case Trick.LONG_LINE:
            wrong = f"{code} {'x' * LONG_REPLY}\r\n"
        case Trick.BARE_LF:
            wrong = f"{code} {text}\n"
        case Trick.TWO_REPLIES:
            wrong = f"{code} {text}\r\n{code} {text}\r\n"
        case Trick.SUCCESS_OF_NOTHING:
            wrong = "214 2.0.0 see the manual\r\n"
        case Trick.ENDLESS:
            wrong = f"{code}-{text}\r\n" * ENDLESS_LINES + f"{code} {text}\r\n"
        case _:
            return bytes(range(256)) + b"\r\n"
    return wrong.encode()
