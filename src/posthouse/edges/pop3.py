# SPDX-License-Identifier: Apache-2.0
"""POP3 sessions: engine events to service calls, outcomes to replies.

Invariant: the maildrop is released however the session ends; letters go only with the +OK to QUIT.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import assert_never

from posthouse import __version__
from posthouse.mail.downgrade import surrogate
from posthouse.outcome import AUTH_FAILED, Refusal
from posthouse.ports import DamagedContent, Peer, StoreFault, TlsInfo
from posthouse.protocol.pop3 import events as event_types
from posthouse.protocol.pop3.events import Event
from posthouse.protocol.pop3.server import Pop3Server
from posthouse.services.directory import Account
from posthouse.services.login import Login, SaslExchange, Success
from posthouse.services.maildrop import UNIQUE_ID, Letter, MaildropInUse, Maildrops, OpenMaildrop, top
from posthouse.telemetry import Log, Metrics

MAX_TARPIT = 10.0  # seconds; see edges/smtp.py
# What names letters by their numbers: the totals of a large mailbox are known without them.
NUMBERED = (event_types.Retr, event_types.Dele, event_types.Top, event_types.List, event_types.Uidl)
LANGUAGES = {"en": "English"}  # of the replies (RFC 6856 §3)


@dataclass(frozen=True, slots=True)
class Pop3Terms:
    """What all sessions of one listener share."""

    hostname: str
    login: Login
    maildrops: Maildrops
    metrics: Metrics
    log: Log
    plaintext_auth: bool
    tarpit_after: int
    close_after: int


class Pop3Session:
    def __init__(self, engine: Pop3Server, peer: Peer, tls: TlsInfo | None, terms: Pop3Terms) -> None:
        self.engine = engine
        self._peer = peer
        self._tls = tls
        self._terms = terms
        self._drop: OpenMaildrop | None = None
        self._exchange: SaslExchange | None = None
        self._errors = 0
        terms.metrics.sessions.labels("pop3").inc()
        terms.metrics.open_sessions.labels("pop3").inc()

    def secured(self, tls: TlsInfo) -> None:
        self._tls = tls

    async def closed(self) -> None:
        self._terms.metrics.open_sessions.labels("pop3").dec()
        if self._drop is not None:
            self._drop.release()

    async def answer(self, event: Event) -> None:
        try:
            await self._answer(event)
        except MaildropInUse as in_use:
            self.engine.err(in_use.text, "IN-USE")
        except Refusal as refusal:
            await self._refuse(refusal.text, _code(refusal))
        except DamagedContent as damage:
            # Nothing else is ever sent in its place. The client may go on with the others, and delete this one.
            self._terms.log.error("letter damaged", trace=self._peer.trace, reason=str(damage))
            self.engine.err("This letter is damaged on the server, tell its postmaster", "SYS/PERM")
        except StoreFault as fault:
            self._terms.log.error("store failed", trace=self._peer.trace, reason=str(fault))
            self.engine.err("A fault of this server, try again later", "SYS/TEMP")

    async def _answer(self, event: Event) -> None:
        if isinstance(event, NUMBERED) and not self._maildrop.is_listed:
            await self._maildrop.read_list()
        match event:
            case event_types.Retr():
                letter = await self._maildrop.retrieve(event.number)
                parts = self._readable(letter, letter.content)
                octets = sum(map(len, parts))
                self.engine.letter(f"{octets} octets", parts, has_dot_lines=letter.has_dot_lines)
            case event_types.Dele():
                self._maildrop.delete(event.number)
                self.engine.ok(f"Letter {event.number} goes at QUIT")
            case event_types.Top():
                letter = await self._maildrop.retrieve(event.number)
                parts = self._readable(letter, top(letter, event.lines))
                self.engine.letter("Top of the letter", parts, has_dot_lines=letter.has_dot_lines)
            case event_types.Stat():
                count, octets_in_all = self._maildrop.stat()
                self.engine.ok(f"{count} {octets_in_all}")
            case event_types.List():
                self._list(event.number)
            case event_types.Uidl():
                self._uidl(event.number)
            case event_types.Pass():
                account = await self._terms.login.with_password(
                    event.name, event.password, scope="pop3", peer=self._peer
                )
                await self._open(account)
            case event_types.AuthStart() | event_types.AuthResponse():
                await self._authenticate(event)
            case event_types.Quit():
                await self._quit(is_update=event.is_update)
            case event_types.CommandError():
                await self._refuse(event.text, event.code)
            case _:
                self._answer_rest(event)

    def _answer_rest(
        self,
        event: event_types.Opened
        | event_types.User
        | event_types.AuthList
        | event_types.Capa
        | event_types.Stls
        | event_types.Noop
        | event_types.Rset
        | event_types.Utf8
        | event_types.Lang
        | event_types.Disconnected,
    ) -> None:
        engine = self.engine
        match event:
            case event_types.Opened():
                engine.ok(f"{self._terms.hostname} POP3 ready")
            case event_types.User():
                engine.ok("Password, please")  # also for names that are not here (RFC 1939 §13)
            case event_types.AuthList():
                engine.listing("Mechanisms", self._mechanisms())
            case event_types.Capa():
                engine.listing("Capabilities", self._capabilities())
            case event_types.Stls():
                engine.ok("Begin TLS")
            case event_types.Noop():
                engine.ok()
            case event_types.Rset():
                self._maildrop.reset()
                engine.ok("Nothing is marked")
            case event_types.Utf8():
                engine.ok("UTF-8 it is")
            case event_types.Lang():
                self._lang(event.tag)
            case event_types.Disconnected():
                return
            case _:
                assert_never(event)

    # --- login ------------------------------------------------------------------------------------

    async def _authenticate(self, event: event_types.AuthStart | event_types.AuthResponse) -> None:
        login = self._terms.login
        response: bytes | None
        if isinstance(event, event_types.AuthStart):
            self._exchange = login.start(
                event.mechanism,
                scope="pop3",
                peer=self._peer,
                tls=self._tls,
                is_protected=self._is_protected,
            )
            response = event.initial
        else:
            response = event.data
        assert self._exchange is not None
        step = await login.step(self._exchange, response)
        if isinstance(step, Success):
            self._exchange = None
            await self._open(step.account)
        else:
            self.engine.challenge(step.data)

    async def _open(self, account: Account) -> None:
        self._terms.metrics.logins.labels("ok").inc()
        self._drop = await self._terms.maildrops.open(account)
        count, octets = self._drop.stat()
        self._terms.log.info(
            "maildrop open", trace=self._peer.trace, peer=self._peer.address, account=account.name, letters=count
        )
        self.engine.ok(f"{count} letters ({octets} octets)")

    @property
    def _is_protected(self) -> bool:
        return self._tls is not None or self._terms.plaintext_auth

    def _mechanisms(self) -> tuple[str, ...]:
        return self._terms.login.mechanisms(is_protected=self._is_protected)

    def _capabilities(self) -> list[str]:
        # RFC 2449 §6, RFC 6856; LOGIN-DELAY 0 and EXPIRE NEVER say that there is no such rule.
        words = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "LOGIN-DELAY 0"]
        words += ["UTF8 USER", "LANG"]
        if self._is_protected:
            words.append("USER")
        mechanisms = self._mechanisms()
        if mechanisms:
            words.append(f"SASL {' '.join(mechanisms)}")
        if self.engine.offers_tls:
            words.append("STLS")
        words.append(f"IMPLEMENTATION posthouse-{__version__}")
        return words

    # --- the maildrop -----------------------------------------------------------------------------

    @property
    def _maildrop(self) -> OpenMaildrop:
        assert self._drop is not None, "the engine knows that somebody has logged in"
        return self._drop

    def _list(self, number: int | None) -> None:
        drop = self._maildrop
        if number is not None:
            self.engine.ok(f"{number} {drop.size(number)}")
            return
        count, octets = drop.stat()
        # RFC 6856 §2.1: the size SHOULD be that of what RETR sends. For a letter that goes as a surrogate it is that
        # of the letter itself, which RFC 6858 §4 allows: no letter is read to make a list, and a size must not change
        # within a session. The +OK to RETR tells the true one.
        self.engine.rows(f"{count} letters ({octets} octets)", b"%d %d", drop.sizes())

    def _uidl(self, number: int | None) -> None:
        drop = self._maildrop
        if number is not None:
            self.engine.ok(f"{number} {drop.unique_id(number)}")
            return
        self.engine.rows("Unique-ids", b"%d " + UNIQUE_ID, drop.unique_ids())

    def _readable(self, letter: Letter, content: memoryview) -> list[bytes | memoryview]:
        """The letter with this much of its content, its header in ASCII unless UTF8 was said (RFC 6856 §2.1).

        The body goes as it is: eight bits there are MIME's, and no surrogate's business.
        """
        if self.engine.is_utf8:
            return [letter.prefix, content]
        header = bytes(content[: letter.header_size])
        if header.isascii() and letter.prefix.isascii():
            return [letter.prefix, content]
        return [surrogate(letter.prefix + header), content[letter.header_size :]]

    async def _quit(self, *, is_update: bool) -> None:
        if not is_update:
            self.engine.ok("Bye")
            return
        try:
            removed = await self._maildrop.commit()
        except StoreFault as fault:
            # RFC 1939 §6: -ERR says that some letters were not removed; with few of them it is none.
            self._terms.log.error("not all removed", trace=self._peer.trace, reason=str(fault))
            self.engine.err("Not everything was removed, a fault of this server", "SYS/TEMP")
            return
        self.engine.ok(f"Bye, {removed} removed")

    def _lang(self, tag: str | None) -> None:
        if tag is None:
            self.engine.listing("Languages", [f"{each} {name}" for each, name in LANGUAGES.items()])
        elif tag == "*" or tag.partition("-")[0] in LANGUAGES:
            self.engine.ok("en Replies are in English")
        else:
            self.engine.err("That language is not known here")

    # --- refusals ---------------------------------------------------------------------------------

    async def _refuse(self, text: str, code: str) -> None:
        """-ERR; a client that collects them waits longer each time, and is sent away in the end."""
        terms = self._terms
        self._errors += 1
        terms.log.info("refused", trace=self._peer.trace, peer=self._peer.address, code=code, text=text)
        if self._errors > terms.tarpit_after:
            await asyncio.sleep(min(self._errors - terms.tarpit_after, MAX_TARPIT))
        self.engine.err(text, code)
        if self._errors >= terms.close_after:
            self.engine.end("Too many errors, closing")


def _code(refusal: Refusal) -> str:
    """RFC 3206 §4: AUTH for wrong credentials, SYS/TEMP and SYS/PERM for our own troubles."""
    if refusal.status == AUTH_FAILED:
        return "AUTH"
    if refusal.status.subject == 7:
        return "SYS/TEMP" if refusal.status.is_transient else "AUTH"
    if refusal.status.subject == 2:
        return "SYS/PERM"
    return ""
