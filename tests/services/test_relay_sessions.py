# SPDX-License-Identifier: Apache-2.0
"""Several sessions with one destination, and the times at which senders are told: faults that worlds have shown."""

from __future__ import annotations

from itertools import pairwise

import pytest

from posthouse.outcome import RemoteReply, Status
from posthouse.services.schedule import MINUTE, Schedule, Schedules
from posthouse.store import destinations
from tests.services.queue_world import World
from tests.virtual_loop import run


def test_sessions_that_break_together_are_one_failure():
    """They were counted one by one: after one 421 to five connections the next try came after half an hour."""

    async def story():
        world = World(schedules=Schedules(Schedule(connections=5)))
        bob = world.host(answer=lambda _: RemoteReply(421, None, "closing"), takes=1.0)
        for number in range(200):
            world.put(f"u{number}@bob.test")
        await world.relay.start()
        await world.after(50)
        assert bob.most_open > 1
        known = world.database.look(lambda reader: destinations.find(reader, "bob.test"))
        assert known.failures == 1
        tried = len(bob.probes)
        await world.after(20)
        assert len(bob.probes) > tried  # a minute after the first of them
        await world.relay.stop()

    run(story())


def test_a_destination_that_is_down_is_not_probed_for_a_warning_that_comes_in_time():
    """The warning came with the next probe, up to half an hour late."""

    async def story():
        world = World(schedules=Schedules(Schedule(retry=(30 * MINUTE,), warn=40 * MINUTE)))
        bob = world.host(is_up=False)
        world.put("u@bob.test")
        await world.relay.start()
        await world.after(40 * MINUTE - 1)
        assert world.poster.posted == []
        probes = list(bob.probes)
        await world.after(2)
        assert len(world.poster.posted) == 1
        assert bob.probes == probes
        await world.after(20 * MINUTE)
        assert [round(later - earlier) for earlier, later in pairwise(bob.probes)] == [1800, 1800]
        assert len(world.poster.posted) == 1
        await world.relay.stop()

    run(story())


def test_the_warning_of_a_letter_that_its_host_defers_comes_in_time():
    """It came with the next attempt, up to half an hour late."""

    async def story():
        world = World(schedules=Schedules(Schedule(retry=(MINUTE, 30 * MINUTE), warn=40 * MINUTE)))
        bob = world.host(answer=lambda _: RemoteReply(452, Status(4, 2, 2), "full"))
        world.put("u@bob.test")
        await world.relay.start()
        await world.after(40 * MINUTE - 5)
        assert world.poster.posted == []
        await world.after(10)
        assert len(world.poster.posted) == 1
        assert b"452 4.2.2 full" in world.poster.posted[0][0]
        await world.after(60 * MINUTE)
        assert bob.probes == pytest.approx([0, 60, 1860, 2400, 4200, 6000], abs=3)
        assert len(world.poster.posted) == 1
        await world.relay.stop()

    run(story())


def test_new_mail_does_not_put_off_the_warning_of_old_mail():
    """A destination that is down and is to be looked at for a warning gets a new letter: both times hold."""

    async def story():
        world = World(schedules=Schedules(Schedule(retry=(30 * MINUTE,), warn=40 * MINUTE)))
        world.host(is_up=False)
        world.put("u@bob.test")
        await world.relay.start()
        await world.after(35 * MINUTE)
        world.put("v@bob.test")
        await world.after(5 * MINUTE + 1)
        assert len(world.poster.posted) == 1
        await world.relay.stop()

    run(story())
