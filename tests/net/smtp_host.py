# SPDX-License-Identifier: Apache-2.0
"""A scripted mail server on loopback, for tests of the client's transport."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from posthouse.ports import Target


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so that nobody announces."""
    while not condition():  # noqa: ASYNC110  # what is waited for has no event of its own
        await asyncio.sleep(0)


class Guest:
    """One accepted connection, as the scripted server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard: list[str] = []

    async def say(self, *lines: str) -> None:
        self.writer.write("".join(line + "\r\n" for line in lines).encode())
        await self.writer.drain()

    async def hear(self) -> str:
        line = (await self.reader.readline()).decode().rstrip("\r\n")
        self.heard.append(line)
        return line

    async def greet(self, *keywords: str, verb: str = "EHLO") -> None:
        await self.say("220 mail.example.test ESMTP")
        await self.ehlo(*keywords, verb=verb)

    async def ehlo(self, *keywords: str, verb: str = "EHLO") -> None:
        assert (await self.hear()).startswith(verb)
        await self.say("250-mail.example.test", *(f"250-{keyword}" for keyword in keywords), "250 HELP")

    async def start_tls(self, context: ssl.SSLContext) -> None:
        assert await self.hear() == "STARTTLS"
        await self.say("220 go")
        await self.writer.start_tls(context)

    async def letter(self) -> bytes:
        """One transaction step by step or pipelined; its content as it came over the wire."""
        while (await self.hear()) != "DATA":
            await self.say("250 2.1.0 ok")
        await self.say("354 go")
        content = await self.reader.readuntil(b"\r\n.\r\n")
        await self.say("250 2.6.0 queued")
        return content

    async def quit(self) -> None:
        assert await self.hear() == "QUIT"
        await self.say("221 bye")


class Host:
    """`visits` holds each connection's guest; errors of the script are raised when the host closes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.visits: list[Guest] = []
        self.faults: list[BaseException] = []

    def target(self, **changes: object) -> Target:
        values: dict[str, object] = {
            "host": "mail.example.test",
            "address": "127.0.0.1",
            "port": self.port,
            "helo": "mail.alice.test",
        }
        return Target(**(values | changes))  # type: ignore[arg-type]  # a test's short cut


@asynccontextmanager
async def hosting(
    *scripts: Callable[[Guest], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Host]:
    """Serve: the first connection runs the first script, and so on; the last one is used again."""
    host = Host(0)
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guest = Guest(reader, writer)
        script = scripts[min(len(host.visits), len(scripts) - 1)]
        host.visits.append(guest)
        try:
            await script(guest)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass  # the client went away, as some tests want
        except Exception as fault:
            host.faults.append(fault)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.get_running_loop().create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()
        for guest in host.visits:
            guest.writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
    if host.faults:
        raise host.faults[0]
