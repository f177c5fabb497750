# SPDX-License-Identifier: Apache-2.0
"""What was found out about letters, written down for the next time while nobody waits.

Invariant: nothing depends on it: what could not be kept is found out again.
"""

from __future__ import annotations

import asyncio
from functools import partial

from posthouse.ports import Database, StoreFault, Transaction
from posthouse.store import reading
from posthouse.telemetry import logger

_log = logger("mailbox")

# Of either kind; then whoever finds more waits for what is being written. A structure has some hundred octets.
MAX_WAITING = 2_000

Structures = list[tuple[int, bytes]]  # email, packed
Previews = list[tuple[int, str]]


class Keeper:
    """One unit of work at a time, each with all that has come in meanwhile."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._structures: Structures = []
        self._previews: Previews = []
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, structures: Structures, previews: Previews) -> None:
        if not structures and not previews:
            return
        self._structures += structures
        self._previews += previews
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        elif len(self._structures) > MAX_WAITING or len(self._previews) > MAX_WAITING:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        try:
            while self._structures or self._previews:
                structures, self._structures = self._structures, []
                previews, self._previews = self._previews, []
                await self._database.write(partial(_keep, structures=structures, previews=previews))
        except StoreFault as fault:
            self._structures, self._previews = [], []
            _log.warning("structures not kept", reason=str(fault))
        finally:
            self._writing = None

    async def close(self) -> None:
        """What is on its way is written."""
        if self._writing is not None:
            await asyncio.wait([self._writing])


def _keep(tx: Transaction, structures: Structures, previews: Previews) -> None:
    if structures:
        reading.keep_structures(tx, structures)
    if previews:
        reading.keep_previews(tx, previews)
