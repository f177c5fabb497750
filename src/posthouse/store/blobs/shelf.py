# SPDX-License-Identifier: Apache-2.0
"""The folder of packs: names, new files, free space. Invariant: a name in it is durable before anyone refers to it.

`NNN.pack` is a pack; `NNN.part` a spooled one while it arrives; `lineage` says which database they belong to.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from posthouse.ports import AppendFile, DamagedContent, Disk, Entropy, StoreFault
from posthouse.store.blobs.record import MARK_SIZE, PackHeader, PackKind, pack_header
from posthouse.store.faults import disk_fault
from posthouse.store.numbers import Numbers
from posthouse.store.settings import StoreSettings

PACK_SUFFIX = ".pack"
PART_SUFFIX = ".part"
LINEAGE = "lineage"
# 15 digits of milliseconds last until the year 33658; leading zeros make names sort by number.
NAME_DIGITS = 15
_NAME = re.compile(rf"([0-9]{{{NAME_DIGITS}}}){re.escape(PACK_SUFFIX)}")


class Shelf:
    """Where packs stand. `loose` holds the sealed spooled packs that no unit has referred to yet, `doubtful` those
    of units whose COMMIT failed: it may have been done all the same, so their files stay until the next start."""

    __slots__ = ("_entropy", "counters", "disk", "doubtful", "folder", "loose", "settings")

    def __init__(self, folder: Path, disk: Disk, numbers: Numbers, entropy: Entropy, settings: StoreSettings) -> None:
        self.folder = folder
        self.disk = disk
        self.settings = settings
        self.loose: set[int] = set()
        self.doubtful: set[int] = set()
        self.counters = numbers
        self._entropy = entropy

    @property
    def last_pack(self) -> int:
        return self.counters.last_pack

    def path(self, number: int) -> Path:
        return self.folder / f"{number:0{NAME_DIGITS}d}{PACK_SUFFIX}"

    def part_path(self, number: int) -> Path:
        return self.folder / f"{number:0{NAME_DIGITS}d}{PART_SUFFIX}"

    def numbers(self) -> list[int]:
        """The packs in the folder: what has a name that we give."""
        return [int(match[1]) for name in self.disk.names(self.folder) if (match := _NAME.fullmatch(name))]

    def parts(self) -> list[Path]:
        return [self.folder / name for name in self.disk.names(self.folder) if name.endswith(PART_SUFFIX)]

    def new_header(self, kind: PackKind) -> PackHeader:
        """A new pack's number and mark; nothing is written."""
        number = self.counters.new_pack()
        return PackHeader(kind, number, number / 1000, self._entropy.octets(MARK_SIZE))

    def create(self, path: Path, header: PackHeader) -> AppendFile:
        """A new file with a pack's header, not yet synced. Raises OSError and leaves nothing behind."""
        file = self.disk.append(path)
        try:
            file.write([pack_header(header.kind, header.number, header.created_at, header.mark)])
        except OSError:
            file.close()
            with contextlib.suppress(OSError):
                self.disk.unlink(path)
            raise
        return file

    def map(self, number: int) -> memoryview:
        """Raises StoreFault when the pack is missing or unreadable."""
        try:
            return self.disk.map(self.path(number))
        except FileNotFoundError:
            raise DamagedContent(f"pack {number} is missing") from None
        except OSError as error:
            raise disk_fault(f"pack {number} cannot be read", error) from error

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Octets of a pack, fewer at its end. Raises StoreFault as `map`, and where the disk cannot read them."""
        try:
            return self.disk.read(self.path(number), offset, length)
        except FileNotFoundError:
            raise DamagedContent(f"pack {number} is missing") from None
        except OSError as error:
            raise disk_fault(f"pack {number} cannot be read at {offset}", error) from error

    def check_room(self) -> None:
        """Raises StoreFault when content must not be taken in for want of space."""
        free = self.disk.free_octets(self.folder)
        if free < self.settings.reserve_octets:
            raise StoreFault(
                f"the disk is nearly full: {free} octets free, {self.settings.reserve_octets} are kept in reserve",
                is_full=True,
            )

    def has_room(self) -> bool:
        return self.disk.free_octets(self.folder) >= self.settings.reserve_octets
