# SPDX-License-Identifier: Apache-2.0
"""A small line protocol for testing the driver: an engine, a session, a client."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from posthouse.net.admission import Admission
from posthouse.net.listener import Listener
from posthouse.net.session import ConnectionLimits
from posthouse.net.sockets import open_sockets
from posthouse.ports import Peer, TlsInfo
from posthouse.protocol.engine import Signal

T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """One line of the peer; `Line(b"")` with `is_end` True when it has gone."""

    text: bytes
    is_end: bool = False


class EchoEngine:
    """Lines in, lines out. STARTTLS and QUIT are the only words it knows."""

    def __init__(self, limit: float | None = 60.0) -> None:
        self.buffer = bytearray()
        self.out: list[bytes | memoryview] = [b"hello\r\n"]
        self.limit = limit
        self.wants_tls = False
        self.is_open = True
        self.is_over = False
        self.waits = False
        self.has_told_end = False
        self.tls: TlsInfo | None = None
        self.is_stopping = False

    def receive_data(self, data: bytes) -> None:
        if data:
            self.buffer += data
        else:
            self.is_open = False

    def next_event(self) -> Line | Signal:
        if self.waits:
            return Signal.PAUSED
        if self.is_over:
            return Signal.CLOSE
        if self.wants_tls:
            self.wants_tls = False
            self.buffer.clear()
            return Signal.START_TLS
        if self.is_stopping:
            self.out.append(b"stopping\r\n")
            self.is_over = True
            return Signal.CLOSE
        end = self.buffer.find(b"\r\n")
        if end >= 0:
            line = bytes(self.buffer[:end])
            del self.buffer[: end + 2]
            self.waits = True
            return Line(line)
        if not self.is_open:
            if self.has_told_end:
                self.is_over = True
                return Signal.CLOSE
            self.has_told_end = self.waits = True
            return Line(b"", is_end=True)
        return Signal.NEED_DATA

    def send(self, *parts: bytes | memoryview) -> None:
        self.waits = False
        self.out.extend(parts)

    def data_to_send(self) -> list[bytes | memoryview]:
        out, self.out = self.out, []
        return out

    def wait_limit(self) -> float | None:
        return self.limit

    def tls_started(self, tls: TlsInfo) -> None:
        self.tls = tls

    def timed_out(self) -> None:
        self.out.append(b"too slow\r\n")
        self.is_over = True

    def shut_down(self) -> None:
        self.is_stopping = True


@dataclass
class EchoSession:
    """Echoes; `big N` sends N octets of `x`, `wait` waits for the house's gate, `bad` fails."""

    house: House
    peer: Peer
    tls: TlsInfo | None
    engine: EchoEngine
    lines: list[bytes] = field(default_factory=list)
    was_secured: bool = False
    ends: int = 0

    async def answer(self, event: Line) -> None:
        self.lines.append(event.text)
        if event.is_end:
            self.engine.send()
            return
        match event.text.split():
            case [b"QUIT"]:
                self.engine.send(b"bye\r\n")
                self.engine.is_over = True
            case [b"STARTTLS"]:
                self.engine.send(b"go\r\n")
                self.engine.wants_tls = True
            case [b"big", size]:
                self.engine.send(b"here\r\n", memoryview(b"x" * int(size)), b"\r\n")
            case [b"wait"]:
                self.house.reached.set()
                await self.house.gate.wait()
                self.engine.send(b"waited\r\n")
            case [b"silent"]:
                self.engine.send()
            case [b"bad"]:
                raise RuntimeError("a defect")
            case [b"forget"]:
                pass
            case _:
                self.engine.send(event.text + b"\r\n")

    def secured(self, tls: TlsInfo) -> None:
        self.was_secured = True
        self.tls = tls

    async def closed(self) -> None:
        self.ends += 1
        self.house.ended.set()


class FixedEntropy:
    def octets(self, count: int) -> bytes:
        return bytes(range(count))


class House:
    """A listener with echo sessions on a loopback port."""

    def __init__(self, limit: float | None = 60.0, **options: Any) -> None:
        self.limit = limit
        self.sessions: list[EchoSession] = []
        self.gate = asyncio.Event()
        self.reached = asyncio.Event()
        self.ended = asyncio.Event()
        options.setdefault("limits", ConnectionLimits(handshake=5.0, write_stall=5.0, linger=1.0, close=2.0))
        options.setdefault("admission", Admission(100, 100))
        self.sockets = open_sockets([options.pop("address", "127.0.0.1:0")])
        self.listener = Listener("echo", self.sockets, self.new_session, entropy=FixedEntropy(), **options)

    def new_session(self, peer: Peer, tls: TlsInfo | None) -> EchoSession:
        session = EchoSession(self, peer, tls, EchoEngine(self.limit))
        self.sessions.append(session)
        return session

    async def becomes(self, count: int) -> None:
        """Until that many connections are open."""
        while len(self.listener.connections) != count:  # noqa: ASYNC110 - the listener tells nobody, on purpose
            await asyncio.sleep(0.001)

    @property
    def port(self) -> int:
        return self.listener.ports[0]

    async def __aenter__(self) -> House:
        await self.listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        await self.listener.stop(2.0)
        assert not self.listener.connections

    async def connect(self, tls: ssl.SSLContext | None = None, name: str = "mail.example.test") -> Client:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname=name if tls else None
        )
        return Client(reader, writer)


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def line(self) -> bytes:
        return await within(self.reader.readline)

    async def rest(self) -> bytes:
        return await within(lambda: self.reader.read(-1))

    async def say(self, *lines: bytes) -> bytes:
        """Send the lines, return the first line that comes back."""
        self.write(*lines)
        return await self.line()

    def write(self, *lines: bytes) -> None:
        self.writer.write(b"".join(line + b"\r\n" for line in lines))

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await within(self.writer.wait_closed)


async def within(make: Callable[[], Awaitable[T]], seconds: float = 10.0) -> T:
    """No test waits for ever."""
    async with asyncio.timeout(seconds):
        return await make()
