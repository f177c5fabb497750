# SPDX-License-Identifier: Apache-2.0
"""POP3 load: whole sessions (login, STAT, UIDL, RETR of ten letters, QUIT), so many at once, one command at a time."""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from typing import cast

import uvloop

COMMANDS_AFTER_LOGIN = [b"STAT", b"UIDL", *(b"RETR %d" % number for number in range(1, 11)), b"QUIT"]
MULTI_LINE = (b"UIDL", b"RETR")


class Client(asyncio.Protocol):
    def __init__(self, commands: list[bytes], done: asyncio.Future[int]) -> None:
        self._commands = iter(commands)
        self._done = done
        self._ends = b"\r\n"
        self._buffer = bytearray()
        self._octets = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since uvloop's transports are asyncio.Transport by what they do only.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer.startswith(b"+OK") and not self._buffer.endswith(self._ends):
            return
        if not self._buffer.startswith(b"+OK"):
            self._done.set_exception(RuntimeError(bytes(self._buffer[:100]).decode()))
            self._transport.abort()
            return
        self._octets += len(self._buffer)
        self._buffer.clear()
        command = next(self._commands, None)
        if command is None:
            self._transport.close()
            self._done.set_result(self._octets)
            return
        self._ends = b"\r\n.\r\n" if command[:4] in MULTI_LINE else b"\r\n"
        self._transport.write(command + b"\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("closed early"))


async def run(port: int, users: list[str], password: str, sessions: int) -> float:
    """All sessions, one user per concurrent client; returns the seconds they took."""
    loop = asyncio.get_running_loop()
    left = iter(range(sessions))

    async def worker(user: str) -> None:
        commands = [b"USER " + user.encode(), b"PASS " + password.encode(), *COMMANDS_AFTER_LOGIN]
        for _ in left:
            done: asyncio.Future[int] = loop.create_future()
            await loop.create_connection(partial(Client, commands, done), "127.0.0.1", port)
            await done

    started = time.perf_counter()
    await asyncio.gather(*(worker(user) for user in users))
    return time.perf_counter() - started


def main() -> None:
    """port users(comma) password sessions"""
    port, users, password, sessions = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3], int(sys.argv[4])
    print(uvloop.run(run(port, users, password, sessions)))


if __name__ == "__main__":
    main()
