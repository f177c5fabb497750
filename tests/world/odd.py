# SPDX-License-Identifier: Apache-2.0
"""Alice's server and one stranger, as the tests of strange manners use them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from posthouse.mail.dsn_reader import parse_dsn
from posthouse.sim.people import Person, Sent
from posthouse.sim.strangers import Stranger
from posthouse.sim.strangers_manners import GOOD, Habit, Manners
from posthouse.sim.world import World, run
from posthouse.store.queue_admin import Selection
from tests.world.story import ALICE

T = TypeVar("T")

ODD, ODD_HOST, ODD_DOMAIN = "203.0.113.7", "mx.odd.test", "odd.test"
OLIVER = "oliver@odd.test"


class Odd:
    """Both are there when the script begins."""

    def __init__(self, world: World, manners: Manners) -> None:
        self.world = world
        self.network = world.network
        self.alices = world.add(ALICE)
        self.alice: Person = world.people["alice@alice.test"]
        self.stranger = Stranger(
            ODD,
            ODD_HOST,
            ODD_DOMAIN,
            network=world.network,
            dns=world.dns,
            seed=str(world.seed),
            manners=manners,
            note=world.note,
        )

    async def submit(self, text: str = "Hello Oliver\r\n", *recipients: str) -> Sent:
        """Alice's server takes it."""
        sent = await self.alice.submit(self.alice.letter(recipients or [OLIVER], text))
        assert sent.accepted
        return sent

    async def attempts(self, sent: Sent) -> list[tuple[float, str]]:
        """Seconds since the letter was submitted, and the diagnostic of each attempt."""
        story = (await self.alices.inside(self.alices.house.queue_desk.trace(sent.message_id)))[0]
        wall = self.alices.house.machine.clock.wall() - self.world.now
        return [
            (attempt.at - wall - sent.at, outcome.diagnostic)
            for attempt in story.attempts
            for outcome, _ in attempt.results
        ]

    async def queued(self) -> int:
        return (await self.alices.inside(self.alices.house.queue_desk.totals())).letters

    async def reports(self) -> list[tuple[str, str, str]]:
        """Action, status and diagnostic of each report in Alice's mailbox."""
        found = [parse_dsn(letter) for letter in await self.alice.read()]
        return [
            (each.action.value, str(each.status), each.diagnostic)
            for report in found
            if report is not None
            for each in report.recipients
            if each.action is not None
        ]

    async def retry(self) -> None:
        await self.alices.inside(self.alices.house.queue_desk.retry_now(Selection()))


def play(manners: Manners | Habit, script: Callable[[Odd], Awaitable[T]], seed: int = 1) -> T:
    """Run it; no error was logged, no task was left."""
    chosen = manners if isinstance(manners, Manners) else Manners(habits=(manners,))
    odd: list[Odd] = []

    async def whole(world: World) -> T:
        odd.append(Odd(world, chosen))
        await odd[0].alices.start()
        await odd[0].stranger.start()
        return await script(odd[0])

    try:
        world, result = run(seed, whole)
    finally:
        for each in odd:
            each.stranger.end()
    assert world.faults == [], world.faults
    return result


__all__ = ["GOOD", "OLIVER", "Odd", "play"]
