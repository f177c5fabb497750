# SPDX-License-Identifier: Apache-2.0
"""The one driver that runs every server engine on a socket.

It reads, feeds the engine, hands each event to the session, writes what the engine has to say, keeps the
time limits, starts TLS and closes. It knows no protocol. Invariant: octets of the peer reach the engine in
order and exactly once, and none that came before a TLS handshake reaches it after.

One task per connection, which also does what takes time (a commit, a password check) in its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from posthouse.net.deadline import Deadline
from posthouse.net.peer import peer_of
from posthouse.net.session import ConnectionLimits, Session, SessionFactory, TlsRefused, TlsUpgrader, Wakeful
from posthouse.ports import Peer, TlsInfo
from posthouse.protocol.engine import Engine, LocalProtocolError, Signal
from posthouse.telemetry import logger

_log = logger("net")

# Octets that may wait unread in the engine while the session is busy, before the socket is no longer read.
# Two full TCP windows of a slow line; more would only be memory.
READ_BOUND = 128 * 1024
# Largest piece handed to the transport at once. Bounds what a slow reader makes us hold: transports of plain
# asyncio before 3.12 and all TLS transports copy what the socket does not take at once.
WRITE_SLICE = 256 * 1024
# Up to here small parts are joined into one buffer; above, the copy costs more than the longer system call.
JOIN_BOUND = 16 * 1024
# The engine's output is flushed in the middle of a pipelined group when it grows past this.
FLUSH_BOUND = 64 * 1024
# A peer that sends without getting answers (a body) must send this much per wait limit, or its time is up:
# 16 KiB in three minutes (RFC 5321 §4.5.3.2.5) is 91 octets a second, slower than any line in use.
PROGRESS_OCTETS = 16 * 1024
# Events handled in a row before other connections get their turn (a pipelining peer may send thousands).
TURN = 64


@dataclass(frozen=True, slots=True)
class Terms:
    """What a listener tells each of its connections."""

    new_session: SessionFactory
    new_trace: Callable[[], str]
    opened: Callable[[Connection], str | None]  # None: welcome; else the reason why not
    closed: Callable[[Connection], None]  # the socket is gone (only after a welcome)
    limits: ConnectionLimits
    refusal: Callable[[Peer, str], bytes] | None = None  # what to say to a peer that is not welcome
    tls: TlsUpgrader | None = None
    is_implicit_tls: bool = False


class Connection(asyncio.Protocol):
    """One accepted connection. Created by a listener, ends by itself; `shut_down` and `abort` end it early."""

    __slots__ = (
        "_deadline",
        "_engine",
        "_has_news",
        "_has_said",
        "_held",
        "_is_called",
        "_is_deaf",
        "_is_ended",
        "_is_late",
        "_is_lost",
        "_is_reading",
        "_is_stuck",
        "_loop",
        "_out",
        "_out_size",
        "_progress",
        "_task",
        "_terms",
        "_transport",
        "_unread",
        "_waiter",
        "peer",
    )

    peer: Peer
    _transport: asyncio.Transport

    def __init__(self, terms: Terms, loop: asyncio.AbstractEventLoop) -> None:
        self._terms = terms
        self._loop = loop
        self._engine: Engine[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = Deadline(loop, self._passed, self._is_waiting)
        self._held: list[bytes] | None = None  # octets that came through TLS before the engine was told of TLS
        self._out: list[bytes | memoryview] = []
        self._out_size = 0
        self._unread = 0  # octets fed since the engine last asked for more
        self._progress = 0  # octets fed since the deadline was set
        self._has_said = True  # something was sent since the deadline was set
        self._has_news = False  # something happened since the engine was last asked
        self._is_called = False  # the session wants its turn
        self._is_reading = True
        self._is_stuck = False  # the transport's write buffer is full
        self._is_late = False
        self._is_ended = False  # the peer sends no more
        self._is_lost = False  # the socket is gone
        self._is_deaf = False  # our last word is said, what comes is thrown away

    # --- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since uvloop's transports and simulated ones are asyncio.Transport by what they do only.
        self._transport = transport = cast("asyncio.Transport", transport)
        terms = self._terms
        self.peer = peer_of(transport, terms.new_trace())
        reason = terms.opened(self)
        if reason is not None:
            if terms.refusal is not None and not terms.is_implicit_tls:
                transport.write(terms.refusal(self.peer, reason))
            self._is_deaf = True
            transport.close()
            return
        self._task = self._loop.create_task(self._run())

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._held is not None or self._engine is None:
            # Our task is not awake yet. With implicit TLS this is the handshake's begin (uvloop reads at once);
            # after a handshake it is the first command, which TLS 1.3 lets the client send with its end.
            self._held = [*(self._held or ()), data]
            return
        self._engine.receive_data(data)
        size = len(data)
        self._unread += size
        self._progress += size
        self._has_news = True
        if self._unread > READ_BOUND and self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def eof_received(self) -> bool:
        self._end_of_input()
        # A plain connection stays half open, so that the peer still gets its answers; TLS cannot do that.
        return self._transport.get_extra_info("ssl_object") is None and not self._is_deaf

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._is_stuck = False
        self._end_of_input()

    def pause_writing(self) -> None:
        self._is_stuck = True

    def resume_writing(self) -> None:
        self._is_stuck = False
        self._wake()

    # --- ending it from outside -----------------------------------------------------------------

    def shut_down(self) -> None:
        """The server stops: the engine says goodbye at the next safe point."""
        if self._engine is None:
            self.abort()
        elif not self._is_deaf:
            self._engine.shut_down()
            self._deadline.set(None)  # the engine has another wait limit now
            self._wake()

    def abort(self) -> None:
        """Drop the connection now, and whatever the session is doing."""
        self._transport.abort()
        if self._task is not None and not self._task.done():
            self._task.cancel()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """Done when the session is over and the socket is gone."""
        return self._task

    # --- the conversation -----------------------------------------------------------------------

    async def _run(self) -> None:
        session: Session | None = None
        try:
            tls = await self._start_tls() if self._terms.is_implicit_tls else None
            session = self._terms.new_session(self.peer, tls)
            self._engine = session.engine
            if isinstance(session, Wakeful):
                session.watch(self._call)
            self._release()
            await self._converse(session, session.engine)
        except TlsRefused as refused:
            _log.info("tls refused", trace=self.peer.trace, peer=self.peer.address, reason=str(refused))
            self._transport.abort()
            self._is_lost = True  # asyncio tells us nothing of a connection that ends in its handshake
        except asyncio.CancelledError:
            self._transport.abort()
            if self._held is not None:  # in its handshake: as above, and who stops the server must not wait for it
                self._is_lost = True
            raise
        except Exception:
            # A defect of ours. Nothing was acknowledged that was not done, so the peer may try again.
            _log.exception("session failed", trace=self.peer.trace, peer=self.peer.address)
            self._transport.abort()
        finally:
            self._is_deaf = True
            await self._farewell(session)

    async def _converse(self, session: Session, engine: Engine[Any]) -> None:
        turn = 0
        while True:
            self._has_news = False
            event = engine.next_event()
            if event.__class__ is not Signal:
                await session.answer(event)
                self._gather(engine)
                turn += 1
                if self._out_size > FLUSH_BOUND:
                    await self._flush()
                    turn = TURN  # what fills a buffer is as much work as many short answers
                if turn >= TURN:
                    turn = 0
                    await asyncio.sleep(0)
                continue
            turn = 0
            self._gather(engine)
            if self._out:
                await self._flush()
            if event is Signal.NEED_DATA and not self._is_lost:
                await self._wait_for_peer(engine)
                if self._is_called and isinstance(session, Wakeful):
                    self._is_called = False
                    await session.woken()
            elif event is Signal.START_TLS:
                tls = await self._start_tls()
                engine.tls_started(tls)
                session.secured(tls)
                self._release()
            elif event is Signal.MORE and not self._is_lost:
                await asyncio.sleep(0)  # a large answer: others get their turn between its pieces
            elif event is Signal.PAUSED:
                raise LocalProtocolError("the session left an event without an answer")
            else:
                return

    async def _wait_for_peer(self, engine: Engine[Any]) -> None:
        self._unread = 0
        self._read_on()
        if self._has_news or self._is_called:
            return  # it came while we were writing
        if self._has_said or self._progress >= PROGRESS_OCTETS or not self._deadline.is_set:
            # Only answers and a fair amount of octets buy new time: a peer that sends an octet now and then
            # gets no further than one that sends nothing.
            self._deadline.set(engine.wait_limit())
            self._has_said = False
            self._progress = 0
        if await self._wait():
            engine.timed_out()

    async def _start_tls(self) -> TlsInfo:
        terms = self._terms
        if terms.tls is None:
            raise LocalProtocolError("TLS asked for on a listener without certificates")
        if self._is_ended or self._transport.is_closing():
            raise TlsRefused("the peer has gone")
        # Nothing more is read in the clear. What was read before, the engine has thrown away (CVE-2011-0411).
        self._transport.pause_reading()
        early = b"" if self._engine is not None else b"".join(self._held or ())
        self._held = []
        self._deadline.set(None)
        self._is_reading = True  # as the new transport does from the start
        self._transport, tls = await terms.tls.upgrade(self._transport, self, terms.limits.handshake, early)
        self._has_said = True
        return tls

    def _read_on(self) -> None:
        if not self._is_reading and not self._transport.is_closing():
            self._is_reading = True
            self._transport.resume_reading()

    def _release(self) -> None:
        held, self._held = self._held, None
        for data in held or ():
            self.data_received(data)
        if self._is_ended and self._engine is not None:
            self._engine.receive_data(b"")

    # --- writing --------------------------------------------------------------------------------

    def _gather(self, engine: Engine[Any]) -> None:
        for part in engine.data_to_send():
            self._out.append(part)
            self._out_size += len(part)

    async def _flush(self) -> None:
        out, size = self._out, self._out_size
        self._out = []
        self._out_size = 0
        self._has_said = True
        if size <= JOIN_BOUND:
            if not self._is_lost:
                self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            if self._is_stuck:
                await self._drain()
            return
        for batch in slices(out, WRITE_SLICE):
            if self._is_lost:
                return
            self._transport.writelines(batch)
            if self._is_stuck:
                await self._drain()

    async def _drain(self) -> None:
        self._deadline.set(self._terms.limits.write_stall)
        left = self._transport.get_write_buffer_size()
        while self._is_stuck:
            if await self._wait():
                before, left = left, self._transport.get_write_buffer_size()
                if left < before:
                    self._deadline.set(self._terms.limits.write_stall)  # a slow line, not a peer that takes nothing
                else:
                    self._transport.abort()  # its connection_lost ends this loop
        self._deadline.set(None)

    # --- waiting --------------------------------------------------------------------------------

    async def _wait(self) -> bool:
        """Until something happens; True: the deadline passed."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        is_late, self._is_late = self._is_late, False
        return is_late

    async def _wait_until(self, is_over: Callable[[], bool]) -> None:
        while not is_over() and not await self._wait():
            pass

    def _wake(self) -> None:
        self._has_news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _call(self) -> None:
        self._is_called = True
        self._wake()

    def _is_waiting(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _passed(self) -> None:
        self._is_late = True
        self._wake()

    # --- the end --------------------------------------------------------------------------------

    def _end_of_input(self) -> None:
        if not self._is_ended:
            self._is_ended = True
            if self._engine is not None and not self._is_deaf and self._held is None:
                self._engine.receive_data(b"")
        self._wake()

    async def _farewell(self, session: Session | None) -> None:
        """Release the session, then close the socket so that the peer can still read our last word."""
        try:
            if session is not None:
                await session.closed()
        except Exception:
            _log.exception("session failed to close", trace=self.peer.trace)
        finally:
            self._engine = None
            self._held = None
            try:
                await self._hang_up()
            finally:
                self._deadline.stop()
                self._terms.closed(self)

    async def _hang_up(self) -> None:
        transport, limits = self._transport, self._terms.limits
        if not self._is_ended and not transport.is_closing() and transport.can_write_eof():
            # Closing a socket with unread octets resets it, and the reset may overtake our last reply.
            with contextlib.suppress(OSError):  # asyncio's raises when the peer has reset the connection
                transport.write_eof()
            self._read_on()
            self._deadline.set(limits.linger)
            await self._wait_until(lambda: self._is_ended)
        for end in (transport.close, transport.abort):
            end()
            self._deadline.set(limits.close)
            await self._wait_until(lambda: self._is_lost)


def slices(buffers: Sequence[bytes | memoryview], bound: int) -> Iterator[list[bytes | memoryview]]:
    """The same octets in lists of at most `bound` octets each; large buffers are cut without copying."""
    batch: list[bytes | memoryview] = []
    room = bound
    for buffer in buffers:
        if len(buffer) <= room:
            batch.append(buffer)
            room -= len(buffer)
            continue
        view = memoryview(buffer)
        while view:
            if room == 0:
                yield batch
                batch = []
                room = bound
            batch.append(view[:room])
            room, view = room - len(batch[-1]), view[room:]
    if batch:
        yield batch
