# SPDX-License-Identifier: Apache-2.0
"""Towns: four servers, twenty people, 500 letters in two weeks, two strangers, and everything that goes wrong."""

from __future__ import annotations

from dataclasses import replace

from posthouse.sim.accounting import Account
from posthouse.sim.days import Size, play_days
from posthouse.sim.play import Play
from posthouse.sim.report_facts import CLERK
from posthouse.sim.station import Plan
from posthouse.sim.world import World

DOMAINS = ("north.test", "east.test", "south.test", "west.test")
NAMES = ("ada", "bela", "cleo", "dora", "emil")
STRANGERS = (("203.0.113.1", "stranger.example"), ("203.0.113.2", "far.example"))


def _forwards(number: int, domain: str) -> dict[str, tuple[str, ...]]:
    """Away, through all servers to somebody and to nobody, around for ever, and to a stranger."""
    onward, last = DOMAINS[(number + 1) % len(DOMAINS)], DOMAINS[-1]
    ends = (f"dora@{domain}", f"gone@{DOMAINS[0]}")
    return {
        f"away@{domain}": (f"bela@{onward}", f"cleo@{domain}"),
        f"long@{domain}": ends if domain == last else (f"long@{onward}",),
        f"circle@{domain}": (f"circle@{onward}",),
        f"out@{domain}": (f"somebody@{STRANGERS[number % 2][1]}",),
    }


PLANS = tuple(
    Plan(
        domain.partition(".")[0],
        domain,
        f"192.0.2.{number}",
        {f"{name}@{domain}": f"{name}'s own words" for name in NAMES},
        # Everybody of one name, in all places: three of four letters go on to another server.
        {f"all-{NAMES[number]}@{domain}": tuple(f"{NAMES[number]}@{each}" for each in DOMAINS)},
        _forwards(number - 1, domain),
        clerk=CLERK,
        asks_for_reports=True,
        sts="testing" if number == 1 else "enforce",
    )
    for number, domain in enumerate(DOMAINS, 1)
)
HAS_POWER_CUTS = 0.5
SIZE = Size(days=14, letters=500, visits=120, misfortunes=(15, 40), deeds=(5, 25), strange_letters=60, passed_on=30)


async def town(world: World) -> Account:
    """The script. In half of the towns the power of one server fails now and then."""
    plans = list(PLANS)
    if world.chance.random() < HAS_POWER_CUTS:
        plans[0] = replace(plans[0], records_disk=True)
    return await play_days(Play(world, plans, STRANGERS), SIZE)
