# SPDX-License-Identifier: Apache-2.0
"""Stores letters without end and says on standard output which ones were acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import os
import sys
from hashlib import sha256
from pathlib import Path

from posthouse.net.clock import SystemClock, SystemEntropy
from posthouse.net.disk import PosixDisk
from posthouse.net.workers import ThreadWorkers
from posthouse.ports import Content
from posthouse.store.databases.sqlite import open_sqlite
from posthouse.store.settings import StoreSettings

from .machine import keep, keep_content, migrations

WRITERS = 20
SPOOLED_EVERY = 25
# Small packs, so that a kill meets the beginning of one too.
SETTINGS = StoreSettings(seal_octets=400_000, reserve_octets=0)


def letter(writer: int, turn: int, run: str) -> bytes:
    size = 300_000 if turn % SPOOLED_EVERY == 0 else 200 + writer * 500
    return (b"%s %d %d " % (run.encode(), writer, turn)).ljust(size, b".")


async def main(folder: Path, run: str) -> None:
    database, packs = open_sqlite(
        folder,
        PosixDisk(),
        ThreadWorkers(),
        SystemClock(),
        SystemEntropy(),
        settings=SETTINGS,
        migrations=migrations(),
    )

    async def write(writer: int) -> None:
        turn = writer
        while True:
            turn += 1
            octets = letter(writer, turn, run)
            if turn % SPOOLED_EVERY == 0:
                spool = packs.spool()
                await spool.write(octets)
                sealed = Content(len(octets), sha256(octets).digest(), sealed=await spool.seal())
                number = await database.write(keep_content(sealed))
            else:
                number = await database.write(keep(octets))
            os.write(1, b"%d %d %d\n" % (number, writer, turn))

    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
