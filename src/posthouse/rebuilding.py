# SPDX-License-Identifier: Apache-2.0
"""`posthouse rebuild`: the database lost or broken beyond repair is made again, and what is unknown is said.

Invariant: it runs under DIR/lock, and nothing is changed before the administrator has seen what will happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posthouse import config, telemetry
from posthouse.access import LOG_LEVEL, as_owner
from posthouse.app import open_house
from posthouse.composing.ground import SECRET_FILE, real_machine
from posthouse.config import Settings
from posthouse.edges.cli.backend import Stop
from posthouse.net.lock import DirectoryLock
from posthouse.store.databases.sqlite import PACK_FOLDER
from posthouse.store.databases.sqlite_rebuild import Rebuilder

Confirm = Callable[[Mapping[str, Any]], bool]


def rebuild(folder: Path, confirm: Confirm, tell: Callable[[str], None]) -> Mapping[str, Any]:
    """What was done, as Rebuilt has it, with `new_keys`: domains that got new DKIM keys. `confirm` is shown the plan.

    Raises Stop, ConfigError, StoreFault, DirectoryInUse, OSError.
    """
    telemetry.configure(as_json=False, level=LOG_LEVEL)
    settings = config.load(folder)
    with as_owner(folder):
        lock = DirectoryLock(folder)
        try:
            return _rebuild(folder, settings, confirm, tell)
        finally:
            lock.release()


def _rebuild(folder: Path, settings: Settings, confirm: Confirm, tell: Callable[[str], None]) -> Mapping[str, Any]:
    machine = real_machine()
    builder = Rebuilder(folder, machine.disk, machine.clock, machine.entropy, hostname=settings.hostname)
    snapshot = builder.choose()
    packs = len([name for name in machine.disk.names(folder / PACK_FOLDER) if name.endswith(".pack")])
    if snapshot is None and not packs:
        raise Stop(f"{folder} has neither a sound snapshot nor packs: there is nothing to build from; restore a backup")
    plan = {
        "old": builder.state_of_old(),
        "snapshot": "" if snapshot is None else snapshot.name,
        "packs": packs,
        "has_secrets": (folder / SECRET_FILE).exists(),
    }
    if not confirm(plan):
        raise Stop("nothing was changed")
    done = asdict(builder.run(tell))
    done["new_keys"] = [] if done["snapshot"] else asyncio.run(_renew_keys(folder, settings))
    return done


async def _renew_keys(folder: Path, settings: Settings) -> list[str]:
    """Domains made from the notes have no keys: without them what they send is not signed."""
    house = open_house(folder, settings, real_machine())
    try:
        return await house.administration.make_missing_keys()
    finally:
        await house.close()
