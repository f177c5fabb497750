# SPDX-License-Identifier: Apache-2.0
"""Data folders of servers as they are right after their founding: made once in a process, copied for every world.

Invariant: a foundation depends on its plan alone, so a world is a function of its seed whether or not the process
has made that foundation before.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from posthouse.sim.dns import WorldDns
from posthouse.sim.logs import recording
from posthouse.sim.loop import WorldLoop
from posthouse.sim.network import Network
from posthouse.sim.plan import Plan
from posthouse.sim.station import Station

SEED = "founding"  # of chance in a foundation: salts and keys are the same in every world


class Foundations:
    """`folder` outlives the worlds that copy from it, and is the place for their own folders too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, Path] = {}

    def prepare(self, plans: Sequence[Plan]) -> None:
        """Call it while no world runs: founding takes place on a clock of its own."""
        for plan in plans:
            if _key(plan) not in self._made and not plan.records_disk:
                self._made[_key(plan)] = self._found(plan, self.folder / str(len(self._made)))

    def copy(self, plan: Plan, folder: Path) -> bool:
        """Make `folder` with the data of a server that was founded; False where that plan was not prepared."""
        made = self._made.get(_key(plan))
        if made is None or plan.records_disk:
            return False
        shutil.copytree(made, folder, copy_function=shutil.copyfile)
        return True

    @staticmethod
    def _found(plan: Plan, folder: Path) -> Path:
        folder.mkdir()
        loop = WorldLoop()  # type: ignore[abstract]  # what it lacks nobody in the house asks for
        network = loop.network = Network(loop, SEED)
        station = Station(plan, folder, loop, network=network, dns=WorldDns(), seed=SEED)
        with recording(lambda _method, _event: None):
            try:
                loop.run(station.found())
            finally:
                station.crash()
                loop.close()
        return folder


def _key(plan: Plan) -> str:
    leads = sorted({**plan.aliases, **plan.forwards}.items())
    return f"{plan.hostname} {sorted(plan.accounts.items())} {leads} {plan.clerk}"
