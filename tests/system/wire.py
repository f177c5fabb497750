# SPDX-License-Identifier: Apache-2.0
"""The client's end of a real connection, as raw as a test needs it: octets, lines, replies, TLS. It knows no rules."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from types import TracebackType
from typing import Self

# Far beyond what any answer takes on loopback; only a defect of the server meets it.
PATIENCE = 20.0


class Wire:
    """Implements the transcripts' `Wire`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, trusting: ssl.SSLContext | None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._trusting = trusting

    @classmethod
    async def open(cls, port: int, trusting: ssl.SSLContext | None, *, is_tls: bool = False) -> Self:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting if is_tls else None, server_hostname="mail.example.test" if is_tls else None
        )
        return cls(reader, writer, trusting)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()

    async def send(self, octets: bytes) -> None:
        self._writer.write(octets)
        with contextlib.suppress(ConnectionError):  # a server that has said its last word may have closed already
            await self._writer.drain()

    async def line(self) -> bytes | None:
        async with asyncio.timeout(PATIENCE):
            line = await self._reader.readline()
        if not line:
            return None
        assert line.endswith(b"\r\n"), f"half a line: {line!r}"
        return line[:-2]

    async def octets(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readexactly(count)

    async def rest(self) -> bytes:
        """Everything until the server closes; what a reset takes away is not missed."""
        gathered = b""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while piece := await self._reader.read(65536):
                    gathered += piece
        return gathered

    async def is_silent(self) -> bool:
        return not self._reader._buffer  # type: ignore[attr-defined]  # the only way to look without waiting

    async def close(self) -> None:
        """Close our side only; what the server says can still be read."""
        self._writer.write_eof()

    async def hang_up(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(PATIENCE):
                await self._writer.wait_closed()

    def reset(self) -> None:
        """Vanish: no goodbye, the socket is gone."""
        self._writer.transport.abort()

    async def start_tls(self) -> None:
        assert self._trusting is not None
        async with asyncio.timeout(PATIENCE):
            await self._writer.start_tls(self._trusting, server_hostname="mail.example.test")

    # --- SMTP -------------------------------------------------------------------------------------

    async def reply(self) -> str:
        """One reply of one or more lines, joined by newlines; "" when the server has closed."""
        lines: list[str] = []
        while True:
            line = await self.line()
            if line is None:
                assert not lines, f"half a reply: {lines}"
                return ""
            lines.append(line.decode())
            if line[3:4] != b"-":
                return "\n".join(lines)

    async def say(self, *commands: str) -> str:
        """Send the commands in one piece, read as many replies; the last one."""
        replies = await self.say_all(*commands)
        return replies[-1]

    async def say_all(self, *commands: str) -> list[str]:
        await self.send("".join(f"{command}\r\n" for command in commands).encode())
        return [await self.reply() for _ in commands]

    async def hello(self, name: str = "client.example.test", verb: str = "EHLO") -> str:
        """Read the greeting, say EHLO."""
        assert (await self.reply()).startswith("220 ")
        answer = await self.say(f"{verb} {name}")
        assert answer.startswith("250"), answer
        return answer

    async def log_in(self, name: str, password: str = "secret") -> str:
        """AUTH PLAIN."""
        initial = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
        return await self.say(f"AUTH PLAIN {initial}")

    async def letter(self, sender: str, recipients: list[str], content: bytes, *, parameters: str = "") -> str:
        """MAIL, RCPT, DATA, content; the reply to the final dot, or the first refusal."""
        commands = [f"MAIL FROM:<{sender}>{parameters}", *(f"RCPT TO:<{each}>" for each in recipients), "DATA"]
        replies = await self.say_all(*commands)
        for reply in replies[:-1]:
            if not reply.startswith("250"):
                return reply
        assert replies[-1].startswith("354"), replies
        await self.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return await self.reply()

    # --- POP3 -------------------------------------------------------------------------------------

    async def ask(self, command: str) -> str:
        """One command, one status line."""
        await self.send(f"{command}\r\n".encode())
        line = await self.line()
        return "" if line is None else line.decode()

    async def listing(self, command: str) -> list[bytes]:
        """The lines of a multi-line answer, dots of transparency taken away."""
        status = await self.ask(command)
        assert status.startswith("+OK"), status
        lines = []
        while (line := await self.line()) != b".":
            assert line is not None, "the server closed within an answer"
            lines.append(line.removeprefix(b"."))
        return lines

    async def maildrop(self, name: str, password: str = "secret") -> str:
        """Read the greeting and log in; the answer to PASS."""
        assert (await self.line() or b"").startswith(b"+OK")
        assert (await self.ask(f"USER {name}")).startswith("+OK")
        return await self.ask(f"PASS {password}")

    async def retrieve(self, number: int) -> bytes:
        return b"".join(line + b"\r\n" for line in await self.listing(f"RETR {number}"))
