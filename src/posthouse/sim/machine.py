# SPDX-License-Identifier: Apache-2.0
"""The machine that a server of the world stands on: clock, chance, workers and disk.

Invariant: work costs virtual time and no real time is ever looked at; once its life has ended a machine does
nothing more, so that a crash ends in the middle of whatever was going on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

from posthouse import telemetry
from posthouse.composing.ground import Machine
from posthouse.net.smtp_transport import SmtpTransport
from posthouse.ports import StoreFault
from posthouse.services.passwords import Cost
from posthouse.sim.disk import VFS, WorldDisk, sqlite_vfs
from posthouse.sim.dns import WorldDns, WorldResolver
from posthouse.sim.loop import Handle, Life, WorldLoop
from posthouse.sim.tls import WorldTlsStarter
from posthouse.sim.web import NoWeb

T = TypeVar("T")

EPOCH = 1_800_000_000.0  # when every world begins: 2027-01-15 08:00 UTC
# Seconds that a call costs, by pool. Near what was measured on a modest machine.
COSTS: Mapping[str, float] = {"disk": 0.002, "hash": 0.020, "read": 0.0005, "resolve": 0.010, "search": 0.005}
# Seconds of one group commit, two syncs: a solid-state disk to a spinning one.
COMMIT = (0.002, 0.030)
IDLE = 0.5  # seconds without work before a committer is asked to do idle work, as in net/workers.py
# The least that Argon2 takes: passwords of the world are no secret, and its hours are short.
CHEAP = Cost(time=1, memory=8)


class WorldClock:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def wall(self) -> float:
        return EPOCH + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()


class SeededEntropy:
    """The same octets for the same seed."""

    def __init__(self, seed: str) -> None:
        self._chance = Random(seed)  # noqa: S311 - reproducible on purpose

    def octets(self, count: int) -> bytes:
        return self._chance.randbytes(count)


class InlineWorkers:
    """The Workers port in the only thread there is."""

    def __init__(self, life: Life, loop: WorldLoop, chance: Random) -> None:
        self._life = life
        self._chance = chance
        self._loop = loop
        self._committers: list[_Committer] = []

    async def run(self, function: Callable[[], T], *, pool: str = "disk") -> T:
        self._check()
        result = function()
        await asyncio.sleep(COSTS[pool])
        return result

    def committer(self, commit: Callable[[list[Any]], None]) -> Callable[[Any], None]:
        made = _Committer(commit, self._life, self._loop, self._chance)
        self._committers.append(made)
        return made.hand_in

    def call_back(self, calls: Sequence[Callable[[], None]]) -> None:
        busy = next((each for each in self._committers if each.answers is not None), None)
        if busy is not None and busy.answers is not None:
            busy.answers.extend(calls)
            return
        for call in calls:
            self._loop.call_soon(call)

    async def close(self) -> None:
        for each in self._committers:
            each.hand_in(None)
        await asyncio.gather(*(each.ended for each in self._committers))

    def _check(self) -> None:
        if not self._life.is_alive:
            raise StoreFault("the machine has crashed")


class _Committer:
    """Takes everything that waits, works for a while, answers, and looks again.

    The commit itself happens in the middle of that while: a crash may come before it or after it.
    """

    def __init__(self, commit: Callable[[list[Any]], None], life: Life, loop: WorldLoop, chance: Random) -> None:
        self.answers: list[Callable[[], None]] | None = None  # gathered while a commit runs
        self.ended: asyncio.Future[None] = loop.create_future()
        self._commit = commit
        self._life = life
        self._loop = loop
        self._chance = chance
        self._waiting: list[Any] = []
        self._is_busy = False
        self._is_told_to_end = False
        self._idle: Handle | None = None
        self._log = telemetry.logger("workers")

    def hand_in(self, item: Any) -> None:
        if not self._life.is_alive:
            return
        self._waiting.append(item)
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_soon(self._take)

    def _take(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        batch, self._waiting = self._waiting, []
        if None in batch:
            self._is_told_to_end = True
            batch = batch[: batch.index(None)]
        cost = self._chance.uniform(*COMMIT) if batch else 0.0
        self._loop.call_later(cost / 2, self._work, batch, cost / 2)

    def _work(self, batch: list[Any], rest: float) -> None:
        answers = self._run(batch) if batch else []
        self._loop.call_later(rest, self._answer, answers)

    def _answer(self, answers: list[Callable[[], None]]) -> None:
        for answer in answers:
            answer()
        if self._is_told_to_end:
            self.ended.set_result(None)
        elif self._waiting:
            self._loop.call_soon(self._take)
        else:
            self._is_busy = False
            self._idle = self._loop.call_later(IDLE, self._rest)

    def _rest(self) -> None:
        self._idle = None
        for answer in self._run([]):
            answer()

    def _run(self, batch: list[Any]) -> list[Callable[[], None]]:
        answers = self.answers = []
        try:
            self._commit(batch)
        except Exception:  # as in net/workers.py
            self._log.exception("commit_failed", items=len(batch))
        finally:
            self.answers = None
        return answers


def world_machine(life: Life, loop: WorldLoop, dns: WorldDns, seed: str) -> Machine:
    """`seed` differs from server to server and from start to start."""
    sqlite_vfs()
    entropy = SeededEntropy(f"{seed}/entropy")
    chance = Random(f"{seed}/workers")  # noqa: S311 - reproducible on purpose
    return Machine(
        clock=WorldClock(loop),
        entropy=entropy,
        disk=WorldDisk(),
        workers=lambda: InlineWorkers(life, loop, chance),
        resolver=lambda _settings: WorldResolver(dns),
        transport=lambda: SmtpTransport(entropy, WorldTlsStarter()),
        web=lambda _: NoWeb(),
        vfs=VFS,
        password_cost=CHEAP,
        dkim_algorithms=("ed25519",),
    )
