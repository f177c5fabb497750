# SPDX-License-Identifier: Apache-2.0
"""The days of a world: everything that is done and suffered in it, drawn by chance before it begins.

Invariant: what is drawn depends on the seed alone; at the end everything is mended, up, and has had time to settle.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from posthouse.sim import correspondence, misfortunes, operators
from posthouse.sim.accounting import Account
from posthouse.sim.play import Play
from posthouse.sim.world import DAY, HOUR

# Seconds between a letter and a misfortune that meets it on its way, at most.
ON_ITS_WAY = 4.0
# Seconds before the end at which the last misfortune and the last deed are over, and the last letter is written.
# Then the longest wait for a retry passes, and the reports go their way.
CALM = 3 * HOUR
LAST_LETTER = 2 * HOUR
LOOKS = 3  # checks of everything at times of no consequence


@dataclass(frozen=True, slots=True)
class Size:
    """How much happens. Pairs: between so many and so many."""

    days: int
    letters: int
    visits: int
    misfortunes: tuple[int, int]
    deeds: tuple[int, int]
    strange_letters: int


async def play_days(play: Play, size: Size) -> Account:
    """The whole life of a world, and its account."""
    chance, end = play.chance, size.days * DAY
    calm = end - CALM
    await play.begin()
    # The stronger the wish to be early, the more letters live to see five days of outage.
    letters = [calm * chance.random() ** 1.5 for _ in range(size.letters)]
    async with asyncio.TaskGroup() as group:
        for at in letters:
            group.create_task(correspondence.write(play, chance.choice(play.people), at))
        for _ in range(size.visits):
            person = chance.choice(play.people)
            group.create_task(correspondence.read(play, person, chance.uniform(0, end - LAST_LETTER)))
        for stranger in play.ledger.strangers:
            for _ in range(chance.randint(0, size.strange_letters)):
                group.create_task(correspondence.write_strangely(play, stranger, chance.uniform(0, calm)))
        for _ in range(chance.randint(*size.misfortunes)):
            # Half of them meet a letter on its way.
            at = chance.choice(letters) + chance.uniform(0, ON_ITS_WAY) if chance.random() < 0.5 else chance.random()
            at = at if at > 1 else at * calm
            group.create_task(misfortunes.strike(play, at, calm))
        for _ in range(chance.randint(*size.deeds)):
            at = chance.uniform(0, calm)
            group.create_task(operators.act(play, at, chance.uniform(at, calm)))
        for _ in range(LOOKS):
            group.create_task(_look(play, chance.uniform(0, end)))
    await play.sleep_until(end)
    return await play.end()


async def _look(play: Play, at: float) -> None:
    await play.sleep_until(at)
    await play.check("on the way")
