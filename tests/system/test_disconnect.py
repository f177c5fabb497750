# SPDX-License-Identifier: Apache-2.0
"""A client may vanish at any octet: nothing is stored that was not acknowledged, and nothing of the session stays."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.post import Post
from tests.system.wire import Wire

LETTER = b"From: alice@alice.test\r\nSubject: x\r\n\r\nhello\r\n..\r\n"
CHUNKED = b"From: alice@alice.test\r\n\r\nin chunks\r\n"
ENVELOPE = b"MAIL FROM:<alice@alice.test>\r\nRCPT TO:<bob@bob.test>\r\n"
SESSION = (
    b"EHLO client.example.test\r\n"
    + ENVELOPE
    + b"DATA\r\n"
    + LETTER
    + b".\r\n"
    + ENVELOPE
    + b"BDAT 10\r\n"
    + CHUNKED[:10]
    + b"BDAT %d LAST\r\n" % (len(CHUNKED) - 10)
    + CHUNKED[10:]
    + b"RSET\r\nQUIT\r\n"
)
LETTERS = (LETTER.replace(b"\r\n..", b"\r\n."), CHUNKED)
ENDS = (SESSION.index(b"\r\n.\r\n") + 5, SESSION.index(b"RSET"))
LOGIN = b"AUTH LOGIN\r\n" + b"".join(base64.b64encode(text) + b"\r\n" for text in (b"alice@alice.test", b"secret"))
AT_ONCE = 25  # sessions side by side


async def at_every_octet(post: Post, session: bytes, cut: Callable[[int], Any]) -> None:
    for first in range(0, len(session) + 1, AT_ONCE):
        await asyncio.gather(*(cut(size) for size in range(first, min(first + AT_ONCE, len(session) + 1))))
    await post.is_quiet()


def acknowledged(said: bytes) -> int:
    return said.count(b"250 2.0.0 Accepted")


async def stored(post: Post) -> list[bytes]:
    return (await post.contents())[1:]  # the first one filled full@bob.test


async def test_closing_at_every_octet(post: Post) -> None:
    """The client ends its side after each octet and reads what the server says: 250 for exactly what is stored."""
    counts: dict[int, int] = {}

    async def cut(size: int) -> None:
        async with await post.connect() as wire:
            await wire.send(SESSION[:size])
            await wire.close()
            counts[size] = acknowledged(await wire.rest())

    await at_every_octet(post, SESSION, cut)
    assert counts == {size: sum(size >= end for end in ENDS) for size in range(len(SESSION) + 1)}
    kept = await stored(post)
    assert len(kept) == sum(counts.values())
    assert set(kept) == set(LETTERS)
    assert len(await post.letters("bob@bob.test")) == len(kept)


async def test_vanishing_at_every_octet(post: Post) -> None:
    """The connection is reset after each octet. Only whole letters can have been stored, each at most once."""

    async def cut(size: int) -> None:
        wire = await post.connect()
        assert await wire.line() is not None  # the greeting: the session has begun
        await wire.send(SESSION[:size])
        wire.reset()

    await at_every_octet(post, SESSION, cut)
    kept = await stored(post)
    assert set(kept) <= set(LETTERS)
    whole = sum(sum(size >= end for end in ENDS) for size in range(len(SESSION) + 1))
    assert len(kept) <= whole
    assert post.house.metrics.open_sessions.labels("mx")._value.get() == 0


async def test_closing_at_every_octet_of_a_login(opener: Callable[..., Any]) -> None:
    post = await opener(auth={"plaintext": ["submission"]})
    session = b"EHLO client.example.test\r\n" + LOGIN + ENVELOPE + b"DATA\r\n" + LETTER + b".\r\n"

    async def cut(size: int) -> None:
        async with await post.connect("submission") as wire:
            await wire.send(session[:size])
            await wire.close()
            said = await wire.rest()
        assert acknowledged(said) == (size == len(session)), size

    await at_every_octet(post, session, cut)
    assert len(await post.letters("bob@bob.test")) == 1


@pytest.mark.parametrize("service", ["submissions", "pop3s", "submission", "pop3", "smtp"])
async def test_vanishing_at_every_octet_of_a_handshake(post: Post, service: str) -> None:
    """Half-open TLS: the handshake ends with the connection, and leaves nothing behind."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        post.trusting.wrap_bio(incoming, outgoing, server_hostname="mail.example.test").do_handshake()
    hello = outgoing.read()
    step = 13  # the TLS library takes records whole; every octet would only repeat itself

    async def cut(size: int) -> None:
        wire = await Wire.open(post.ports[service], post.trusting)
        if service == "pop3":
            await wire.line()
            assert (await wire.ask("STLS")).startswith("+OK")
        elif service in ("smtp", "submission"):
            await wire.hello()
            assert (await wire.say("STARTTLS")).startswith("220")
        await wire.send(hello[: size * step])
        if size % 2:
            wire.reset()
        else:
            await wire.close()
            await wire.rest()
            await wire.hang_up()

    await at_every_octet(post, hello[::step], cut)


async def test_what_is_no_tls_ends_the_connection(post: Post) -> None:
    async with await Wire.open(post.ports["submissions"], post.trusting) as wire:
        await wire.send(b"EHLO client.example.test\r\nMAIL FROM:<alice@alice.test>\r\n")
        assert b"250" not in await wire.rest()
    async with await post.smtp() as wire:
        assert (await wire.say("STARTTLS")).startswith("220")
        await wire.send(b"EHLO injected.example.test\r\n" + ENVELOPE)
        assert b"250" not in await wire.rest()
    await post.is_quiet()


async def test_closing_at_every_octet_of_a_pop3_session(opener: Callable[..., Any]) -> None:
    """DELE counts only with the +OK to QUIT; the maildrop is free again at once."""
    post = await opener(auth={"plaintext": ["pop3"]})
    async with await post.smtp() as wire:
        assert (await wire.letter("x@example.test", ["bob@bob.test"], LETTER)).startswith("250")
    session = b"USER bob@bob.test\r\nPASS secret\r\nSTAT\r\nUIDL\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n"
    for size in range(len(session) + 1):
        async with await post.connect("pop3") as wire:
            await wire.send(session[:size])
            await wire.close()
            said = await wire.rest()
        await post.is_quiet()
        is_over = size == len(session)
        assert (b"removed" in said) == is_over, size
        assert len(await post.letters("bob@bob.test")) == (0 if is_over else 1), size


HUGE = LETTER + b"0123456789abcdef\r\n" * 40_000


@pytest.mark.parametrize("how", ["vanish", "close", "RSET", "EHLO client.example.test", "QUIT"])
async def test_a_large_letter_that_stays_unfinished_leaves_no_spool(post: Post, how: str) -> None:
    before = sorted((post.house.folder / "packs").iterdir())
    wire = await post.smtp()
    await wire.say_all("MAIL FROM:<a@b.test>", "RCPT TO:<bob@bob.test>")
    if how in ("vanish", "close"):
        assert (await wire.say("DATA")).startswith("354")
        await wire.send(HUGE)
    else:
        await wire.send(b"BDAT %d\r\n" % len(HUGE) + HUGE)
        assert (await wire.reply()).startswith("250")
        assert (await wire.say(how)).startswith(("250", "221"))
    if how == "vanish":
        wire.reset()
    else:
        await wire.hang_up()
    await post.is_quiet()
    assert sorted((post.house.folder / "packs").iterdir()) == before
    assert await stored(post) == []
