# SPDX-License-Identifier: Apache-2.0
"""SMTP, submission and LMTP sessions: engine events to service calls, outcomes to replies. No rules of mail here.

Invariant: every event is answered exactly once, and 250 for content only after `MailTransaction.finish` returned.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, assert_never

from posthouse import __version__
from posthouse.edges.smtp_replies import reply_to
from posthouse.mail.envelope import ReversePath
from posthouse.mail.trace import with_protocol
from posthouse.outcome import Refusal
from posthouse.ports import Clock, StoreFault, TlsInfo
from posthouse.protocol.smtp import events as event_types
from posthouse.protocol.smtp.events import Event
from posthouse.protocol.smtp.replies import Reply
from posthouse.protocol.smtp.server import SmtpServer
from posthouse.services.login import Login, SaslExchange, Success
from posthouse.services.transaction import Client, MailTransaction, store_refusal
from posthouse.telemetry import Log, Metrics

# Each further error of a misbehaving client costs it a second more, up to this: address harvesting gets slow,
# and a person's mistyped session stays usable.
MAX_TARPIT = 10.0


class Role(Enum):
    MX = "mx"
    SUBMISSION = "submission"
    LMTP = "lmtp"


class Office(Protocol):
    """Reception or Submission."""

    async def begin(self, client: Client, path: ReversePath) -> MailTransaction: ...


@dataclass(frozen=True, slots=True)
class SmtpTerms:
    """What all sessions of one listener share."""

    role: Role
    hostname: str
    office: Office
    login: Login
    clock: Clock
    metrics: Metrics
    log: Log
    tarpit_after: int
    close_after: int
    plaintext_auth: bool = False  # the operator allows passwords without TLS on this listener


READY = Reply.of(354, None, "End data with <CR><LF>.<CR><LF>")
MAIL_OK = Reply.of(250, (2, 1, 0), "Sender OK")
RCPT_OK = Reply.of(250, (2, 1, 5), "Recipient OK")
OK = Reply.of(250, (2, 0, 0), "OK")
BYE = Reply.of(221, (2, 0, 0), "Bye")
GO_AHEAD = Reply.of(220, (2, 0, 0), "Ready to start TLS")
LOGGED_IN = Reply.of(235, (2, 7, 0), "Authentication successful")
CANNOT_VERIFY = Reply.of(252, (2, 5, 2), "Cannot verify, but will take a letter and try to deliver it")
NO_EXPANSION = Reply.of(502, (5, 5, 1), "EXPN is not available here")
HELP = Reply.of(214, (2, 0, 0), "See RFC 5321; for people: postmaster at this host")
TOO_MANY_ERRORS = Reply.of(421, (4, 7, 0), "Too many errors, closing")
# What a refusal is about (RFC 3463 §3) when it is no mistake of the client's: a mailbox that is full, our own
# troubles, DNS, more recipients than one letter may have. An honest sender of a long list must not be sent away for it.
BLAMELESS = ((4, 2, 2), (4, 3, 0), (4, 3, 1), (4, 4, 3), (4, 5, 3))


class SmtpSession:
    def __init__(self, engine: SmtpServer, client: Client, terms: SmtpTerms) -> None:
        self.engine = engine
        self._client = client
        self._terms = terms
        self._transaction: MailTransaction | None = None
        self._spoiled: Refusal | None = None  # content that is read on to its end, but already refused
        self._exchange: SaslExchange | None = None
        self._errors = 0
        terms.metrics.sessions.labels(terms.role.value).inc()
        terms.metrics.open_sessions.labels(terms.role.value).inc()

    def secured(self, tls: TlsInfo) -> None:
        self._client.tls = tls
        self._client.hello = ""  # nothing said in the clear counts (RFC 3207 §4.2)
        self._client.account = None

    async def closed(self) -> None:
        self._terms.metrics.open_sessions.labels(self._terms.role.value).dec()
        await self._forget()

    async def answer(self, event: Event) -> None:
        try:
            await self._answer(event)
        except Refusal as refusal:
            await self._refuse(reply_to(refusal))
        except StoreFault as fault:
            self._terms.log.error("store failed", trace=self._client.peer.trace, reason=str(fault))
            await self._refuse(reply_to(store_refusal(fault)))

    async def _answer(self, event: Event) -> None:
        match event:
            case event_types.BodyChunk():
                await self._chunk(event.data)
            case event_types.MailFrom():
                await self._mail(event.path)
            case event_types.RcptTo():
                assert self._transaction is not None
                await self._transaction.add_recipient(event.path)
                self.engine.send(RCPT_OK)
            case event_types.DataStart():
                assert self._transaction is not None
                await self._transaction.begin_content()
                self.engine.send(READY)
            case event_types.MessageEnd():
                await self._message()
            case event_types.ChunkEnd():
                if self._spoiled is not None:
                    raise self._spoiled
                self.engine.send(Reply.of(250, (2, 0, 0), f"{event.size} octets received"))
            case event_types.MessageBad():
                await self._forget()
                await self._refuse(event.reply)
            case event_types.AuthStart() | event_types.AuthResponse():
                await self._authenticate(event)
            case event_types.CommandError():
                await self._refuse(event.reply)
            case _:
                await self._answer_rest(event)

    async def _answer_rest(
        self,
        event: event_types.Opened
        | event_types.Hello
        | event_types.Reset
        | event_types.StartTls
        | event_types.Vrfy
        | event_types.Expn
        | event_types.Help
        | event_types.Noop
        | event_types.Quit
        | event_types.Disconnected,
    ) -> None:
        match event:
            case event_types.Opened():
                protocol = "LMTP" if self._terms.role is Role.LMTP else "ESMTP"
                self.engine.send(Reply.of(220, None, f"{self._terms.hostname} {protocol} posthouse {__version__}"))
            case event_types.Hello():
                await self._hello(event)
            case event_types.Reset():
                await self._forget()
                self.engine.send(OK)
            case event_types.StartTls():
                await self._forget()
                self.engine.send(GO_AHEAD)
            case event_types.Vrfy():
                self.engine.send(CANNOT_VERIFY)  # RFC 5321 §7.3: a list of valid addresses is not for strangers
            case event_types.Expn():
                self.engine.send(NO_EXPANSION)
            case event_types.Help():
                self.engine.send(HELP)
            case event_types.Noop():
                self.engine.send(OK)
            case event_types.Quit():
                self.engine.send(BYE)
            case event_types.Disconnected():
                await self._forget()
            case _:
                assert_never(event)

    async def _hello(self, event: event_types.Hello) -> None:
        await self._forget()
        self._client.hello = event.name
        self._client.is_extended = event.verb != "HELO"
        mechanisms: tuple[str, ...] = ()
        if self._terms.role is Role.SUBMISSION:
            mechanisms = self._terms.login.mechanisms(is_protected=self._is_protected)
        self.engine.accept_hello(mechanisms)

    async def _mail(self, path: ReversePath) -> None:
        client = self._client
        client.protocol = with_protocol(
            is_extended=client.is_extended,
            is_lmtp=self._terms.role is Role.LMTP,
            is_tls=client.tls is not None,
            is_authenticated=client.account is not None,
            is_smtputf8=path.smtputf8,
        )
        self._transaction = await self._terms.office.begin(client, path)
        self._spoiled = None
        self.engine.send(MAIL_OK)

    async def _chunk(self, data: bytes) -> None:
        if self._spoiled is not None:
            return
        assert self._transaction is not None
        try:
            await self._transaction.begin_content()
            await self._transaction.add_content(data)
        except Refusal as refusal:  # the reply has to wait for the end of the content
            self._spoiled = refusal
            await self._transaction.discard()

    async def _message(self) -> None:
        assert self._transaction is not None
        transaction, self._transaction = self._transaction, None
        terms = self._terms
        if self._spoiled is not None:
            refusal, self._spoiled = self._spoiled, None
            raise refusal
        started = terms.clock.monotonic()
        await transaction.begin_content()  # an empty letter had no chunk
        receipt = await transaction.finish()
        terms.metrics.accept_seconds.observe(terms.clock.monotonic() - started)
        accepted = Reply.of(250, (2, 0, 0), f"Accepted, trace {receipt.trace}")
        if terms.role is Role.LMTP:
            self.engine.send_each([accepted] * len(transaction.recipients))
        else:
            self.engine.send(accepted)

    async def _authenticate(self, event: event_types.AuthStart | event_types.AuthResponse) -> None:
        login = self._terms.login
        if isinstance(event, event_types.AuthStart):
            self._exchange = login.start(
                event.mechanism,
                scope="smtp",
                peer=self._client.peer,
                tls=self._client.tls,
                is_protected=self._is_protected,
            )
            response = event.initial
        else:
            response = event.data
        assert self._exchange is not None
        try:
            step = await login.step(self._exchange, response)
        except Refusal:
            self._exchange = None
            self._terms.metrics.logins.labels("refused").inc()
            raise
        if isinstance(step, Success):
            self._exchange = None
            self._terms.metrics.logins.labels("ok").inc()
            self._client.account = step.account
            self.engine.send(LOGGED_IN)
        else:
            self.engine.challenge(step.data)

    @property
    def _is_protected(self) -> bool:
        return self._client.tls is not None or self._terms.plaintext_auth

    async def _refuse(self, reply: Reply) -> None:
        """Send a refusal; a client that collects them waits longer each time, and is sent away in the end."""
        terms = self._terms
        is_mistake = reply.status not in BLAMELESS
        self._errors += is_mistake
        terms.metrics.refusals.labels(str(reply.status or reply.code)).inc()
        terms.log.info(
            "refused",
            trace=self._client.peer.trace,
            peer=self._client.peer.address,
            code=reply.code,
            status=str(reply.status or ""),
            text=reply.text,
        )
        if is_mistake and self._errors > terms.tarpit_after:
            await asyncio.sleep(min(self._errors - terms.tarpit_after, MAX_TARPIT))
        self.engine.send(TOO_MANY_ERRORS if is_mistake and self._errors >= terms.close_after else reply)

    async def _forget(self) -> None:
        """RSET, a new EHLO, a lost connection: the transaction is void."""
        self._spoiled = None
        if self._transaction is not None:
            transaction, self._transaction = self._transaction, None
            await transaction.discard()
