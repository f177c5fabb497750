# SPDX-License-Identifier: Apache-2.0
"""docs/queue-states.md, row by row: the process dies in each state at each point, and starts again."""

from __future__ import annotations

import pytest

from posthouse.outcome import RemoteReply, Status
from posthouse.services.schedule import DAY
from posthouse.store.queue_admin import Selection
from tests.fakes import EPOCH
from tests.services.queue_world import World
from tests.virtual_loop import run


async def restarted(world: World) -> None:
    await world.crash()
    await world.relay.start()


def test_due_before_it_was_claimed():
    async def story():
        world = World()
        bob = world.host()
        world.put("bob@bob.test")
        await restarted(world)
        await world.after(5)
        assert bob.recipients == ["bob@bob.test"]
        await world.relay.stop()

    run(story())


def test_claimed_before_anything_was_sent():
    async def story():
        world = World()
        bob = world.host(takes=100.0)
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(50)
        assert world.states() == {"claimed": 1}
        await world.crash()
        assert world.states() == {"claimed": 1}
        assert bob.letters == []
        await world.relay.start()
        await world.after(110)
        assert bob.recipients == ["bob@bob.test"]
        await world.relay.stop()

    run(story())


def test_claimed_after_the_host_accepted_and_before_it_was_recorded():
    """The only duplicate there is (RFC 5321 §6.1: better than a loss)."""

    async def story():
        world = World()
        bob = world.host(takes=5.0)
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(3)
        written = world.database.write

        async def never(unit):
            await world.after(DAY)

        world.database.write = never
        await world.after(10)
        assert bob.recipients == ["bob@bob.test"]
        world.database.write = written
        for task in list(world.relay._lanes.values()):
            task.cancel()
        await restarted(world)
        await world.after(30)
        assert bob.recipients == ["bob@bob.test", "bob@bob.test"]
        assert world.states() == {}
        await world.relay.stop()

    run(story())


@pytest.mark.parametrize("state", ["delivered", "failed", "expired"])
def test_a_final_state_and_its_report_are_one_unit(state):
    """Dies within the unit that records it: neither the state nor the report is there, and both come later."""

    async def story():
        world = World()
        code = {"delivered": 250, "failed": 550, "expired": 450}[state]
        world.host(takes=5.0, answer=lambda r: RemoteReply(code, Status(code // 100, 0, 0), "so"))
        not_before = EPOCH - 6 * DAY if state == "expired" else None
        world.put("bob@bob.test")
        if not_before:
            world.database.connection.execute("UPDATE queue_recipient SET expires_at = 1, warn_at = NULL")
        await world.relay.start()
        await world.after(3)
        await world.crash()
        assert world.poster.posted == []
        assert world.states() == {"claimed": 1}
        await world.relay.start()
        await world.after(20)
        assert world.states() == {}
        assert len(world.poster.posted) == (0 if state == "delivered" else 1)
        (told,) = await world.desk.trace("<1@alice.test>")
        assert [r.state for r in told.recipients] == [state]
        await restarted(world)
        await world.after(20)
        assert len(world.poster.posted) == (0 if state == "delivered" else 1)
        await world.relay.stop()

    run(story())


def test_held_stays_held():
    async def story():
        world = World()
        bob = world.host()
        world.put("bob@bob.test", is_held=True)
        await restarted(world)
        await world.after(DAY)
        assert world.states() == {"held": 1}
        assert bob.probes == []
        await world.relay.stop()

    run(story())


def test_a_hold_asked_for_while_claimed_survives():
    async def story():
        world = World()
        bob = world.host(takes=100.0)
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(10)
        await world.desk.hold(Selection.parse("bob.test"))
        await restarted(world)
        await world.after(DAY)
        assert world.states() == {"held": 1}
        assert len(bob.probes) == 1
        await world.relay.stop()

    run(story())


def test_a_destination_that_is_down_keeps_its_rest():
    async def story():
        world = World()
        bob = world.host(is_up=False)
        world.put("bob@bob.test")
        await world.relay.start()
        await world.after(400)
        probes = len(bob.probes)
        await restarted(world)
        await world.after(100)
        assert len(bob.probes) == probes
        await world.relay.stop()

    run(story())


def test_claims_of_a_live_neighbour_are_left_alone_until_its_lease_ends():
    """Two nodes on one database: only the lease decides."""

    async def story():
        world = World()
        bob = world.host(takes=0.1)
        world.put("bob@bob.test")
        world.database.connection.execute(
            "UPDATE queue_recipient SET state = 'claimed', owner = 'other', leased_until = ?", (EPOCH + 500,)
        )
        world.relay._is_alone = False
        await world.relay.start()
        await world.after(499)
        assert bob.letters == []
        await world.after(10)
        assert bob.recipients == ["bob@bob.test"]
        await world.relay.stop()

    run(story())
