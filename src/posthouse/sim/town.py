# SPDX-License-Identifier: Apache-2.0
"""Towns: four servers, twenty people, 500 letters in two weeks, two strangers, and everything that goes wrong."""

from __future__ import annotations

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
    )
    for number, domain in enumerate(DOMAINS, 1)
)
STRANGERS = (("203.0.113.1", "stranger.example"), ("203.0.113.2", "far.example"))
SIZE = Size(days=14, letters=500, visits=120, misfortunes=(15, 40), deeds=(5, 25), strange_letters=60)


async def town(world: World) -> Account:
    """The script."""
    return await play_days(Play(world, PLANS, STRANGERS), SIZE)
