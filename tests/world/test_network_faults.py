# SPDX-License-Identifier: Apache-2.0
"""Faults of the world's network: parted, silent, reset, slow, late, refused and unreachable hosts."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.sim.links import BARE_PACKET
from posthouse.sim.network import LONGEST_RETRANSMISSION, SYN_SECONDS
from posthouse.sim.transport import RETRANSMISSION_SECONDS
from tests.world.test_network import HERE, PORT, THERE, End, Pair, play

ELSEWHERE = "203.0.113.9"
# Seconds that an arrival may be off for the latency of a link and the headers of a packet.
SLACK = 0.5


def test_a_partition_parts_its_groups_until_it_is_healed() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        pair.network.partition([HERE], [THERE, ELSEWHERE])
        pair.network.cut(HERE, ELSEWHERE)
        client.transport.write(b"one ")
        server.transport.write(b"two ")
        await asyncio.sleep(1000)
        assert (client.received, server.received) == (b"", b"")
        pair.network.heal()
        client.transport.write(b"three")
        await asyncio.sleep(1)
        assert (client.received, server.received) == (b"two ", b"one three")
        assert client.told == server.told == []

    play(script)


def test_a_partition_from_everybody_else() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        pair.network.partition([ELSEWHERE])
        client.transport.write(b"not meant")
        await asyncio.sleep(1)
        assert server.received == b"not meant"
        pair.network.partition([THERE])
        client.transport.write(b", meant")
        await asyncio.sleep(1)
        assert server.received == b"not meant"

    play(script)


def test_a_silent_host_leaves_connections_half_open() -> None:
    """Nobody is told. What is written is never acknowledged, so the writer is stopped, and at last given up."""

    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        client.transport.write(b"on its way")
        pair.network.silence(THERE)
        await asyncio.sleep(10)
        assert server.received == b""
        client.transport.write(b"x" * 200_000)
        assert client.told == ["pause"]
        server.transport.write(b"lost")
        await asyncio.sleep(RETRANSMISSION_SECONDS - 20)
        assert (client.told, client.received, server.told) == (["pause"], b"", [])
        await asyncio.sleep(30)
        assert client.told == ["pause", "TimeoutError"]
        assert server.told == ["TimeoutError"]
        assert pair.network.connections(HERE) == pair.network.connections(THERE) == 0

    play(script)


def test_who_only_listens_to_a_silent_host_hears_nothing_for_ever() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        pair.network.silence(THERE)
        await asyncio.sleep(100_000)
        assert (client.told, server.told) == ([], [])
        pair.network.unsilence(THERE)
        await asyncio.sleep(100_000)
        assert (client.told, server.told) == ([], [])
        client.transport.write(b"still there?")
        await asyncio.sleep(1)
        assert client.told == ["ConnectionResetError"]
        assert server.received == b""

    play(script)


def test_octets_that_vanished_are_sent_again_and_answered_with_a_reset() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        pair.network.silence(THERE)
        client.transport.write(b"hello?")
        await asyncio.sleep(300)
        pair.network.unsilence(THERE)
        await asyncio.sleep(LONGEST_RETRANSMISSION + 1)
        assert client.told == ["ConnectionResetError"]
        assert server.received == b""
        again, _ = await pair.connect()  # new connections know nothing of all that
        again.transport.write(b"hello")
        await asyncio.sleep(1)
        assert pair.accepted[-1].received == b"hello"

    play(script)


def test_a_host_that_lost_its_power_answers_old_connections_with_a_reset() -> None:
    """The order of a power cut: silent first, then dead, then there again."""

    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        pair.network.silence(THERE)
        pair.loop.end(pair.server_life)
        pair.network.end(pair.server_life)
        await asyncio.sleep(60)
        assert client.told == []
        pair.network.unsilence(THERE)
        client.transport.write(b"still there?")
        await asyncio.sleep(1)
        assert client.told == ["ConnectionResetError"]
        assert server.told == []

    play(script)


def test_connecting_to_a_silent_or_parted_host_ends_at_last() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        pair.network.silence(THERE)
        with pytest.raises(TimeoutError):
            await pair.connect()
        assert pair.loop.time() == pytest.approx(SYN_SECONDS, abs=1)
        pair.network.unsilence(THERE)
        pair.network.cut(HERE, THERE)
        with pytest.raises(TimeoutError):
            await pair.connect()
        assert pair.loop.time() == pytest.approx(2 * SYN_SECONDS, abs=1)

    play(script)


def test_a_host_that_falls_silent_while_it_accepts_leaves_nothing_behind() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        connecting = asyncio.create_task(pair.connect())
        await asyncio.sleep(pair.network.latency(HERE, THERE) * 1.5)
        pair.network.silence(THERE)
        with pytest.raises(TimeoutError):
            await connecting
        assert pair.network.connections(HERE) == 0

    play(script)


def test_a_reset_breaks_every_connection_of_a_host() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        ends = [*await pair.connect(), *await pair.connect()]
        pair.network.reset(ELSEWHERE)
        await asyncio.sleep(1)
        assert all(end.told == [] for end in ends)
        pair.network.reset(THERE)
        await asyncio.sleep(1)
        assert all(end.told == ["ConnectionResetError"] for end in ends)
        await pair.connect()

    play(script)


def test_a_connection_reset_before_its_program_is_awake_is_told_so() -> None:
    """Else a program would wait for ever on a connection that the network no longer knows."""

    async def script(pair: Pair) -> None:
        await pair.listen()
        connecting = asyncio.create_task(pair.connect())
        await asyncio.sleep(pair.network.latency(HERE, THERE) * 1.5)
        pair.network.reset(THERE)
        client, server = await connecting
        await asyncio.sleep(1)
        assert (client.told, server.told) == (["ConnectionResetError"], ["ConnectionResetError"])

    play(script)


@pytest.mark.parametrize(
    ("fault", "error"), [("refuse", "Connection refused"), ("unreachable", "No route to host|unreachable")]
)
def test_refused_and_unreachable_hosts(fault: str, error: str) -> None:
    """New connections fail, old ones go on."""

    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        getattr(pair.network, fault)(THERE)
        with pytest.raises(OSError, match=error):
            await pair.connect()
        client.transport.write(b"old friends")
        await asyncio.sleep(1)
        assert server.received == b"old friends"
        pair.network.accept(THERE)
        await pair.connect()

    play(script)


def test_a_slow_line_takes_its_time_and_holds_the_writer_up() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        pair.network.slow(THERE, 1000)
        began = pair.loop.time()
        client.transport.write(b"x" * 200_000)
        assert client.told == ["pause"]
        await asyncio.sleep(50)
        assert 45_000 < len(server.received) < 55_000  # it comes bit by bit
        await asyncio.sleep(began + 200 - pair.loop.time())
        assert len(server.received) < 200_000
        await asyncio.sleep(200 * BARE_PACKET / 1000)
        assert len(server.received) == 200_000
        assert client.told == ["pause", "resume"]

    play(script)


def test_a_line_that_gets_faster_keeps_the_order() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        pair.network.slow(HERE, 1000)
        client.transport.write(b"a" * 10_000)
        await asyncio.sleep(1)
        pair.network.slow(HERE, None)
        client.transport.write(b"b" * 10_000)
        client.transport.close()
        await asyncio.sleep(10)
        assert server.received == b"a" * 10_000 + b"b" * 10_000
        assert server.told == ["end"]

    play(script)


def test_connections_share_a_slow_line() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        (one, one_there), (two, two_there) = await pair.connect(), await pair.connect()
        pair.network.slow(THERE, 1500)
        one.transport.write(b"1" * 60_000)
        two.transport.write(b"2" * 60_000)
        await asyncio.sleep(40)
        assert abs(len(one_there.received) - len(two_there.received)) < 5000
        assert 50_000 < len(one_there.received) + len(two_there.received) < 62_000

    play(script)


def test_what_was_given_up_on_a_slow_line_is_not_sent() -> None:
    """As the system drops the send buffer of a socket that is reset."""

    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        pair.network.slow(THERE, 1000)
        client.transport.write(b"x" * 60_000)
        await asyncio.sleep(10)
        client.transport.abort()
        await asyncio.sleep(1)
        assert server.told == ["ConnectionResetError"]
        assert len(server.received) < 12_000
        other, _ = await pair.connect()  # the line is free again after what was on it
        other.transport.write(b"quick")
        await asyncio.sleep(5)
        assert pair.accepted[-1].received == b"quick"

    play(script)


def test_a_connection_given_up_before_the_answer_came_is_not_held_open() -> None:
    """Small world 1635: a server stopped while a slow line brought the answer, and that was counted as left open."""

    async def script(pair: Pair) -> None:
        await pair.listen()
        pair.network.delay(THERE, 20)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pair.connect(), 30)
        assert len(pair.accepted) == 1
        assert pair.network.belongings(pair.client_life) == []
        await asyncio.sleep(15)
        assert pair.network.connections(HERE) == 0

    play(script)


def test_a_delay_ends_without_anything_being_overtaken() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        client, server = await pair.connect()
        pair.network.delay(THERE, 20)
        client.transport.write(b"late ")
        await asyncio.sleep(1)
        pair.network.delay(THERE, 0)
        client.transport.write(b"early")
        await asyncio.sleep(18)
        assert server.received == b""
        await asyncio.sleep(2)
        assert server.received == b"late early"
        client.transport.write(b"!")
        await asyncio.sleep(SLACK)
        assert server.received == b"late early!"

    play(script)


def test_the_same_seed_gives_the_same_faults() -> None:
    """When a reset comes after silence is a matter of chance, and chance of the seed."""

    async def script(pair: Pair) -> list[float | None]:
        await pair.listen()
        ends: list[End] = [(await pair.connect())[0] for _ in range(5)]
        pair.network.silence(THERE)
        for end in ends:
            end.transport.write(b"hello?")
        await asyncio.sleep(500)
        pair.network.unsilence(THERE)
        await asyncio.sleep(500)
        return [end.lost_at for end in ends]

    first, second = play(script), play(script)
    assert first == second
    assert len(set(first)) == 5


def test_no_port_is_shared_by_two_doors() -> None:
    async def script(pair: Pair) -> None:
        await pair.listen()
        with pytest.raises(OSError, match="in use"):
            await pair.as_server(pair.loop.create_server(End, THERE, PORT))

    play(script)
