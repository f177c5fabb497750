# SPDX-License-Identifier: Apache-2.0
"""BlobStore on the data directory's packs. Invariant: a view given out stays valid whatever happens to the file, and
holds what was put in where its digest is known.

Content comes in through `Transaction.append` (store/blobs/appender.py) or a spool; here it is read. Packs are
mapped, a view is a slice of the map, and the map lives as long as any view of it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial

from posthouse.ports import BlobLocation, DamagedContent, Spool, StoreFault, Workers
from posthouse.store.blobs.inspection import OpenedPack, open_pack
from posthouse.store.blobs.record import Damage, Record, scan
from posthouse.store.blobs.recovery import Recovery
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.blobs.spool import PackSpool

# A map costs address space and a file descriptor, no memory of its own. 64 packs of 128 MiB are 8 GiB of the
# most recently read mail, and a quarter of the 256 descriptors that the most modest systems allow.
MAX_MAPS = 64
# Content that was found whole is not hashed again at every reading (15 µs for 10 KiB, 5 ms for 5 MiB); `check
# --store` makes the server forget. Each entry is some 150 octets, so 10 MB at most.
MAX_CHECKED = 65_536
# Larger content is hashed in a worker: less takes a third of a millisecond, a hand-over a tenth of one.
CHECKED_AT_ONCE = 256 * 1024
# Between letters of a pack stand their notes; what lies further apart is not read with them.
MAX_GAP = 4 * 1024


class PackStore:
    """Content by location, on one machine."""

    def __init__(self, shelf: Shelf, workers: Workers, recovery: Recovery | None = None) -> None:
        self._shelf = shelf
        self._workers = workers
        self._maps: OrderedDict[int, memoryview] = OrderedDict()
        self._checked: OrderedDict[BlobLocation, None] = OrderedDict()
        self.recovery = recovery or Recovery()

    async def open(self, location: BlobLocation) -> memoryview:
        number, end = location.pack, location.offset + location.length
        if location.digest and location not in self._checked:
            if location.length <= CHECKED_AT_ONCE:
                self._check(location)
            else:
                await self._workers.run(partial(self._check, location), pool="disk")
        view = self._maps.get(number)
        if view is None or len(view) < end:  # not mapped, or it has grown since
            view = await self._workers.run(partial(self._shelf.map, number), pool="disk")
            if len(view) < end:
                raise DamagedContent(f"pack {number} is short: {len(view)} octets, {end} are wanted")
            self._maps[number] = view
            if len(self._maps) > MAX_MAPS:
                self._maps.popitem(last=False)
        self._maps.move_to_end(number)
        return view[location.offset : end]

    async def open_all(self, locations: Sequence[BlobLocation]) -> list[memoryview | StoreFault]:
        self._check_runs([each for each in locations if each.digest and each not in self._checked])
        found: list[memoryview | StoreFault] = []
        for location in locations:
            view = self._maps.get(location.pack)
            end = location.offset + location.length
            if view is not None and len(view) >= end and (not location.digest or location in self._checked):
                found.append(view[location.offset : end])
                continue
            try:
                found.append(await self.open(location))
            except StoreFault as fault:
                found.append(fault)
        return found

    def _check_runs(self, locations: Sequence[BlobLocation]) -> None:
        """What lies side by side is read in one piece. Of what is not found whole nothing is said yet."""
        for run in _runs(locations):
            start = run[0].offset
            try:
                octets = memoryview(self._shelf.read(run[0].pack, start, run[-1].offset + run[-1].length - start))
            except StoreFault:
                continue
            for each in run:
                here = octets[each.offset - start : each.offset - start + each.length]
                if hashlib.sha256(here).digest() == each.digest:
                    self._note(each)

    async def beginning(self, location: BlobLocation, octets: int) -> bytes:
        if octets > location.length or octets > CHECKED_AT_ONCE:
            return bytes((await self.open(location))[:octets])
        found = self._shelf.read(location.pack, location.offset, octets)
        if len(found) < octets:
            raise DamagedContent(f"pack {location.pack} is short: it ends within {location.offset} + {octets}")
        return found

    def _check(self, location: BlobLocation) -> None:
        """Raises DamagedContent, and StoreFault where the disk cannot say. Reads before anybody looks through a map."""
        if not self.is_whole(location):
            raise DamagedContent(f"content in pack {location.pack} at {location.offset} is not what was stored")
        self._note(location)

    def _note(self, location: BlobLocation) -> None:
        self._checked[location] = None
        if len(self._checked) > MAX_CHECKED:
            with contextlib.suppress(KeyError):  # another worker may have emptied it
                self._checked.popitem(last=False)

    def is_whole(self, location: BlobLocation) -> bool:
        """Whether what lies there has the location's digest. Blocks. Raises StoreFault: the pack is missing, or cannot
        be read there."""
        digest, position = hashlib.sha256(), location.offset
        end = position + location.length
        while position < end:
            octets = self._shelf.read(location.pack, position, min(CHECKED_AT_ONCE, end - position))
            if not octets:
                return False
            digest.update(octets)
            position += len(octets)
        return digest.digest() == location.digest

    def read(self, location: BlobLocation) -> bytes:
        """What lies there, whole or not, and as much as there is. Blocks. Raises StoreFault."""
        return self._shelf.read(location.pack, location.offset, location.length)

    def forget_checked(self) -> None:
        """Look again at everything that is opened from now on."""
        self._checked.clear()

    @property
    def shelf(self) -> Shelf:
        """The folder itself, for checks and rebuilding."""
        return self._shelf

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
        pack = self.inspect(number)
        return scan(pack.view, pack.header, is_checked=is_checked)

    def inspect(self, number: int) -> OpenedPack:
        """A pack to look through, its damages in sight. Blocks: it reads all of it. Raises StoreFault when it is
        missing, or nothing in it can be recognised."""
        return open_pack(self._shelf, number)

    async def remove(self, number: int) -> None:
        """Remove a pack's file, after the unit that called `ledger.forget_pack` is committed.

        Views already given out stay valid. Should the machine stop in between, the next start removes it.
        """
        self._maps.pop(number, None)
        with contextlib.suppress(OSError):
            await self._workers.run(partial(self._shelf.disk.unlink, self._shelf.path(number)), pool="disk")

    async def close(self) -> None:
        self._maps.clear()


def _runs(locations: Sequence[BlobLocation]) -> Iterator[list[BlobLocation]]:
    """Neighbours in one pack, no more than CHECKED_AT_ONCE octets of them together; those that stand alone are left
    out."""
    run: list[BlobLocation] = []
    for each in locations:
        if run:
            last = run[-1]
            gap = each.offset - last.offset - last.length
            size = each.offset + each.length - run[0].offset
            if each.pack == last.pack and 0 <= gap <= MAX_GAP and size <= CHECKED_AT_ONCE:
                run.append(each)
                continue
        if len(run) > 1:
            yield run
        run = [each]
    if len(run) > 1:
        yield run
