# SPDX-License-Identifier: Apache-2.0
"""A pack opened to be looked through whatever the disk did to it: a lost header, sectors that cannot be read.

Invariant: everything is read once before it is mapped, because a sector that cannot be read ends a process that meets
it through a map, and is only an error for one that reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.ports import DamagedContent
from posthouse.store.blobs.record import DamagedPack, PackHeader, read_pack_header, rescue_header
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.faults import disk_fault

PROBED_AT_ONCE = 4 * 1024 * 1024  # octets of one read: some milliseconds on any disk
BLOCK = 4096  # what a disk loses at a time; around a fault it is read in such pieces, the lost ones count as zeros


@dataclass(frozen=True, slots=True)
class OpenedPack:
    """`header_fault`: why the header was taken from the records instead; `is_another`: because the file is that of another
    pack under this one's name. `unreadable`: (start, end) of what the disk
    does not give; there `view` holds zeros."""

    number: int
    header: PackHeader
    view: memoryview
    header_fault: str = ""
    unreadable: tuple[tuple[int, int], ...] = ()
    is_another: bool = False


def open_pack(shelf: Shelf, number: int) -> OpenedPack:
    """Blocks. Raises StoreFault: DamagedContent where no record can be found in it at all."""
    unreadable: list[tuple[int, int]] = []
    view = shelf.map(number)
    try:
        _probe(shelf, number, len(view))
    except OSError:
        view = _image(shelf, number, len(view), unreadable)
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


def _probe(shelf: Shelf, number: int, size: int) -> None:
    """Read everything, keep nothing. Raises OSError."""
    path = shelf.path(number)
    for start in range(0, size, PROBED_AT_ONCE):
        shelf.disk.read(path, start, PROBED_AT_ONCE)


def _image(shelf: Shelf, number: int, size: int, unreadable: list[tuple[int, int]]) -> memoryview:
    """The pack in memory (as large as it is: rare, and one at a time), zeros where the disk gives nothing."""
    path, image = shelf.path(number), bytearray(size)
    start = 0
    try:
        while start < size:
            try:
                octets = shelf.disk.read(path, start, BLOCK)
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
    except FileNotFoundError as error:
        raise disk_fault(f"pack {number} went away while it was read", error) from error
    return memoryview(bytes(image))
