# SPDX-License-Identifier: Apache-2.0
"""The driver on loopback: order, back pressure, time limits, closing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest

from posthouse.net.admission import Admission
from posthouse.net.connection import READ_BOUND, WRITE_SLICE, slices
from posthouse.net.session import ConnectionLimits
from tests.net.echo import House, within

ON_BOTH_LOOPS = True


async def test_commands_are_answered_in_order() -> None:
    async with House() as house:
        client = await house.connect()
        assert await client.line() == b"hello\r\n"
        assert await client.say(b"one") == b"one\r\n"
        assert await client.say(b"two", b"three", b"four") == b"two\r\n"
        assert await client.line() == b"three\r\n"
        assert await client.line() == b"four\r\n"
        assert await client.say(b"QUIT") == b"bye\r\n"
        assert await client.rest() == b""
        await client.close()
    assert [session.ends for session in house.sessions] == [1]


async def test_octet_by_octet() -> None:
    async with House() as house:
        client = await house.connect()
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in b"one\r\nQUIT\r\n":
            client.writer.write(bytes([octet]))
            await asyncio.sleep(0)
        assert await client.rest() == b"hello\r\none\r\nbye\r\n"
        await client.close()


async def test_peer_that_closes_its_side_gets_its_answers() -> None:
    """Half-close: `printf … | nc` style clients end their side first."""
    async with House() as house:
        client = await house.connect()
        client.write(b"one", b"wait", b"two")
        client.writer.write_eof()
        await within(house.reached.wait)
        house.gate.set()
        assert await client.rest() == b"hello\r\none\r\nwaited\r\ntwo\r\n"
        await client.close()
    assert house.sessions[0].lines == [b"one", b"wait", b"two", b""]


async def test_reset_while_the_session_is_busy() -> None:
    """The answer is finished (a commit is not torn), then the session ends once."""
    async with House() as house:
        client = await house.connect()
        await client.line()
        client.write(b"wait")
        await within(house.reached.wait)
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        await asyncio.sleep(0)
        assert house.sessions[0].ends == 0
        house.gate.set()
        await within(house.ended.wait)
    assert house.sessions[0].lines == [b"wait", b""]
    assert house.sessions[0].ends == 1


async def test_disconnect_at_every_octet() -> None:
    async with House() as house:
        script = b"one\r\nbig 10\r\nQUIT\r\n"
        for end in range(len(script)):
            client = await house.connect()
            client.writer.write(script[:end])
            await client.close()
    assert [session.ends for session in house.sessions] == [1] * len(script)


async def test_idle_peer_is_told_and_closed() -> None:
    async with House(limit=0.05) as house:
        client = await house.connect()
        assert await client.rest() == b"hello\r\ntoo slow\r\n"
        await client.close()


async def test_octet_now_and_then_buys_no_time() -> None:
    """Slow loris: the limit is for the whole command."""
    async with House(limit=0.3) as house:
        client = await house.connect()
        await client.line()
        started = asyncio.get_running_loop().time()

        async def dribble() -> None:
            while True:
                client.writer.write(b"x")
                await asyncio.sleep(0.02)

        dribbling = asyncio.create_task(dribble())
        assert await client.line() == b"too slow\r\n"
        assert 0.25 < asyncio.get_running_loop().time() - started < 2.0
        dribbling.cancel()
        await client.close()


async def test_every_answer_starts_the_limit_anew() -> None:
    async with House(limit=0.2) as house:
        client = await house.connect()
        await client.line()
        for _ in range(6):
            await asyncio.sleep(0.05)
            assert await client.say(b"still here") == b"still here\r\n"
        await client.close()


async def test_our_own_slowness_is_not_the_peers() -> None:
    async with House(limit=0.1) as house:
        client = await house.connect()
        await client.line()
        client.write(b"wait")
        await within(house.reached.wait)
        await asyncio.sleep(0.3)
        house.gate.set()
        assert await client.line() == b"waited\r\n"
        await client.close()


async def test_socket_is_not_read_while_much_is_unread() -> None:
    """Back pressure: a busy session holds a bounded amount of the peer's octets."""
    async with House() as house:
        client = await house.connect()
        await client.line()
        client.write(b"wait")
        await within(house.reached.wait)
        total = 64 * READ_BOUND
        line = b"y" * 998 + b"\r\n"
        client.writer.write(line * (total // len(line)))
        for _ in range(50):
            await asyncio.sleep(0.002)
        # One read of the loop may pass the bound by what it takes at once.
        assert len(house.sessions[0].engine.buffer) <= READ_BOUND + 256 * 1024
        house.gate.set()
        assert await client.line() == b"waited\r\n"
        for _ in range(total // len(line)):
            assert await client.line() == line
        await client.close()


async def test_large_answer_to_a_slow_reader() -> None:
    """It arrives whole, and what waits in the transport stays bounded."""
    async with House() as house:
        client = await house.connect()
        await client.line()
        size = 40 * WRITE_SLICE + 12345
        client.write(b"big %d" % size, b"after")
        await asyncio.sleep(0.05)
        [connection] = house.listener.connections
        assert connection._transport.get_write_buffer_size() <= 2 * WRITE_SLICE
        assert await client.line() == b"here\r\n"
        body = await within(lambda: client.reader.readexactly(size + 2))
        assert body == b"x" * size + b"\r\n"
        assert await client.line() == b"after\r\n"
        await client.close()


async def test_peer_that_never_reads_is_dropped() -> None:
    limits = ConnectionLimits(write_stall=0.1, linger=0.1, close=0.1)
    async with House(limits=limits) as house:
        with socket.create_connection(("127.0.0.1", house.port)) as sock:
            sock.sendall(b"big 50000000\r\n")
            await within(house.ended.wait)
        assert house.sessions[0].ends == 1


async def test_commands_that_came_during_a_large_answer() -> None:
    """Nothing that arrives while the driver waits for the peer to read is forgotten."""
    async with House() as house:
        client = await house.connect()
        await client.line()
        client.write(b"big 5000000")
        await asyncio.sleep(0.05)
        client.write(b"late")
        await asyncio.sleep(0.05)
        assert await client.line() == b"here\r\n"
        await within(lambda: client.reader.readexactly(5000002))
        assert await client.line() == b"late\r\n"
        await client.close()


async def test_last_word_survives_pipelined_rubbish() -> None:
    """Octets that nobody will read must not turn the close into a reset that eats the reply."""
    async with House() as house:
        client = await house.connect()
        client.write(b"QUIT", *[b"z" * 500] * 2000)
        assert await client.rest() == b"hello\r\nbye\r\n"
        await client.close()


@pytest.mark.parametrize("word", [b"bad", b"forget"])
async def test_defect_of_a_session_ends_that_session_alone(word: bytes) -> None:
    async with House() as house:
        other = await house.connect()
        await other.line()
        client = await house.connect()
        await client.line()
        client.write(word)
        with contextlib.suppress(ConnectionResetError):
            assert await client.rest() == b""
        await client.close()
        assert await other.say(b"on") == b"on\r\n"
        await other.close()
    assert [session.ends for session in house.sessions] == [1, 1]


async def test_shut_down_lets_idle_sessions_say_goodbye() -> None:
    async with House() as house:
        client = await house.connect()
        await client.line()
        stopping = asyncio.create_task(house.listener.stop(2.0))
        assert await client.rest() == b"stopping\r\n"
        await client.close()
        await within(lambda: stopping)


async def test_shut_down_waits_for_a_busy_session() -> None:
    async with House() as house:
        client = await house.connect()
        await client.line()
        client.write(b"wait")
        await within(house.reached.wait)
        stopping = asyncio.create_task(house.listener.stop(5.0))
        await asyncio.sleep(0.01)
        house.gate.set()
        assert await client.rest() == b"waited\r\nstopping\r\n"
        await client.close()
        await within(lambda: stopping)


async def test_stop_drops_what_is_left_after_the_grace() -> None:
    house = House()
    await house.listener.start()
    client = await house.connect()
    await client.line()
    client.write(b"wait")
    await within(house.reached.wait)
    await within(lambda: house.listener.stop(0.05))
    assert not house.listener.connections
    assert house.sessions[0].ends == 1
    await client.close()


async def test_connections_over_the_limits_are_refused_with_a_word() -> None:
    admission = Admission(total=3, per_address=2)
    async with House(admission=admission, refusal=lambda _, reason: f"421 {reason}\r\n".encode()) as house:
        clients = [await house.connect() for _ in range(2)]
        for client in clients:
            await client.line()
        third = await house.connect()
        assert await third.rest() == b"421 too many connections from your address\r\n"
        await third.close()
        await clients[0].say(b"QUIT")
        await clients[0].close()
        await within(lambda: house.becomes(1))
        fourth = await house.connect()
        assert await fourth.line() == b"hello\r\n"
        for client in (clients[1], fourth):
            await client.close()
    assert admission.count == 0
    assert house.listener.refused == 1


async def test_pipelining_peer_leaves_others_their_turn() -> None:
    async with House() as house:
        greedy, other = await house.connect(), await house.connect()
        await greedy.line()
        await other.line()
        greedy.write(*[b"silent"] * 30000)
        assert await other.say(b"me") == b"me\r\n"
        assert len(house.sessions[0].lines) < 30000
        await greedy.close()
        await other.close()


def test_slices_keep_octets_and_order() -> None:
    parts = [b"ab", memoryview(b"cdefghijkl"), b"", b"mnop", b"q"]
    cut = list(slices(parts, 4))
    assert b"".join(bytes(part) for batch in cut for part in batch) == b"abcdefghijklmnopq"
    assert [sum(len(part) for part in batch) for batch in cut] == [4, 4, 4, 4, 1]
