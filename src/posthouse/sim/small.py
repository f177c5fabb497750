# SPDX-License-Identifier: Apache-2.0
"""Small worlds: two servers, four people, 30 letters in seven days, a stranger in some, and much that goes wrong."""

from __future__ import annotations

from posthouse.sim.accounting import Account
from posthouse.sim.days import Size, play_days
from posthouse.sim.play import Play
from posthouse.sim.station import Plan
from posthouse.sim.world import World

PLANS = (
    Plan(
        "alice",
        "alice.test",
        "192.0.2.1",
        {"alice@alice.test": "Alice's own words", "anna@alice.test": "Anna's own words"},
    ),
    Plan("bob", "bob.test", "192.0.2.2", {"bob@bob.test": "Bob's own words", "ben@bob.test": "Ben's own words"}),
)
STRANGER = ("203.0.113.1", "stranger.example")
SIZE = Size(days=7, letters=30, visits=12, misfortunes=(2, 7), deeds=(0, 4), strange_letters=4)
HAS_STRANGER = 0.5  # the share of worlds with one


async def small_world(world: World) -> Account:
    """The script."""
    strangers = [STRANGER] if world.chance.random() < HAS_STRANGER else []
    return await play_days(Play(world, PLANS, strangers), SIZE)
