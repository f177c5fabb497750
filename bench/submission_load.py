# SPDX-License-Identifier: Apache-2.0
"""Letters of users, over many sessions at once: AUTH where asked for, one command at a time, kept connections.

One process on uvloop, `python -m bench.submission_load`; prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import uvloop

LINE = b"X" * 76 + b"\r\n"
GREETING_LIMIT = 60.0  # seconds; a connection that the server never saw would be waited for for ever


class RefusedError(Exception):
    """The server answered otherwise than hoped for."""


class Wire(asyncio.Protocol):
    """One connection: write, then wait for the reply."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[bytes] | None = None
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are asyncio.Transport by what they do only

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._waiting is not None and self._is_whole():
            waiting, self._waiting = self._waiting, None
            reply, self._buffer = self._buffer, b""
            if not waiting.done():
                waiting.set_result(reply)

    def _is_whole(self) -> bool:
        """A reply is whole with a line that has a space behind its code."""
        last = self._buffer[self._buffer.rfind(b"\n", 0, -1) + 1 :]
        return last.endswith(b"\r\n") and last[3:4] == b" "

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(RefusedError("closed early"))

    async def ask(self, command: bytes, code: bytes) -> bytes:
        """Say this (nothing: only listen) and return the reply. Raises RefusedError when it has another code."""
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._is_lost:
            raise RefusedError("closed early")
        self._waiting = waiting
        if command:
            self.transport.write(command)
        self.data_received(b"")  # the greeting may have come already
        reply = await waiting
        if not reply.startswith(code):
            raise RefusedError(reply.decode("ascii", "replace").strip())
        return reply


async def connect(port: int, user: str = "", password: str = "") -> Wire:
    """A session that is ready for mail transactions."""
    wire = await reach(port)
    await introduce(wire, user, password)
    return wire


async def reach(port: int) -> Wire:
    """Connected and greeted."""
    _, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", port)
    try:
        async with asyncio.timeout(GREETING_LIMIT):
            await wire.ask(b"", b"220")
    except TimeoutError:
        raise RefusedError(f"no greeting within {GREETING_LIMIT:.0f} s") from None
    return wire


async def introduce(wire: Wire, user: str, password: str) -> None:
    await wire.ask(b"EHLO client.bench.test\r\n", b"250")
    if user:
        proof = b64encode(f"\0{user}\0{password}".encode())
        await wire.ask(b"AUTH PLAIN " + proof + b"\r\n", b"235")


async def send(wire: Wire, sender: str, recipients: list[str], content: bytes) -> None:
    """One mail transaction; `content` with its final dot."""
    await wire.ask(f"MAIL FROM:<{sender}>\r\n".encode(), b"250")
    for each in recipients:
        await wire.ask(f"RCPT TO:<{each}>\r\n".encode(), b"250")
    await wire.ask(b"DATA\r\n", b"354")
    await wire.ask(content, b"250")


def content(sender: str, to: str, name: str, octets: int) -> bytes:
    head = (
        f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {name}\r\nDate: Mon, 23 Nov 2026 09:00:00 +0000\r\n"
        f"Message-ID: <{name}@client.bench.test>\r\n\r\n"
    ).encode()
    return head + LINE * max(1, (octets - len(head)) // len(LINE)) + b".\r\n"


@dataclass(slots=True)
class Load:
    port: int
    sender: str
    to: str
    octets: int
    user: str
    password: str
    left: Iterator[int]
    delays: list[float] = field(default_factory=list)
    # One after the other: some servers let five connections wait to be accepted, and the system then drops the end of
    # the others' handshake, so that they wait for a greeting for ever.
    door: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def session(self) -> None:
        async with self.door:
            wire = await reach(self.port)
        await introduce(wire, self.user, self.password)
        for number in self.left:
            letter = content(self.sender, self.to, f"letter-{number}", self.octets)
            started = time.perf_counter()
            await send(wire, self.sender, [self.to], letter)
            self.delays.append(time.perf_counter() - started)
        await wire.ask(b"QUIT\r\n", b"221")
        wire.transport.close()


async def run(load: Load, sessions: int) -> dict[str, float]:
    started = time.perf_counter()
    await asyncio.gather(*(load.session() for _ in range(sessions)))
    return {"seconds": time.perf_counter() - started, **percentiles(load.delays)}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds; nothing without figures."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--sender", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--letters", type=int, default=100)
    parser.add_argument("--octets", type=int, default=10_240)
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    given = parser.parse_args()
    left = iter(range(given.letters))
    load = Load(given.port, given.sender, given.to, given.octets, given.user, given.password, left)
    print(json.dumps(uvloop.run(run(load, given.sessions))))


if __name__ == "__main__":
    main()
