# SPDX-License-Identifier: Apache-2.0
"""Small worlds: two servers, four people, 30 letters in seven days, a stranger in some, and much that goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from posthouse.services.own_policy import Mode
from posthouse.sim.accounting import Account
from posthouse.sim.days import Size, play_days
from posthouse.sim.play import Play
from posthouse.sim.report_facts import CLERK
from posthouse.sim.station import Plan
from posthouse.sim.world import World

PLANS = (
    Plan(
        "alice",
        "alice.test",
        "192.0.2.1",
        {"alice@alice.test": "Alice's own words", "anna@alice.test": "Anna's own words"},
        {"team@alice.test": ("alice@alice.test", "ben@bob.test")},
        clerk=CLERK,
        forwards={
            "away@alice.test": ("ben@bob.test",),
            "round@alice.test": ("round@bob.test",),  # and back
            "circle@alice.test": ("circle@bob.test",),  # and for ever
            "lost@alice.test": ("lost@bob.test",),  # and to nobody: its report comes back by two servers
            "nobody@alice.test": ("nobody@stranger.example",),
        },
    ),
    Plan(
        "bob",
        "bob.test",
        "192.0.2.2",
        {"bob@bob.test": "Bob's own words", "ben@bob.test": "Ben's own words"},
        clerk=CLERK,
        forwards={
            "pair@bob.test": ("ben@bob.test", "anna@alice.test"),
            "round@bob.test": ("anna@alice.test",),
            "circle@bob.test": ("circle@alice.test",),
            "lost@bob.test": ("gone@alice.test",),
            "out@bob.test": ("somebody@stranger.example",),
        },
    ),
)
STRANGER = ("203.0.113.1", "stranger.example")
SIZE = Size(days=7, letters=30, visits=12, misfortunes=(2, 7), deeds=(0, 4), strange_letters=4, passed_on=3)
# The share of worlds with one; and with power that fails, which costs a quarter more, as the disks are recorded.
HAS_STRANGER = 0.5
HAS_POWER_CUTS = 0.25
MODES: Sequence[Mode] = ("off", "testing", "enforce", "enforce")  # of MTA-STS policies
HAS_REPORTS = 0.4  # the share of worlds whose domains ask for reports: that is as many letters again


async def small_world(world: World) -> Account:
    """The script."""
    strangers = [STRANGER] if world.chance.random() < HAS_STRANGER else []
    records_disk = world.chance.random() < HAS_POWER_CUTS
    modes = Random(f"{world.seed}/modes")  # noqa: S311 - reproducible on purpose
    asks = Random(f"{world.seed}/reports").random() < HAS_REPORTS  # noqa: S311 - as above
    plans = [replace(plan, records_disk=records_disk, asks_for_reports=asks, sts=modes.choice(MODES)) for plan in PLANS]
    return await play_days(Play(world, plans, strangers), SIZE)
