# SPDX-License-Identifier: Apache-2.0
"""Letters to addresses that lead to other servers of the world, by one server, by several, in a circle, or to nobody.

Invariant: they are drawn from a chance of their own, so that worlds of before have the same letters besides.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from random import Random
from typing import Any

from posthouse.sim import correspondence
from posthouse.sim.people import Person
from posthouse.sim.play import Play
from posthouse.sim.strangers import Stranger
from posthouse.sim.strangers_client import Call, Guise

LIES = 0.25  # the share of strangers' letters to such addresses that are in the name of somebody else
LINES = (1, 3, 30, 300)


def letters(play: Play, count: int, calm: float) -> Iterator[Coroutine[Any, Any, None]]:
    """As many of people, at any time before `calm`, and one of each stranger."""
    chance = Random(f"{play.world.seed}/forwards")  # noqa: S311 - reproducible on purpose
    addresses = list(play.ledger.forwards)
    for _ in range(count if addresses else 0):
        author, to = chance.choice(play.people), chance.choice(addresses)
        yield _write(play, author, to, chance.choice(LINES), chance.uniform(0, calm))
    for stranger in play.ledger.strangers if addresses else ():
        guise = Guise.FORGED if chance.random() < LIES else Guise.HONEST
        yield _write_strangely(play, stranger, chance.choice(addresses), guise, chance.uniform(0, calm))


async def _write(play: Play, author: Person, to: str, lines: int, at: float) -> None:
    await play.sleep_until(at)
    letter = author.letter([to], correspondence.text(lines, [to]))
    play.ledger.write(letter)
    await correspondence.submit(play, author, letter)
    play.ledger.deeds["write to be passed on"] += 1


async def _write_strangely(play: Play, stranger: Stranger, to: str, guise: Guise, at: float) -> None:
    await play.sleep_until(at)
    await stranger.write(to, call=Call.POLITE, guise=guise)
    play.ledger.deeds["a stranger's letter to be passed on"] += 1
