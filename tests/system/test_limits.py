# SPDX-License-Identifier: Apache-2.0
"""How much one client may do, how fast, and how long it may take. Waiting is recorded, not done; limits are small."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from posthouse.edges import pop3 as pop3_edge
from posthouse.edges import smtp as smtp_edge
from posthouse.net import connection
from posthouse.net.peer import peer_of
from posthouse.net.session import ConnectionLimits
from posthouse.protocol.smtp import table
from tests.system.post import Post

LETTER = b"From: alice@alice.test\r\n\r\nx\r\n"
Opener = Callable[..., Any]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays that the edges asked for; none is waited for."""
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    for edge in (smtp_edge, pop3_edge):
        monkeypatch.setattr(edge, "asyncio", SimpleNamespace(sleep=sleep))
    return delays


@pytest.fixture
def from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every peer looks as if it came from elsewhere: loopback is exempt from most limits."""

    def stranger(transport: Any, trace: str) -> Any:
        return replace(peer_of(transport, trace), address="192.0.2.7")

    monkeypatch.setattr(connection, "peer_of", stranger)


async def test_errors_cost_time_and_in_the_end_the_connection(opener: Opener, slept: list[float]) -> None:
    post = await opener(smtp={"tarpit_after": 2, "close_after": 15})
    async with await post.smtp() as wire:
        replies = await wire.say_all(*["NONSENSE"] * 14)
        assert {reply[:9] for reply in replies} == {"500 5.5.1"}
        assert slept == [*map(float, range(1, 11)), 10.0, 10.0]
        assert (await wire.say("MAIL FROM:<a@b.test>")).startswith("250")
        assert (await wire.say("NONSENSE")) == "421 4.7.0 Too many errors, closing"
        assert await wire.line() is None


async def test_harvesting_addresses_is_tarpitted(opener: Opener, slept: list[float]) -> None:
    post = await opener(smtp={"tarpit_after": 5, "close_after": 10})
    async with await post.smtp() as wire:
        await wire.say("MAIL FROM:<a@b.test>")
        replies = await wire.say_all(*(f"RCPT TO:<guess{number}@bob.test>" for number in range(10)))
        assert [reply[:3] for reply in replies] == ["550"] * 9 + ["421"]
    assert len(slept) == 5


async def test_unknown_commands_for_ever_end_over_pop3_too(opener: Opener, slept: list[float]) -> None:
    post = await opener(smtp={"tarpit_after": 2, "close_after": 6})
    async with await post.connect("pop3s") as wire:
        await wire.line()
        await wire.send(b"NONSENSE\r\n" * 1000)
        said = (await wire.rest()).split(b"\r\n")
        assert 6 <= len(said) <= 8
        assert all(line.startswith(b"-ERR") for line in said if line)
    assert len(slept) == 4


async def test_wrong_passwords_end_the_session(opener: Opener, slept: list[float]) -> None:
    post = await opener(smtp={"tarpit_after": 1, "close_after": 4})
    async with await post.connect("submissions") as wire:
        await wire.hello()
        replies = [await wire.log_in("alice@alice.test", f"guess {number}") for number in range(4)]
        assert [reply[:3] for reply in replies] == ["535", "535", "535", "421"]


async def test_a_wrong_password_limit_shuts_out_strangers_not_the_owner_elsewhere(
    opener: Opener, from_outside: None
) -> None:
    post = await opener(auth={"failures_per_address": 3})
    async with await post.connect("submissions") as wire:
        await wire.hello()
        for number in range(3):
            assert (await wire.log_in("alice@alice.test", f"guess {number}")).startswith("535")
        assert (await wire.log_in("alice@alice.test", "secret")).startswith("450 4.7.1")


# --- how many at once -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("service", "word"), [("smtp", b"421 4.7.0 "), ("pop3", b"-ERR [SYS/TEMP] ")])
async def test_a_connection_too_many_is_told_so(opener: Opener, service: str, word: bytes) -> None:
    post = await opener(**{service: {"max_connections": 3}})
    wires = [await post.connect(service) for _ in range(3)]
    for wire in wires:
        assert await wire.line() is not None
    async with await post.connect(service) as late:
        assert (await late.rest()).startswith(word + b"too many connections")
    leaving = next(task for each in post.server.listeners for c in each.connections if (task := c.task))
    await wires[0].hang_up()
    await leaving
    async with await post.connect(service) as wire:
        assert not (await wire.line() or b"").startswith(word)
    for wire in wires[1:]:
        await wire.hang_up()


async def test_connections_from_one_address(opener: Opener, from_outside: None) -> None:
    post = await opener(smtp={"max_connections_per_address": 2})
    async with await post.smtp(), await post.smtp(), await post.connect() as third:
        assert await third.rest() == b"421 4.7.0 too many connections from your address, try again later\r\n"


async def test_letters_from_one_address_in_a_minute(opener: Opener, from_outside: None) -> None:
    post = await opener(smtp={"letters_per_minute": 2})
    async with await post.smtp() as wire:
        for _ in range(2):
            assert (await wire.letter("a@b.test", ["bob@bob.test"], LETTER)).startswith("250")
        assert (await wire.say("MAIL FROM:<a@b.test>")).startswith("450 4.7.1")
        assert (await wire.say("NOOP")).startswith("250")
    assert len(await post.letters("bob@bob.test")) == 2


async def test_loopback_is_exempt_from_the_rate_of_letters(opener: Opener) -> None:
    post = await opener(smtp={"letters_per_minute": 1})
    async with await post.smtp() as wire:
        for _ in range(3):
            assert (await wire.letter("a@b.test", ["bob@bob.test"], LETTER)).startswith("250")


async def test_recipients_of_one_account_in_an_hour(opener: Opener) -> None:
    post = await opener(submission={"recipients_per_hour": 3})
    async with await post.submission() as wire:
        rcpt = ["bob@bob.test", "carol@bob.test"]
        assert (await wire.letter("alice@alice.test", rcpt, LETTER)).startswith("250")
        replies = await wire.say_all("MAIL FROM:<alice@alice.test>", *(f"RCPT TO:<{each}>" for each in rcpt))
        assert [reply[:9] for reply in replies] == ["250 2.1.0", "250 2.1.5", "450 4.7.1"]
    async with await post.submission("bob@bob.test") as wire:  # others have their own count
        assert (await wire.letter("bob@bob.test", rcpt, b"From: bob@bob.test\r\n\r\n")).startswith("250")


# --- how slowly ---------------------------------------------------------------------------------------------


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> float:
    """The server waits a tenth of a second where it would wait minutes."""
    limit = 0.1
    for state, seconds in table.WAIT_LIMITS.items():
        if seconds:
            monkeypatch.setitem(table.WAIT_LIMITS, state, limit)
    return limit


MAIL = ["MAIL FROM:<a@b.test>", "RCPT TO:<bob@bob.test>", "DATA"]


@pytest.mark.parametrize("where", ["greeting", "command", "transaction", "content"])
async def test_a_silent_client_is_sent_away(post: Post, hurried: float, where: str) -> None:
    async with await post.connect() as wire:
        if where != "greeting":
            await wire.hello()
        if where == "transaction":
            await wire.say_all(*MAIL[:2])
        if where == "content":
            await wire.say_all(*MAIL)
            await wire.send(b"From: a@b.test\r\n\r\nhalf a let")
        assert (await wire.rest()).endswith(b"421 4.4.2 mail.example.test Timeout, closing connection\r\n")
    await post.is_quiet()
    assert await post.letters("bob@bob.test") == []


@pytest.mark.parametrize("where", ["command", "content"])
async def test_an_octet_now_and_then_buys_no_time(post: Post, hurried: float, where: str) -> None:
    """Slow loris: only answers and a fair amount of octets do."""
    began = time.monotonic()
    async with await post.smtp() as wire:
        if where == "content":
            await wire.say_all(*MAIL)
        gathered = asyncio.ensure_future(wire.rest())
        while not gathered.done():
            await wire.send(b"x")
            await asyncio.wait([gathered], timeout=hurried / 10)
        assert (await gathered).startswith(b"421 4.4.2")
    assert time.monotonic() - began < 30 * hurried
    await post.is_quiet()


async def test_half_open_tls_is_given_up(opener: Opener) -> None:
    """Who connects to a TLS port and never begins, or asks for TLS and never begins."""
    post = await opener(limits=ConnectionLimits(handshake=0.1, linger=0.1))
    for service in ("submissions", "pop3s"):
        reader, writer = await asyncio.open_connection("127.0.0.1", post.ports[service])
        writer.write(b"\x16\x03\x01\x02\x00")  # the head of a ClientHello
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
    async with await post.smtp() as wire:
        assert (await wire.say("STARTTLS")).startswith("220")
        assert await wire.rest() == b""
    await post.is_quiet()


async def test_a_reader_that_does_not_read_is_given_up(opener: Opener) -> None:
    """A POP3 client asks for a large letter and takes nothing: the maildrop does not stay locked."""
    post = await opener(limits=ConnectionLimits(write_stall=0.1, linger=0.1, close=0.1), auth={"plaintext": ["pop3"]})
    huge = LETTER + b"0123456789abcdef\r\n" * 600_000
    async with await post.smtp() as wire:
        assert (await wire.letter("a@b.test", ["bob@bob.test"], huge)).startswith("250")
    wire = await post.connect("pop3")
    assert (await wire.maildrop("bob@bob.test")).startswith("+OK")
    wire._writer.transport.pause_reading()
    await wire.send(b"RETR 1\r\n")
    await post.is_quiet()
    assert not post.house.maildrops._open
    wire.reset()


async def test_draining_lets_a_letter_in_progress_end(opener: Opener) -> None:
    """SIGTERM in the middle of DATA: the letter is taken, its 250 said, then 421."""
    post = await opener(limits=ConnectionLimits(linger=0.1))
    async with await post.smtp() as busy, await post.smtp() as idle:
        await busy.say_all(*MAIL)
        stopping = asyncio.gather(*(listener.stop(10) for listener in post.server.listeners))
        assert (await idle.rest()).startswith(b"421 4.3.2")
        await busy.send(LETTER + b".\r\n")
        assert (await busy.rest()).startswith(b"250 2.0.0 Accepted")
        await stopping
    assert len(await post.letters("bob@bob.test")) == 1


async def test_the_systems_descriptors_bound_the_connections(opener: Opener) -> None:
    """Half of them for each protocol; the next one is told so instead of never being accepted (EMFILE)."""
    post = await opener(descriptors=4, smtp={"max_connections": 1000})
    wires = [await post.connect("smtp") for _ in range(2)]
    for wire in wires:
        assert (await wire.line() or b"").startswith(b"220")
    async with await post.connect("smtp") as late:
        assert (await late.rest()).startswith(b"421 4.7.0 too many connections")
    for wire in wires:
        await wire.hang_up()
