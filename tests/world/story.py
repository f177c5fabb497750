# SPDX-License-Identifier: Apache-2.0
"""Alice's server and Bob's server, as the tests of this folder use them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from posthouse.sim.station import Plan, Station
from posthouse.sim.world import World, run

T = TypeVar("T")

ALICE = Plan("alice", "alice.test", "192.0.2.1", {"alice@alice.test": "Alice's own words"})
BOB = Plan("bob", "bob.test", "192.0.2.2", {"bob@bob.test": "Bob's own words"})


class Story:
    """Both servers are made, neither is started."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alices, self.bobs = world.add(ALICE), world.add(BOB)
        self.alice = world.people["alice@alice.test"]
        self.bob = world.people["bob@bob.test"]

    async def attempts(self, station: Station, message_id: str) -> list[float]:
        """The times at which a letter or its destination was tried, in virtual seconds."""
        story = (await station.inside(station.house.queue_desk.trace(message_id)))[0]
        wall = station.house.machine.clock.wall() - self.world.now
        return [attempt.at - wall for attempt in story.attempts]


def play(script: Callable[[Story], Awaitable[T]], seed: int = 1) -> T:
    """Run a story; what must never happen in any world has not happened in it."""
    world, result = run(seed, lambda world: script(Story(world)))
    assert world.faults == []
    return result
