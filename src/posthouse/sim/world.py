# SPDX-License-Identifier: Apache-2.0
"""A world: servers, people, DNS and network on one virtual clock, run by a script.

Invariant: a run is a function of its seed and its script. The log holds what the servers logged and what the
script noted, with virtual times; two runs of the same seed give the same log, line by line.
"""

from __future__ import annotations

import asyncio
import shutil
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from posthouse.sim.dns import WorldDns
from posthouse.sim.foundations import Foundations
from posthouse.sim.logs import recording
from posthouse.sim.loop import Life, WorldLoop, current_life
from posthouse.sim.machine import SeededEntropy
from posthouse.sim.network import Network
from posthouse.sim.people import Person
from posthouse.sim.plan import Plan
from posthouse.sim.station import Station
from posthouse.sim.witness import Witness

T = TypeVar("T")

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# Where Linux has a file system in memory: making and removing the files of a world takes half as long there.
MEMORY = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
ROOM = 2 << 30  # octets that must be free there: some towns at once, with their daily snapshots


class World:
    """`faults`: what must not happen in any world: errors that a server logged, tasks that died unseen."""

    def __init__(self, seed: int, folder: Path, foundations: Foundations | None = None) -> None:
        self.seed = seed
        self.log: list[str] = []
        self.faults: list[str] = []
        self.loop = WorldLoop()  # type: ignore[abstract]  # what it lacks nobody in the house asks for
        self.network = self.loop.network = Network(self.loop, f"{seed}/network")
        self.dns = WorldDns()
        self.chance = Random(f"{seed}/script")  # noqa: S311 - reproducible on purpose
        self.witness = Witness(self.loop.time)
        self.stations: dict[str, Station] = {}
        self.people: dict[str, Person] = {}
        self._ears: dict[str, asyncio.Future[None]] = {}
        self._folder = folder
        self._foundations = foundations

    def add(self, plan: Plan) -> Station:
        """A server, not started yet, and its people."""
        folder = self._folder / plan.name
        is_founded = self._foundations is not None and self._foundations.copy(plan, folder)
        if not is_founded:
            folder.mkdir()
        station = Station(
            plan,
            folder,
            self.loop,
            network=self.network,
            dns=self.dns,
            seed=str(self.seed),
            is_founded=is_founded,
            witness=self.witness,
        )
        self.stations[plan.name] = station
        for address, password in plan.accounts.items():
            number = len(self.people) + 1
            self.people[address] = Person(
                name=address,
                password=password,
                home=plan.hostname,
                home_address=plan.address,
                life=Life(address, f"198.51.100.{number}"),
                loop=self.loop,
                entropy=SeededEntropy(f"{self.seed}/{address}"),
            )
        return station

    # --- time -------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self.loop.time()

    # --- what happened ----------------------------------------------------------------------------

    def note(self, text: str) -> None:
        self.log.append(f"{self.now:14.6f} world: {text}")

    async def heard(self, words: str, until: float) -> None:
        """Return when a server logs that, or at that time."""
        heard = self._ears.setdefault(words, self.loop.create_future())
        try:
            async with asyncio.timeout(max(0.0, until - self.now)):
                await asyncio.shield(heard)
        except TimeoutError:
            return
        finally:
            if heard.done():
                self._ears.pop(words, None)

    def record(self, method: str, event: MutableMapping[str, Any]) -> None:
        """Everything that is logged goes into the world's log."""
        life = current_life()
        if life is not None:
            self.witness.hear(life.name, event)
        words = [f"{name}={value}" for name, value in sorted(event.items()) if name not in ("event", "exc_info")]
        line = f"{event['event']} {' '.join(words)}".replace(str(self._folder), "")
        self.log.append(f"{self.now:14.6f} {life.name if life else 'world'}: {line}")
        for wanted, heard in list(self._ears.items()):
            if wanted in line and not heard.done():
                heard.set_result(None)
        error = event.get("exc_info")
        if error or method in ("error", "critical"):
            told = traceback.format_exc() if error is True else "".join(traceback.format_exception(error or None))
            self.faults.append(f"{self.log[-1].strip()}\n{told if error else ''}".rstrip())

    # --- from the beginning to the end ------------------------------------------------------------

    async def live(self, script: Callable[[World], Awaitable[T]]) -> T:
        result = await script(self)
        for station in self.stations.values():
            if station.is_up:
                self.faults += await station.stop()
        self.faults += self.loop.faults
        return result

    def end(self) -> None:
        for station in self.stations.values():
            station.crash()
        for person in self.people.values():
            self.loop.end(person.life)
        self.loop.close()


def run(seed: int, script: Callable[[World], Awaitable[T]], foundations: Foundations | None = None) -> tuple[World, T]:
    """Make a world, let the script play in it, and end it. Whoever calls looks at `World.faults`."""
    place = work_folder() if foundations is None else foundations.folder
    with TemporaryDirectory(prefix="posthouse-sim-", dir=place) as folder:
        world = World(seed, Path(folder), foundations)
        with recording(world.record):
            try:
                result = world.loop.run(world.live(script))
            finally:
                world.end()
        return world, result


def work_folder() -> Path | None:
    """Where worlds make their files; None: the system's folder for temporary ones."""
    try:
        has_room = shutil.disk_usage(MEMORY).free >= ROOM
    except OSError:
        return None
    return MEMORY if has_room else None
