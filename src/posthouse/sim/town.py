# SPDX-License-Identifier: Apache-2.0
"""Towns: four servers, twenty people, 500 letters in two weeks, two strangers, and everything that goes wrong."""

from __future__ import annotations

from dataclasses import replace

from posthouse.sim.accounting import Account
from posthouse.sim.days import Size, play_days
from posthouse.sim.play import Play
from posthouse.sim.station import Plan
from posthouse.sim.world import World

DOMAINS = ("north.test", "east.test", "south.test", "west.test")
NAMES = ("ada", "bela", "cleo", "dora", "emil")
PLANS = tuple(
    Plan(
        domain.partition(".")[0],
        domain,
        f"192.0.2.{number}",
        {f"{name}@{domain}": f"{name}'s own words" for name in NAMES},
        # Everybody of one name, in all places: three of four letters go on to another server.
        {f"all-{NAMES[number]}@{domain}": tuple(f"{NAMES[number]}@{each}" for each in DOMAINS)},
    )
    for number, domain in enumerate(DOMAINS, 1)
)
STRANGERS = (("203.0.113.1", "stranger.example"), ("203.0.113.2", "far.example"))
HAS_POWER_CUTS = 0.5
SIZE = Size(days=14, letters=500, visits=120, misfortunes=(15, 40), deeds=(5, 25), strange_letters=60)


async def town(world: World) -> Account:
    """The script. In half of the towns the power of one server fails now and then."""
    plans = list(PLANS)
    if world.chance.random() < HAS_POWER_CUTS:
        plans[0] = replace(plans[0], records_disk=True)
    return await play_days(Play(world, plans, STRANGERS), SIZE)
