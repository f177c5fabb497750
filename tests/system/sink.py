# SPDX-License-Identifier: Apache-2.0
"""Another server that takes every letter and remembers it: just enough SMTP, without any extension."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType

MAX_LETTER = 4 << 20  # octets


class Sink:
    def __init__(self, port: int = 0, manner: Callable[[], str] = lambda: "") -> None:
        """`manner`: asked after each final dot; "" takes the letter, "refuse" says 451, "reject" 554, "silent" keeps it
        and hangs up without a word."""
        self._manner = manner
        self.letters: list[bytes] = []
        self.senders: list[str] = []
        self.recipients: list[str] = []
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server
        self.port = port

    async def __aenter__(self) -> Sink:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=MAX_LETTER)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_for(self, is_enough: Callable[[], bool], limit: float = 60.0) -> None:
        """Until enough has come; `limit` in seconds."""
        async with asyncio.timeout(limit):
            while not is_enough():
                self._news.clear()
                await self._news.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            writer.write(b"220 sink.example.test\r\n")
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    manner = self._manner()
                    if manner == "reject":
                        writer.write(b"554 5.7.1 not here\r\n")
                        continue
                    if manner == "refuse":
                        writer.write(b"451 4.3.0 not now\r\n")
                        continue
                    self.letters.append(content[:-3].replace(b"\r\n..", b"\r\n."))
                    self._news.set()
                    if manner == "silent":
                        break
                elif verb == b"EHLO":
                    writer.write(b"502 HELO is enough\r\n")
                    continue
                elif verb == b"MAIL":
                    self.senders.append(line.decode().strip())
                elif verb == b"RCPT":
                    self.recipients.append(line.decode().strip())
                writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 fine\r\n")
                if verb == b"QUIT":
                    break
