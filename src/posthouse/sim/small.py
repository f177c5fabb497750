# SPDX-License-Identifier: Apache-2.0
"""Small worlds: two servers, four people, 30 letters in seven days, a stranger in some, and much that goes wrong."""

from __future__ import annotations

from dataclasses import replace

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
        {"team@alice.test": ("alice@alice.test", "ben@bob.test")},
    ),
    Plan("bob", "bob.test", "192.0.2.2", {"bob@bob.test": "Bob's own words", "ben@bob.test": "Ben's own words"}),
)
STRANGER = ("203.0.113.1", "stranger.example")
SIZE = Size(days=7, letters=30, visits=12, misfortunes=(2, 7), deeds=(0, 4), strange_letters=4)
# The share of worlds with one; and with power that fails, which costs a quarter more, as the disks are recorded.
HAS_STRANGER = 0.5
HAS_POWER_CUTS = 0.25


async def small_world(world: World) -> Account:
    """The script."""
    strangers = [STRANGER] if world.chance.random() < HAS_STRANGER else []
    records_disk = world.chance.random() < HAS_POWER_CUTS
    plans = [replace(plan, records_disk=records_disk) for plan in PLANS]
    return await play_days(Play(world, plans, strangers), SIZE)
