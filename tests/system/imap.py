# SPDX-License-Identifier: Apache-2.0
"""An IMAP client's end of a real connection: commands out, whole responses in, literals with them."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Self

from tests.system.post import PASSWORD, Post
from tests.system.wire import Wire

BOB = "bob@bob.test"
_LITERAL = re.compile(rb"\{(\d+)\}\Z")
_UIDS = re.compile(rb"UID (\d+)")


class Imap:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._count = 0

    @classmethod
    async def open(cls, post: Post, name: str = BOB, *, mailbox: str = "", enable: str = "") -> Self:
        """Over TLS, logged in, with a mailbox selected if one is named."""
        session = cls(await post.connect("imaps"))
        assert (await session.response()).startswith(b"* OK")
        assert (await session.ask(f"LOGIN {name} {PASSWORD}")).startswith("OK")
        if enable:
            assert (await session.ask(f"ENABLE {enable}")).startswith("OK")
        if mailbox:
            assert (await session.ask(f"SELECT {mailbox}")).startswith("OK")
        return session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.wire.hang_up()

    async def response(self) -> bytes:
        """One response, whole; b"" when the server has closed."""
        found = b""
        while True:
            line = await self.wire.line()
            if line is None:
                assert not found, f"half a response: {found!r}"
                return b""
            found += line
            literal = _LITERAL.search(line)
            if literal is None:
                return found
            found += b"\r\n" + await self.wire.octets(int(literal[1]))

    async def say(self, command: str) -> str:
        """Send a command; its tag."""
        self._count += 1
        tag = f"t{self._count}"
        await self.wire.send(f"{tag} {command}\r\n".encode())
        return tag

    async def answer(self, tag: str = "") -> tuple[list[bytes], str]:
        """Untagged responses up to the answer of the last command (or of that tag), and that without its tag."""
        told: list[bytes] = []
        start = f"{tag or f't{self._count}'} ".encode()
        while True:
            response = await self.response()
            assert response, f"closed instead of an answer, after {told}"
            if response.startswith(start):
                return told, response[len(start) :].decode()
            told.append(response)

    async def ask(self, command: str) -> str:
        """A command's tagged answer."""
        return (await self.tell(command))[1]

    async def tell(self, command: str) -> tuple[list[bytes], str]:
        """A command's untagged responses and its tagged answer."""
        await self.say(command)
        return await self.answer()

    async def append(self, mailbox: str, *messages: bytes, before: str = "", verb: str = "APPEND") -> str:
        """Without waiting for leave; `before`: flags, date, or `~`, with a space behind each. The tagged answer."""
        return (await self.append_all(mailbox, *messages, before=before, verb=verb))[1]

    async def append_all(
        self, mailbox: str, *messages: bytes, before: str = "", verb: str = "APPEND"
    ) -> tuple[list[bytes], str]:
        self._count += 1
        octets = f"t{self._count} {verb} {mailbox}".encode()
        for message in messages:
            octets += b" %b{%d+}\r\n%b" % (before.encode(), len(message), message)
        await self.wire.send(octets + b"\r\n")
        return await self.answer()

    async def idle(self) -> str:
        """Until the server waits; the tag for `done`."""
        tag = await self.say("IDLE")
        while not (await self.response()).startswith(b"+"):
            pass
        return tag

    async def done(self, tag: str) -> list[bytes]:
        await self.wire.send(b"DONE\r\n")
        told, answer = await self.answer(tag)
        assert answer.startswith("OK")
        return told
