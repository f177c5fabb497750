# SPDX-License-Identifier: Apache-2.0
"""A power cut in the world: the network is silent first, and what was acknowledged is there when it comes back."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from posthouse.sim.loop import Life
from posthouse.sim.people import message_id_of
from posthouse.sim.station import Plan
from posthouse.sim.world import World, run

ALICE = Plan("alice", "alice.test", "192.0.2.1", {"alice@alice.test": "Alice's own words"}, records_disk=True)
BOB = Plan("bob", "bob.test", "192.0.2.2", {"bob@bob.test": "Bob's own words"}, records_disk=True)


@pytest.mark.parametrize("seed", range(6))
def test_a_letter_that_was_acknowledged_survives_cuts_on_its_whole_way(seed: int) -> None:
    """Alice's server goes dark right after its 250, Bob's right after it has taken the letter over."""

    async def script(world: World) -> None:
        alices, bobs = world.add(ALICE), world.add(BOB)
        alice, bob = world.people["alice@alice.test"], world.people["bob@bob.test"]
        await alices.start()
        letter = alice.letter(["bob@bob.test"], "Good morning, Bob.\r\n")
        await alice.submit(letter)
        assert letter.accepted == ["bob@bob.test"]
        alices.cut_power(Random(seed))
        assert not alices.is_up
        await asyncio.sleep(600)
        await alices.start()
        await bobs.start()
        await asyncio.sleep(3600)
        bobs.cut_power(Random(seed + 1))
        await asyncio.sleep(600)
        await bobs.start()
        found = await bob.read()
        assert [message_id_of(each) for each in found] == [letter.message_id.strip("<>")]
        assert found[0].endswith(b"Good morning, Bob.\r\n")
        assert await alices.findings() == await bobs.findings() == []

    world, _ = run(seed, script)
    assert world.faults == []


def test_a_crash_keeps_what_was_written_although_nothing_is_synced() -> None:
    async def script(world: World) -> None:
        alices = world.add(ALICE)
        await alices.start()
        await alices.house.administration.add_account("anna@alice.test", "Anna's own words")
        alices.crash()
        await alices.start()
        assert len(await alices.inside(alices.house.administration.list_accounts())) == 2

    run(1, script)


class End(asyncio.Protocol):
    """A client's end of a connection that writes down what befalls it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def data_received(self, data: bytes) -> None:
        self.seen.append(data[:3].decode())

    def connection_lost(self, error: Exception | None) -> None:
        self.seen.append(f"lost: {type(error).__name__}")


def test_who_talks_with_a_server_whose_power_fails_hears_nothing_more() -> None:
    """No reply, no end, no reset, until the power is back; then the connection is unknown there."""

    async def script(world: World) -> None:
        alices = world.add(ALICE)
        await alices.start()
        life = Life("client", "198.51.100.200")
        loop = asyncio.get_running_loop()
        connecting = loop.create_task(loop.create_connection(End, ALICE.address, 25), context=life.context)
        transport, end = await connecting
        await asyncio.sleep(1)
        assert end.seen == ["220"]
        transport.write(b"EHLO client.test\r\n")
        alices.cut_power(Random(1))
        transport.write(b"NOOP\r\n")
        await asyncio.sleep(300)  # no client gives up earlier (RFC 5321 §4.5.3.2)
        assert end.seen == ["220"]
        await alices.start()
        await asyncio.sleep(300)
        assert end.seen == ["220", "lost: ConnectionResetError"]

    run(1, script)


def test_a_server_that_does_not_record_cannot_be_cut() -> None:
    async def script(world: World) -> None:
        plain = Plan("carol", "carol.test", "192.0.2.3", {"carol@carol.test": "Carol's own words"})
        station = world.add(plain)
        await station.start()
        with pytest.raises(AssertionError, match="does not record"):
            station.cut_power(Random(1))

    run(1, script)
