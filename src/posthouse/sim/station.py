# SPDX-License-Identifier: Apache-2.0
"""One mail server of the world: the real code on a simulated machine, started, stopped and crashed by the script.

Invariant: what outlives a start is the data directory alone.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from posthouse.app import House, Machine, open_house
from posthouse.config import Settings, from_table
from posthouse.ports import StoreFault
from posthouse.services.checkup import Checkup
from posthouse.serving import Server
from posthouse.sim.dns import WorldDns
from posthouse.sim.loop import Life, WorldLoop
from posthouse.sim.machine import world_machine
from posthouse.sim.network import Network
from posthouse.sim.tls import Certificate, WorldTlsUpgrader

T = TypeVar("T")

PORTS = {"smtp": 25, "submission": 587, "pop3s": 995}
DRAIN = 30.0  # seconds that sessions get at a stop, as process.drain


@dataclass(frozen=True, slots=True)
class Plan:
    """What a server is. `accounts`: address and password. `settings`: sections of posthouse.toml."""

    name: str
    domain: str
    address: str
    accounts: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hostname(self) -> str:
        return f"mail.{self.domain}"


class Station:
    def __init__(
        self, plan: Plan, folder: Path, loop: WorldLoop, *, network: Network, dns: WorldDns, seed: str
    ) -> None:
        self.plan = plan
        self.starts = 0
        self._folder = folder
        self._loop = loop
        self._network = network
        self._dns = dns
        self._seed = seed
        self._life: Life | None = None
        self._server: Server | None = None
        dns.add_host(plan.hostname, plan.address)
        dns.add_mx(plan.domain, plan.hostname)

    @property
    def is_up(self) -> bool:
        return self._server is not None

    @property
    def house(self) -> House:
        assert self._server is not None, f"{self.plan.name} is down"
        return self._server.house

    async def start(self) -> None:
        """At the first time with its domain and accounts. Returns when it serves."""
        assert self._life is None, f"{self.plan.name} is up"
        self.starts += 1
        life = self._life = Life(self.plan.name, self.plan.address)
        machine = world_machine(life, self._loop, self._dns, f"{self._seed}/{self.plan.name}/{self.starts}")
        self._server = await self.inside(self._start(machine))

    async def _start(self, machine: Machine) -> Server:
        plan = self.plan
        house = open_house(self._folder, self._settings(), machine)
        if self.starts == 1:
            await house.administration.add_domain(plan.domain)
            for address, password in plan.accounts.items():
                await house.administration.add_account(address, password)
        endpoints = {name: [(plan.address, port)] for name, port in PORTS.items()}
        server = Server(house, endpoints, WorldTlsUpgrader(Certificate((plan.hostname,))))
        await server.start()
        return server

    def _settings(self) -> Settings:
        listen = {name: [f"{self.plan.address}:{port}"] for name, port in PORTS.items()}
        return from_table({"hostname": self.plan.hostname, "listen": listen, **self.plan.settings}, self.plan.name)

    async def stop(self) -> list[str]:
        """As by SIGTERM. Returns what it left behind, which should be nothing."""
        server, life = self._server, self._life
        assert server is not None
        assert life is not None
        self._server = None
        await self.inside(server.stop(DRAIN))
        left = [f"{self.plan.name}: left running after the stop: {task.get_coro()}" for task in life.tasks]
        self.crash()
        return left

    def crash(self) -> None:
        """As by kill -9, at whatever it was doing."""
        life, self._life, self._server = self._life, None, None
        if life is not None:
            self._loop.end(life)
            self._network.end(life)

    async def inside(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something as this server's own code."""
        assert self._life is not None
        return await self._loop.create_task(work, context=self._life.context)

    async def findings(self) -> list[str]:
        """What a check of the whole store finds wrong."""
        return await self.inside(self._findings())

    async def _findings(self) -> list[str]:
        house = self.house
        checkup = Checkup(
            house.database,
            house.blobs,
            house.resolver,
            house.workers,
            hostname=self.plan.hostname,
            local_checks=[],
        )
        try:
            found = await checkup.store()
        except StoreFault as fault:
            return [f"{self.plan.name}: {fault}"]
        return [f"{self.plan.name}: {each.text}" for each in found if each.level != "ok"]
