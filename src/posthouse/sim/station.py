# SPDX-License-Identifier: Apache-2.0
"""One mail server of the world: the real code on a simulated machine, started, stopped and crashed by the script.

Invariant: what outlives a start is the data directory alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from posthouse.app import House, open_house
from posthouse.composing.ground import Machine
from posthouse.config import Settings, from_table
from posthouse.office import store_check_of
from posthouse.ports import StoreFault
from posthouse.serving import Server
from posthouse.sim.dns import WorldDns
from posthouse.sim.image import Rule
from posthouse.sim.loop import Life, WorldLoop
from posthouse.sim.machine import world_machine
from posthouse.sim.network import Network
from posthouse.sim.plan import Plan
from posthouse.sim.power import PoweredDisk
from posthouse.sim.report_facts import TLS_READER, ask
from posthouse.sim.tls import Certificate, WorldTlsUpgrader
from posthouse.sim.web import WorldWeb
from posthouse.sim.witness import Witness

__all__ = ["Plan", "Station", "StationDown"]

T = TypeVar("T")

PORTS = {"smtp": 25, "submission": 587, "pop3s": 995, "imaps": 993}
CHECKPOINT_PAGES = 100  # of a server whose power is cut: its log is copied back while it works, not in idle time only
# Relay: dispatcher, leases; housekeeping: sweep, snapshot; policies of other domains: refresh; reports: daily run,
# those that come.
IDLE_TASKS = 7
IDLE_TIMERS = 5  # of the same, but leases are renewed only while there are any, and reports that come have none
DRAIN = 30.0  # seconds that sessions get at a stop, as process.drain


class StationDown(Exception):  # noqa: N818 - what happened, not whose fault it is
    """The server went down while something ran inside it; nobody knows how far it came."""


def certificate_of(plan: Plan) -> Certificate:
    """What the server shows; its key is that of a TLSA record with a SHA2-256 digest."""
    return Certificate((plan.hostname,), key=hashlib.sha256(plan.hostname.encode()).digest())


class Station:
    """`is_founded`: its folder has the domain and the accounts already. `before_end`: told before its life ends
    suddenly, while its rows still say what it was doing."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        loop: WorldLoop,
        *,
        network: Network,
        dns: WorldDns,
        seed: str,
        is_founded: bool = False,
        witness: Witness | None = None,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.starts = 0
        self.started_at = 0.0
        self.before_end: Callable[[], None] = lambda: None
        self._is_founded = is_founded
        self._is_published = False
        self.tls = WorldTlsUpgrader(certificate_of(plan))
        self._witness = witness
        self._loop = loop
        self._network = network
        self._dns = dns
        self._seed = seed
        self._life: Life | None = None
        self._server: Server | None = None
        self._over: asyncio.Future[None] | None = None  # done when the life is
        self._is_dark = False  # its power is cut
        self._disk: PoweredDisk | None = None
        if plan.records_disk:
            rule = Random(f"{seed}/{plan.name}/disk").choice(list(Rule))  # noqa: S311 - reproducible on purpose
            self._disk = PoweredDisk(folder, rule)
        dns.add_host(plan.hostname, plan.address)
        dns.add_mx(plan.domain, plan.hostname)

    @property
    def is_up(self) -> bool:
        return self._server is not None

    @property
    def is_over(self) -> bool:
        """Not up, and not stopping either."""
        return self._life is None

    @property
    def house(self) -> House:
        """Raises StationDown."""
        if self._server is None:
            raise StationDown(self.plan.name)
        return self._server.house

    # --- up and down ------------------------------------------------------------------------------

    async def start(self) -> None:
        """At the first time with its domain and accounts. Returns when it serves."""
        machine = self._begin()
        self._server = await self.inside(self._start(machine))
        self.started_at = self._loop.time()

    async def found(self) -> None:
        """Make the domain and the accounts, serve nobody."""
        await self.inside(self._found(self._begin()))
        self._is_founded = True

    def _begin(self) -> Machine:
        assert self._life is None, f"{self.plan.name} is up"
        self.starts += 1
        life = self._life = Life(self.plan.name, self.plan.address)
        self._over = self._loop.create_future()
        if self._is_dark:
            self._is_dark = False
            self._network.unsilence(self.plan.address)
        machine = world_machine(life, self._loop, self._dns, f"{self._seed}/{self.plan.name}/{self.starts}")
        if self._witness is not None:
            transport = self._witness.watched(self.plan.name, machine.transport())
            told = partial(self._witness.read, self.plan.name)
            machine = replace(machine, transport=lambda: transport, web=lambda resolver: WorldWeb(resolver, told))
        if self._disk is None:
            return machine
        recorder = self._disk.begin()
        return replace(machine, disk=recorder.disk, vfs=recorder.vfs, checkpoint_pages=CHECKPOINT_PAGES)

    async def _start(self, machine: Machine) -> Server:
        if not self._is_founded:
            await self._found(machine)
            self._is_founded = True
        house = open_house(self.folder, self._settings(), machine)
        endpoints = {name: [(self.plan.address, port)] for name, port in PORTS.items()}
        if not self._is_published:
            self._is_published = True
            await self._publish(house)
        server = Server(house, endpoints, self.tls)
        await server.start()
        return server

    async def _publish(self, house: House) -> None:
        """What makes others believe its letters, as `posthouse dns` says, and asks them to refuse all else."""
        plan, dns = self.plan, self._dns
        dns.add_txt(plan.domain, b"v=spf1 mx -all")
        dns.add_txt(plan.hostname, f"v=spf1 ip4:{plan.address} -all".encode())
        dns.add_txt(f"_dmarc.{plan.domain}", b"v=DMARC1; p=reject")
        for name, value in await house.domain_keys.records(plan.domain):
            dns.add_txt(name, value.encode())
        if plan.asks_for_reports:
            ask(dns, plan.domain)

    async def _found(self, machine: Machine) -> None:
        plan = self.plan
        house = open_house(self.folder, self._settings(), machine)
        await house.administration.add_domain(plan.domain)
        for address, password in plan.accounts.items():
            await house.administration.add_account(address, password)
        for address, targets in {**plan.aliases, **plan.forwards}.items():
            await house.administration.add_alias(address, targets)
        if plan.clerk:
            await house.administration.add_account(f"{plan.clerk}@{plan.domain}", "The clerk's own words")
            await house.administration.add_alias(f"{TLS_READER}@{plan.domain}", [f"{plan.clerk}@{plan.domain}"])
        await house.close()

    def _settings(self) -> Settings:
        listen = {name: [f"{self.plan.address}:{port}"] for name, port in PORTS.items()}
        return from_table({"hostname": self.plan.hostname, "listen": listen, **self.plan.settings}, self.plan.name)

    async def stop(self) -> list[str]:
        """As by SIGTERM. Returns what it left behind, which should be nothing."""
        server, life = self._server, self._life
        assert server is not None
        assert life is not None
        self._server = None
        if self._witness is not None:
            self._witness.stopped(self.plan.name)
        await self.inside(server.stop(DRAIN))
        name = self.plan.name
        left = [f"{name}: left running after the stop: {task.get_coro()}" for task in life.tasks]
        left += [f"{name}: a timer left after the stop: {each!r}" for each in self._loop.timers(life)]
        left += [f"{name}: left open after the stop: {each}" for each in self._network.belongings(life)]
        self._end()
        return left

    def crash(self) -> None:
        """As by kill -9, at whatever it was doing."""
        if self._life is not None:
            self.before_end()
        self._end()
        if self._disk is not None:
            self._disk.crash()
            self.folder = self._disk.folder

    def cut_power(self, chance: Random) -> None:
        """The network falls silent first, then everything stops, and of what was not synced the disk keeps what it
        likes (sim/image.py). `start` brings the power back. Only for a plan that `records_disk`."""
        assert self._disk is not None, f"{self.plan.name} does not record its disk"
        self._network.silence(self.plan.address)
        self._is_dark = True
        if self._life is not None:
            self.before_end()
        self._end()
        self._disk.cut(chance)
        self.folder = self._disk.folder

    def _end(self) -> None:
        life, self._life, self._server = self._life, None, None
        if self._witness is not None:
            self._witness.stopped(self.plan.name)
        if life is not None:
            self._loop.end(life)
            self._network.end(life)
        if self._disk is not None:
            self._disk.end()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def going_on(self) -> list[str]:
        """Everything beyond what a server has that has nothing to do: doors, two services with two tasks and a timer
        each, one with one, and the timer of a dispatcher that waits for letters to be due."""
        assert self._life is not None
        tasks, timers = list(self._life.tasks), self._loop.timers(self._life)
        found = self._network.belongings(self._life)[len(PORTS) :]
        if len(tasks) > IDLE_TASKS:
            found += [f"the task {task.get_coro()}" for task in tasks]
        if len(timers) > IDLE_TIMERS:
            found += [f"the timer {each!r}" for each in timers]
        return found

    # --- looking inside ---------------------------------------------------------------------------

    async def inside(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something as this server's own code. Raises StationDown when its life ends before that is done."""
        assert self._life is not None
        assert self._over is not None
        over, task = self._over, self._loop.create_task(work, context=self._life.context)
        await asyncio.wait((over, task), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StationDown(self.plan.name)
        return task.result()

    async def findings(self) -> list[str]:
        """What a check of the whole store finds wrong. Raises StationDown, also when the server stops meanwhile."""
        server = self._server
        found = await self.inside(self._findings())
        if self._server is not server:
            raise StationDown(self.plan.name)  # of a store that is being closed there is nothing to be said
        return found

    async def _findings(self) -> list[str]:
        house = self.house
        try:
            found = await store_check_of(house).run()
        except StoreFault as fault:
            return [f"{self.plan.name}: {fault}"]
        return [f"{self.plan.name}: {each.text}" for each in found if each.level != "ok"]
