# SPDX-License-Identifier: Apache-2.0
"""BlobStore on the data directory's packs. Invariant: a view given out stays valid whatever happens to the file.

Content comes in through `Transaction.append` (store/blobs/appender.py) or a spool; here it is read. Packs are
mapped, a view is a slice of the map, and the map lives as long as any view of it.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial

from posthouse.ports import BlobLocation, Spool, StoreFault, Workers
from posthouse.store.blobs.record import Damage, DamagedPack, Record, read_pack_header, scan
from posthouse.store.blobs.recovery import Recovery
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.blobs.spool import PackSpool

# A map costs address space and a file descriptor, no memory of its own. 64 packs of 128 MiB are 8 GiB of the
# most recently read mail, and a quarter of the 256 descriptors that the most modest systems allow.
MAX_MAPS = 64


class PackStore:
    """Content by location, on one machine."""

    def __init__(self, shelf: Shelf, workers: Workers, recovery: Recovery | None = None) -> None:
        self._shelf = shelf
        self._workers = workers
        self._maps: OrderedDict[int, memoryview] = OrderedDict()
        self.recovery = recovery or Recovery()

    async def open(self, location: BlobLocation) -> memoryview:
        number, end = location.pack, location.offset + location.length
        view = self._maps.get(number)
        if view is None or len(view) < end:  # not mapped, or it has grown since
            view = await self._workers.run(partial(self._shelf.map, number), pool="disk")
            if len(view) < end:
                raise StoreFault(f"pack {number} is short: {len(view)} octets, {end} are wanted")
            self._maps[number] = view
            if len(self._maps) > MAX_MAPS:
                self._maps.popitem(last=False)
        self._maps.move_to_end(number)
        return view[location.offset : end]

    def spool(self) -> Spool:
        return PackSpool(self._shelf, self._workers)

    def has_room(self) -> bool:
        """Whether content is taken in at present (a system call; ask it once per letter, not per chunk)."""
        return self._shelf.has_room()

    def numbers(self) -> list[int]:
        """Every pack there is, oldest first. Blocks: call it in a worker."""
        return self._shelf.numbers()

    def records(self, number: int, *, is_checked: bool = True) -> Iterator[Record | Damage]:
        """Everything in one pack, for checks and rebuilding. Blocks: call it in a worker. Raises StoreFault."""
        view = self._shelf.map(number)
        try:
            header = read_pack_header(view)
        except DamagedPack as damage:
            raise StoreFault(f"pack {number}: {damage}") from damage
        return scan(view, header, is_checked=is_checked)

    async def remove(self, number: int) -> None:
        """Remove a pack's file, after the unit that called `ledger.forget_pack` is committed.

        Views already given out stay valid. Should the machine stop in between, the next start removes it.
        """
        self._maps.pop(number, None)
        with contextlib.suppress(OSError):
            await self._workers.run(partial(self._shelf.disk.unlink, self._shelf.path(number)), pool="disk")

    async def close(self) -> None:
        self._maps.clear()
