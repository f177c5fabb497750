# SPDX-License-Identifier: Apache-2.0
"""A small house for tests of services: a database in memory, a clock that is set by hand, chance from a seed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from posthouse.ports import Change, Peer
from posthouse.protocol.sasl import MECHANISMS
from posthouse.services.administration import Administration
from posthouse.services.directory import Directory
from posthouse.services.guard import Guard
from posthouse.services.keys import DomainKeys
from posthouse.services.login import Login
from posthouse.services.passwords import Cost, Passwords
from posthouse.store.sealing import SecretKey
from tests.store.plain_database import PlainDatabase

T = TypeVar("T")

CHEAP = Cost(time=1, memory=8)  # KiB; the smallest Argon2 there is, for speed
EDGE = Peer("192.0.2.7", 40_000, "192.0.2.1", 587, "t1")
OTHER_EDGE = Peer("192.0.2.99", 40_000, "192.0.2.1", 587, "t2")
LOOPBACK = Peer("127.0.0.1", 40_000, "127.0.0.1", 587, "t3")


class HandClock:
    """Both clocks, moved by hand and by `asyncio.sleep` of the services under test (see `World`)."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class SeededEntropy:
    def __init__(self, seed: str = "posthouse") -> None:
        self._seed = seed
        self._count = 0

    def octets(self, count: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._seed}/{self._count}".encode()).digest(count)


class InlineWorkers:
    def __init__(self) -> None:
        self.jobs: list[str] = []

    async def run(self, function: Callable[[], T], *, pool: str = "disk") -> T:
        self.jobs.append(pool)
        return function()

    def committer(self, commit: Callable[[list[Any]], None]) -> Callable[[Any], None]:
        return lambda item: commit([item])

    def call_back(self, calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            call()

    async def close(self) -> None:
        return None


class InstantBus:
    """Tells everybody at once."""

    def __init__(self) -> None:
        self._told: list[tuple[str, int, Callable[[Change], None]]] = []
        self.published: list[Change] = []

    def publish(self, change: Change) -> None:
        self.published.append(change)
        for topic, key, told in list(self._told):
            if topic == change.topic and key in (0, change.key):
                told(change)

    def subscribe(self, topic: str, key: int, told: Callable[[Change], None]) -> Callable[[], None]:
        entry = (topic, key, told)
        self._told.append(entry)
        return lambda: self._told.remove(entry)


class World:
    """Directory, administration and login on one database. `slept` gathers the delays that were asked for."""

    def __init__(self, *, scram_sha_1: bool = False, hostname: str = "mail.example.test", **limits: int) -> None:
        self.clock = HandClock()
        self.entropy = SeededEntropy()
        self.workers = InlineWorkers()
        self.bus = InstantBus()
        self.database = PlainDatabase()
        self.key = SecretKey(bytes(range(32)))
        self.slept: list[float] = []
        names = [name for name in MECHANISMS if scram_sha_1 or name != "SCRAM-SHA-1"]
        scram = [name for name in names if MECHANISMS[name].is_scram]
        self.passwords = Passwords(self.workers, self.entropy, mechanisms=scram, iterations=4096, cost=CHEAP)
        self.keys = DomainKeys(self.database, self.bus, self.workers, self.entropy, self.key, algorithms=("ed25519",))
        self.guard = Guard(self.clock, **limits)
        self.directory = Directory(self.database, self.bus, hostname=hostname)
        self.login = Login(
            self.directory,
            self.database,
            self.bus,
            self.passwords,
            self.guard,
            clock=self.clock,
            entropy=self.entropy,
            key=self.key,
            mechanisms=names,
        )
        self.administration = Administration(
            self.database,
            self.bus,
            self.passwords,
            self.keys,
            clock=self.clock,
            entropy=self.entropy,
            key=self.key,
        )

    async def sleep(self, seconds: float) -> None:
        """In place of `asyncio.sleep`: time passes, nobody waits."""
        self.slept.append(seconds)
        self.clock.now += seconds
        await _yield()


_real_sleep = asyncio.sleep


async def _yield() -> None:
    await _real_sleep(0)
