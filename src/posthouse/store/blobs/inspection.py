# SPDX-License-Identifier: Apache-2.0
"""A pack opened to be looked through whatever the disk did to it: a lost header, sectors that cannot be read.

Invariant: everything is read once before it is mapped, because a sector that cannot be read ends a process that meets
it through a map, and is only an error for one that reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from posthouse.ports import DamagedContent, Disk
from posthouse.store.blobs.record import DamagedPack, PackHeader, read_pack_header, rescue_header
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.faults import disk_fault

PROBED_AT_ONCE = 4 * 1024 * 1024  # octets of one read: some milliseconds on any disk
BLOCK = 4096  # what a disk loses at a time; around a fault it is read in such pieces, the lost ones count as zeros


@dataclass(frozen=True, slots=True)
class OpenedPack:
    """`header_fault`: why the header was taken from the records instead; `is_another`: because another pack has got
    this one's name. `unreadable`: (start, end) of what the disk does not give; there `view` holds zeros."""

    number: int
    header: PackHeader
    view: memoryview
    header_fault: str = ""
    unreadable: tuple[tuple[int, int], ...] = ()
    is_another: bool = False


def open_pack(shelf: Shelf, number: int) -> OpenedPack:
    """Blocks. Raises StoreFault: DamagedContent where no record can be found in it at all."""
    unreadable: list[tuple[int, int]] = []
    shelf.map(number)
    try:
        view = view_of(shelf.disk, shelf.path(number), unreadable)
    except OSError as error:
        raise disk_fault(f"pack {number} went away while it was read", error) from error
    fault, is_another = "", False
    try:
        header = read_pack_header(view)
        if header.number != number:
            is_another = True
            raise DamagedPack(f"the file holds pack {header.number}")
    except DamagedPack as damage:
        fault = str(damage)
        try:
            header = rescue_header(view, number)
        except DamagedPack as hopeless:
            raise DamagedContent(f"pack {number}: {hopeless}") from None
    return OpenedPack(number, header, view, fault, tuple(unreadable), is_another)


def view_of(
    disk: Disk, path: Path, unreadable: list[tuple[int, int]], start: int = 0, end: int | None = None
) -> memoryview:
    """A file's octets; those from `start` to `end` may be looked at whatever the disk does.

    `unreadable` gets what it does not give, and there are zeros. Blocks. Raises OSError.
    """
    view = disk.map(path)
    try:
        for place in range(start, len(view) if end is None else min(end, len(view)), PROBED_AT_ONCE):
            disk.read(path, place, PROBED_AT_ONCE)
    except FileNotFoundError:
        raise
    except OSError:
        return _image(disk, path, len(view), unreadable)
    return view


def _image(disk: Disk, path: Path, size: int, unreadable: list[tuple[int, int]]) -> memoryview:
    """The file in memory (as large as it is: rare, and one at a time), zeros where the disk gives nothing."""
    image = bytearray(size)
    start = 0
    while start < size:
        try:
            octets = disk.read(path, start, BLOCK)
        except FileNotFoundError:
            raise
        except OSError:
            end = min(start + BLOCK, size)
            if unreadable and unreadable[-1][1] == start:
                unreadable[-1] = (unreadable[-1][0], end)
            else:
                unreadable.append((start, end))
            start = end
            continue
        if not octets:
            break
        image[start : start + len(octets)] = octets
        start += len(octets)
    return memoryview(bytes(image))
