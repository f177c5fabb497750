# SPDX-License-Identifier: Apache-2.0
"""One SMTP or LMTP session as client: drives the client engine on a socket.

Invariant: each wait for the host has the limit that RFC 5321 §4.5.3.2 gives it, counted from our last word or
its last whole reply, so that a host that dribbles octets gains nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from posthouse.mail.envelope import Envelope
from posthouse.net.session import TlsRefused
from posthouse.net.smtp_tls import WRITE_HIGH_WATER, TlsStarter
from posthouse.outcome import BAD_CONNECTION, Outcome
from posthouse.ports import Buffer, Target, TlsInfo, TlsTrouble
from posthouse.protocol.engine import Signal
from posthouse.protocol.smtp.client import SmtpClient
from posthouse.protocol.smtp.client_events import ClientEvent, LetterDone, Phase, SessionFailed, SessionReady
from posthouse.protocol.smtp.client_outcomes import TLS_NOT_OFFERED

# Octets of replies that may wait while we are busy. All replies to a group of 1,000 RCPT fit; a host that
# sends more than it was asked for is dropped.
UNREAD_BOUND = 1024 * 1024
# Octets that the system takes from us before it has sent them, where it lets us say (Linux, macOS). Left alone it
# takes megabytes, and what leaves a slow line could not be told from what does not: with this much, a line of
# 91 octets a second (as net/connection.py endures) is seen to move within the three minutes of RFC 5321 §4.5.3.2.5.
UNSENT_BOUND = 32 * 1024
# Seconds between our last word and the end of the socket.
CLOSE_SECONDS = 3.0


class Wire(asyncio.Protocol):
    """The socket's side: feeds the engine and wakes whoever waits."""

    def __init__(self, engine: SmtpClient, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.transport: asyncio.Transport | None = None
        self.is_stuck = False  # the transport's write buffer is full
        self.is_lost = False
        self._socket_side: asyncio.Transport | None = None  # below TLS; the same as `transport` without
        self._backlog = 0  # octets that had not left us when we last looked
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] = loop.create_future()
        self._has_news = False
        self._unread = 0
        self.local_address = ""
        self._held: list[bytes] | None = None  # came through TLS before the engine was told of it
        self._why_lost: str | None = None  # the same for the end of the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self._socket_side = cast("asyncio.Transport", transport)  # uvloop's are such in all but name
        bound = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if bound is not None and (connected := transport.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):  # a system that knows the name and not the thing
                connected.setsockopt(socket.IPPROTO_TCP, bound, UNSENT_BOUND)
        own = transport.get_extra_info("sockname")
        self.local_address = own[0] if isinstance(own, tuple) else ""
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        if self._unread > UNREAD_BOUND:
            self.engine.lost(f"the host sent more than {UNREAD_BOUND} octets that nobody asked for")
            self.abort()
        elif self._held is not None:
            self._held.append(data)
        else:
            self.engine.receive_data(data)
        self._wake()

    def eof_received(self) -> bool:
        self._lose("the host closed the connection")
        return False  # the transport closes: RFC 5321 has no half of a session

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.is_stuck = False
        if not self._gone.done():
            self._gone.set_result(None)
        self._lose("the host closed the connection" if exc is None else f"the connection broke: {words_of(exc)}")

    def pause_writing(self) -> None:
        self.is_stuck = True

    def resume_writing(self) -> None:
        self.is_stuck = False
        self._wake()

    def write(self, buffers: Sequence[bytes | memoryview]) -> None:
        if self.transport is None or self.is_lost or self.transport.is_closing():
            return  # `engine.lost` has been called, or will be by `connection_lost`
        if len(buffers) == 1:
            self.transport.write(buffers[0])
        else:
            self.transport.writelines(buffers)
        self._backlog = self._waiting()

    @property
    def has_backlog(self) -> bool:
        """Whether, at the last look, octets had not left us yet."""
        return self._backlog > 0

    def has_moved(self) -> bool:
        """Look again: whether octets have left since the last look, or since the last call of `write`."""
        if not self._backlog:
            return False
        before, self._backlog = self._backlog, self._waiting()
        return self._backlog < before

    def _waiting(self) -> int:
        sides = (self.transport, None if self._socket_side is self.transport else self._socket_side)
        return sum(side.get_write_buffer_size() for side in sides if side is not None)

    async def news(self, until: float | None) -> bool:
        """Wait until something happens; False when the loop's time passes `until` first."""
        if not self._has_news:
            self._waiter = self._loop.create_future()
            try:
                async with asyncio.timeout_at(until):
                    await self._waiter
            except TimeoutError:
                return False
            finally:
                self._waiter = None
        self._has_news = False
        self._unread = 0
        return True

    async def start_tls(self, starter: TlsStarter, target: Target, *, is_verified: bool) -> None:
        """Raises TlsRefused."""
        assert self.transport is not None
        # A TLS 1.3 host may send its greeting with the end of the handshake, before our task is awake.
        self._held = []
        try:
            self.transport, tls = await starter.start(
                self.transport, self, target.host, is_verified=is_verified, dane=target.dane
            )
        except BaseException:
            # The transport no longer knows us, so nobody would tell us when it is gone.
            self.abort()
            self.connection_lost(None)
            self._held = None
            raise
        held, self._held = self._held, None
        self.engine.tls_started(_with_trust(tls, target))
        for data in held:
            self.engine.receive_data(data)
        if self._why_lost is not None:
            self.engine.lost(self._why_lost)

    async def close(self) -> None:
        """Close, and be sure that the socket is gone."""
        if self.transport is None:
            return
        self.transport.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.shield(self._gone)
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _lose(self, why: str) -> None:
        if self._held is None:
            self.engine.lost(why)
        elif self._why_lost is None:
            self._why_lost = why  # the handshake has the better words for it, if it fails
        self._wake()

    def _wake(self) -> None:
        self._has_news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class SmtpConnection:
    """The MailConnection port: made by `SmtpTransport.connect` and ready when it is handed out."""

    def __init__(self, wire: Wire, target: Target, starter: TlsStarter, ended: Callable[[SmtpClient], None]) -> None:
        """`ended` is called after each letter, for what is to be remembered about the host."""
        self.extensions: Mapping[str, str] = {}
        self.tls: TlsInfo | None = None
        self.trouble: TlsTrouble | None = None
        self._wire = wire
        self._engine = wire.engine
        self._target = target
        self._starter = starter
        self._ended = ended
        self._is_busy = False

    @property
    def is_usable(self) -> bool:
        return self._engine.is_usable and not self._is_busy and not self._wire.is_lost

    @property
    def recipient_limit(self) -> int | None:
        """RCPTMAX of LIMITS (RFC 9422 §4.2): recipients beyond it are answered 4.5.3 without being asked."""
        return self._engine.offer.limits.rcpt_max

    async def open(self) -> ClientEvent | None:
        """From the connected socket to `SessionReady` or `SessionFailed`."""
        event = await self.drive()
        self.extensions = self._engine.offer.extensions
        self.tls = self._engine.tls
        if self.trouble is None and self._target.tls != "none" and self.tls is None:
            self._explain(event)
        return event

    def _explain(self, event: ClientEvent | None) -> None:
        """Why there is no TLS, where the handshake did not even begin."""
        if isinstance(event, SessionReady) or (
            isinstance(event, SessionFailed) and event.outcome.status == TLS_NOT_OFFERED
        ):
            outcome = event.outcome if isinstance(event, SessionFailed) else None
            reason = "" if outcome is None else outcome.diagnostic
            # RFC 3207 §4: 454 says that it may be otherwise soon.
            is_judged = outcome is None or outcome.reply is None or outcome.reply.code // 100 == 5
            self.trouble = TlsTrouble("starttls-not-supported", reason, self._wire.local_address, is_judged)
        elif isinstance(event, SessionFailed) and event.is_tls_suspect:
            self.trouble = TlsTrouble("validation-failure", event.outcome.diagnostic, self._wire.local_address)

    async def send(self, envelope: Envelope, content: Sequence[Buffer]) -> list[Outcome]:
        """One mail transaction; one outcome per forward-path, in order."""
        if self._is_busy:
            raise RuntimeError("one mail transaction at a time")
        self._is_busy = True
        try:
            self._engine.begin(envelope, content)
            event = await self.drive()
        except BaseException:
            self._wire.abort()  # in the middle of a letter nobody knows where the host stands
            raise
        finally:
            self._is_busy = False
            self._ended(self._engine)
        if self._engine.phase is Phase.CLOSED:
            self._wire.abort()
        if isinstance(event, LetterDone):
            return list(event.outcomes)
        target = self._target
        lost = Outcome(BAD_CONNECTION, "the connection is closed", target.host, target.address)
        return [lost] * len(envelope.forward_paths)

    async def close(self) -> None:
        if not self._is_busy and not self._wire.is_lost:
            self._engine.quit()
            await self.drive()
        await self._wire.close()

    def abort(self) -> None:
        self._wire.abort()

    async def drive(self) -> ClientEvent | None:
        """Until the engine has an event; None when it closes without one."""
        engine, wire = self._engine, self._wire
        limit, until = self._deadline()
        replies = engine.replies
        while True:
            event = engine.next_event()
            if not isinstance(event, Signal):
                return event
            if event is Signal.CLOSE:
                return None
            if event is Signal.START_TLS:
                await self._start_tls()
                limit, until = self._deadline()
                continue
            buffers = [] if wire.is_stuck else engine.data_to_send()
            if buffers:
                wire.write(buffers)
            # Another limit: the last slices have left, and now their answer is waited for.
            if buffers or engine.replies != replies or engine.wait_limit() != limit:
                replies = engine.replies
                limit, until = self._deadline()
            if buffers:
                continue
            has_news = await wire.news(until)
            if wire.has_moved() and (has_news or wire.has_backlog):
                limit, until = self._deadline()  # the line is slow: the host has not had our last word yet
            elif not has_news:
                engine.timed_out()

    def _deadline(self) -> tuple[float | None, float | None]:
        """Seconds to wait, and until when by the loop's clock."""
        limit = self._engine.wait_limit()
        return limit, None if limit is None else asyncio.get_running_loop().time() + limit

    async def _start_tls(self) -> None:
        target = self._target
        try:
            await self._wire.start_tls(self._starter, target, is_verified=target.tls in ("verify", "try-verify"))
        except TlsRefused as refused:
            own = self._wire.local_address
            self.trouble = TlsTrouble(refused.result, str(refused), own, refused.is_judged)
            self._engine.lost(f"TLS did not start: {refused}")


def _with_trust(tls: TlsInfo, target: Target) -> TlsInfo:
    """With what the target says of the trust: "MTA-STS" is known from its policy, not from the handshake."""
    if not tls.is_verified:
        return tls
    named = tls.trust.removeprefix("certificate") if target.trust else tls.trust
    trust = ", ".join(word for word in (named, target.trust) if word)
    return replace(tls, trust=trust, is_way_sure=target.is_way_sure)


def words_of(error: BaseException) -> str:
    """What the system says about a fault of the network, in one line."""
    if isinstance(error, ssl.SSLError):
        said = error.reason or str(error)
    elif isinstance(error, OSError) and error.errno:
        said = os.strerror(error.errno)  # the same words on every event loop
    else:
        said = str(error)
    return " ".join(said.split()) or type(error).__name__
