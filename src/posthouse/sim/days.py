# SPDX-License-Identifier: Apache-2.0
"""The days of a world: everything that is done and suffered in it, drawn by chance before it begins.

Invariant: what is drawn depends on the seed alone; at the end everything is mended, up, and has had time to settle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from posthouse.sim import correspondence, misfortunes, operators, passing_on, policies
from posthouse.sim.accounting import Account
from posthouse.sim.play import Play
from posthouse.sim.world import DAY, HOUR

# Seconds between a letter and a misfortune that meets it on its way, at most.
ON_ITS_WAY = 4.0
# Seconds before the end at which the last misfortune and the last deed are over, and the last letter is written.
# Then people try a last time, the longest wait for a retry passes, and the reports go their way.
CALM = 4 * HOUR
LAST_VISIT = 2 * HOUR
PATIENCE = DAY  # seconds that all of it may take longer than the world lasts: a sign that somebody is never answered
EARLY = 1.5
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
    passed_on: int = 0  # letters to addresses that lead to other servers, beside the others


async def play_days(play: Play, size: Size) -> Account:
    """The whole life of a world, and its account."""
    end = size.days * DAY
    hosts = policies.publish(play)
    for host in hosts:
        await host.start()
    await play.begin()
    try:
        async with asyncio.timeout(end + PATIENCE), asyncio.TaskGroup() as group:
            for work in (*_days(play, size), *policies.episodes(play, hosts, end - CALM)):
                group.create_task(work)
    except TimeoutError:
        play.find("somebody waits for ever")
    await play.sleep_until(end)
    for finding in policies.check(play, hosts, end - CALM):
        play.find(finding.text)
    account = await play.end()
    for host in hosts:
        host.end()
    return account


def _days(play: Play, size: Size) -> Iterator[Coroutine[Any, Any, None]]:
    """Everything that is done and suffered."""
    chance, end = play.chance, size.days * DAY
    calm = end - CALM
    # The stronger the wish to be early, the more letters live to see five days of outage.
    letters = [calm * chance.random() ** EARLY for _ in range(size.letters)]
    for at in letters:
        yield correspondence.write(play, chance.choice(play.people), at)
    for _ in range(size.visits):
        yield correspondence.read(play, chance.choice(play.people), chance.uniform(0, end - LAST_VISIT))
    for stranger in play.ledger.strangers:
        for _ in range(chance.randint(0, size.strange_letters)):
            yield correspondence.write_strangely(play, stranger, chance.uniform(0, calm))
    for _ in range(chance.randint(*size.misfortunes)):
        match chance.randrange(3):
            case 0:  # it meets a letter somewhere on its way
                yield misfortunes.strike(play, chance.choice(letters) + chance.uniform(0, ON_ITS_WAY), calm)
            case 1:  # it meets the answer to one
                yield misfortunes.strike(play, chance.uniform(0, calm), calm, after="accepted kind=mx")
            case _:
                yield misfortunes.strike(play, chance.uniform(0, calm), calm)
    for _ in range(chance.randint(*size.deeds)):
        at = chance.uniform(0, calm)
        yield operators.act(play, at, chance.uniform(at, calm))
    for _ in range(LOOKS):
        yield _look(play, chance.uniform(0, end))
    yield from passing_on.letters(play, size.passed_on, calm)


async def _look(play: Play, at: float) -> None:
    await play.sleep_until(at)
    await play.check("on the way")
