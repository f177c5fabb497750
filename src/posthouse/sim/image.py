# SPDX-License-Identifier: Apache-2.0
"""What a disk may hold after a power cut: built from the log of what was done to it, by the rules of file systems.

Invariant: what was synced is there; of the rest each piece is there, not there, or torn, by chance.

Two rules, of which a program has to survive both:

- JOURNAL, as ext4 with data=ordered: changes of names happen in their order or not at all, and syncing a file that is
  new or has grown brings all earlier ones along; a file is never longer than what of it was written.
- POSIX, which promises nothing but fsync: each change of a name counts only once its folder is synced and may
  otherwise happen or not, on its own (a renaming is atomic); size and data of a file are independent, and a block
  that was allotted but never written holds zeros or what lay on the disk before.

Data that was overwritten in place may be old, new, or anything in between, per block of 512 or 4096 octets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random

from posthouse.sim.disklog import (
    ROOT,
    Created,
    Entry,
    FolderSynced,
    MadeFolder,
    NameChange,
    Noted,
    Renamed,
    Synced,
    SyncFailed,
    Truncated,
    Unlinked,
    Written,
)

PAGE = 4096  # what a kernel keeps and writes back as one
# What a disk writes as one: an old sector, and a modern one or a page of the kernel's.
BLOCKS = (512, 4096)
FILE_MODE = 0o600
FOLDER_MODE = 0o700

Change = Written | Truncated


class Rule(StrEnum):
    JOURNAL = "journal"
    POSIX = "posix"


@dataclass(frozen=True, slots=True)
class Luck:
    """How a cut treats what was not synced. `kept`: the share that is there; exactly 0 and 1 mean none and all."""

    chance: Random
    kept: float
    block: int
    has_stale_octets: bool = False

    @classmethod
    def drawn(cls, chance: Random) -> Luck:
        """The extremes are the commonest of all: a third of the cuts keeps nothing or everything."""
        kind = chance.random()
        kept = 0.0 if kind < 1 / 6 else 1.0 if kind < 1 / 3 else chance.random()
        return cls(chance, kept, chance.choice(BLOCKS), has_stale_octets=chance.random() < 0.5)

    def keeps(self) -> bool:
        return self.chance.random() < self.kept

    def version(self, least: int, last: int) -> int:
        """How many of the changes of a block have reached the disk."""
        if self.kept == 0.0:
            return least
        return last if self.keeps() else self.chance.randint(least, last)


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)  # not synced yet
    doubtful: int = 0  # how many of them a failed sync may have dropped
    is_new: bool = True  # no journal has it yet

    @property
    def has_grown(self) -> bool:
        size = len(self.durable)
        return any(end_of(change) > size for change in self.changes)


def end_of(change: Change) -> int:
    return change.offset + len(change.octets) if isinstance(change, Written) else change.size


def apply(octets: bytearray, change: Change) -> None:
    """Do to the octets what the change says."""
    end = end_of(change)
    if isinstance(change, Written):
        if change.offset > len(octets):
            octets.extend(bytes(change.offset - len(octets)))
        octets[change.offset : end] = change.octets
    elif end < len(octets):
        del octets[end:]
    else:
        octets.extend(bytes(end - len(octets)))


@dataclass(slots=True)
class Image:
    """Paths relative to the data directory; folders with their parents before them."""

    folders: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def write(self, target: Path) -> None:
        target.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        for name in self.folders:
            (target / name).mkdir(FOLDER_MODE)
        for name, octets in self.files.items():
            path = target / name
            path.touch(FILE_MODE)
            path.write_bytes(octets)


class DiskState:
    """The disk at one point of a log: what is durable, and what only the kernel knows."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._files: dict[int, _File] = {}
        self._folders: dict[int, dict[str, int]] = {ROOT: {}}  # durable names
        self._names: list[NameChange] = []  # changes of names that are not durable yet, in order

    # --- along the log ----------------------------------------------------------------------------

    def apply(self, entry: Entry) -> None:
        match entry:
            case Written() | Truncated():
                self._files[entry.file].changes.append(entry)
            case Synced(file):
                self._sync(self._files[file])
            case SyncFailed(file):
                self._files[file].doubtful = len(self._files[file].changes)
            case FolderSynced(folder):
                self._sync_folder(folder)
            case Created():
                self._files[entry.file] = _File()
                self._names.append(entry)
            case MadeFolder():
                self._folders[entry.made] = {}
                self._names.append(entry)
            case Renamed() | Unlinked():
                self._names.append(entry)
            case Noted():
                pass

    def adopt(self, file: int, folder: int, name: str, octets: bytes) -> None:
        """A file that was durable before the log began."""
        self._files[file] = _File(bytearray(octets), is_new=False)
        self._folders[folder][name] = file

    def adopt_folder(self, made: int, folder: int, name: str) -> None:
        self._folders[made] = {}
        self._folders[folder][name] = made

    def _sync(self, file: _File) -> None:
        if self.rule is Rule.JOURNAL and (file.is_new or file.has_grown):
            self._commit_journal()
        file.is_new = False
        if file.doubtful:
            _sync_after_failure(file)
            return
        for change in file.changes:
            apply(file.durable, change)
        file.changes.clear()

    def _sync_folder(self, folder: int) -> None:
        if self.rule is Rule.JOURNAL:
            self._commit_journal()
            return
        left: list[NameChange] = []
        for change in self._names:
            match change:
                case Renamed(old, _, new, _) if old != new and folder in (old, new):
                    left += self._half_renamed(change, folder)
                case Renamed(_, _, here, _) | Created(here, _, _) | MadeFolder(here, _, _) | Unlinked(here, _):
                    if here == folder:
                        self._settle_names([change])
                    else:
                        left.append(change)
        self._names = left

    def _commit_journal(self) -> None:
        """All changes of names so far. What it knows of a file already, the file's next sync does not write again."""
        self._settle_names(self._names)
        for change in self._names:
            if isinstance(change, Created):
                self._files[change.file].is_new = False
        self._names = []

    def _half_renamed(self, change: Renamed, folder: int) -> list[NameChange]:
        """Between two folders: the one that is synced shows it, the other does so when it is synced too."""
        number = self._folders[change.old_folder].get(change.old_name)
        if number is None:
            return [change]  # its old name is not durable itself
        if folder == change.new_folder:
            self._folders[folder][change.new_name] = number
            return [Unlinked(change.old_folder, change.old_name)]
        self._folders[folder].pop(change.old_name)
        return [Created(change.new_folder, change.new_name, number)]

    def _settle_names(self, changes: list[NameChange]) -> None:
        for change in changes:
            change_names(self._folders, change)

    # --- at a cut ---------------------------------------------------------------------------------

    def image(self, luck: Luck) -> Image:
        """What is found after a cut at this point."""
        folders = {number: dict(names) for number, names in self._folders.items()}
        for change in self._surviving_names(luck):
            change_names(folders, change)
        image = Image()
        for path, number in _walk(folders, ROOT, ""):
            if number in folders:
                image.folders.append(path)
            else:
                image.files[path] = self._content(self._files[number], luck)
        return image

    def _surviving_names(self, luck: Luck) -> list[NameChange]:
        if self.rule is Rule.JOURNAL:
            return self._names[: luck.version(0, len(self._names))]
        return [change for change in self._names if luck.keeps()]

    def _content(self, file: _File, luck: Luck) -> bytes:
        if not file.changes:
            return bytes(file.durable)
        return _Torn(file, luck).octets(self.rule)


def change_names(folders: dict[int, dict[str, int]], change: NameChange) -> None:
    """Do it where it makes sense; what its own folder or name has lost is lost with them."""
    match change:
        case Created(folder, name, number) | MadeFolder(folder, name, number):
            folders[folder][name] = number
        case Unlinked(folder, name):
            folders[folder].pop(name, None)
        case Renamed(old_folder, old_name, new_folder, new_name):
            moved = folders[old_folder].pop(old_name, None)
            if moved is not None:
                folders[new_folder][new_name] = moved


def _walk(folders: dict[int, dict[str, int]], folder: int, prefix: str) -> Iterator[tuple[str, int]]:
    for name, number in sorted(folders[folder].items()):
        yield prefix + name, number
        if number in folders:
            yield from _walk(folders, number, f"{prefix}{name}/")


def _sync_after_failure(file: _File) -> None:
    """Pages that were written again since are durable now; of the others the failed sync may have been the last."""
    octets = bytearray(file.durable)
    for change in file.changes:
        apply(octets, change)
    again = {page for change in file.changes[file.doubtful :] for page in _blocks(change, len(octets), PAGE)}
    doubtful = {page for change in file.changes[: file.doubtful] for page in _blocks(change, len(octets), PAGE)} - again
    old = bytes(file.durable)
    file.durable = octets
    file.changes = []
    for page in sorted(doubtful):
        start = page * PAGE
        new = bytes(octets[start : start + PAGE])
        octets[start : start + len(new)] = old[start : start + PAGE].ljust(len(new), b"\0")[: len(new)]
        if new:
            file.changes.append(Written(0, start, new))
    file.doubtful = len(file.changes)


def _blocks(change: Change, longest: int, block: int) -> range:
    """The blocks that a change touches; a new size touches all behind it."""
    start, end = (change.offset, end_of(change)) if isinstance(change, Written) else (change.size, longest)
    return range(start // block, -(-end // block))


class _Torn:
    """One file with unsynced changes, at a cut."""

    def __init__(self, file: _File, luck: Luck) -> None:
        self._durable = file.durable
        self._changes = file.changes
        self._luck = luck
        self._sizes = [len(file.durable)]  # after so many changes
        for change in file.changes:
            size = self._sizes[-1]
            self._sizes.append(max(size, end_of(change)) if isinstance(change, Written) else change.size)

    def octets(self, rule: Rule) -> bytes:
        luck = self._luck
        reached = luck.version(0, len(self._changes))  # of the changes, as far as the file's size knows
        size = self._sizes[reached]
        if reached < len(self._changes) and self._sizes[reached + 1] > size and luck.kept not in (0.0, 1.0):
            # The next one may have made the file longer by some of its blocks.
            last = self._sizes[reached + 1]
            size = min(last, (luck.chance.randint(size, last) // luck.block) * luck.block) if luck.keeps() else size
            size = max(size, self._sizes[reached])
        found = bytearray(self._durable[:size])
        found.extend(bytes(size - len(found)))
        known = reached if size == self._sizes[reached] else reached + 1
        for block, numbers in self._touched(size).items():
            if rule is Rule.POSIX:
                least, last = 0, len(numbers)
            else:
                least, last = self._ordered(block, numbers, known)
            self._fill(found, block, numbers[:last], least)
        return bytes(found)

    def _touched(self, size: int) -> dict[int, list[int]]:
        """Blocks within the size: by which of the changes."""
        longest = max(self._sizes)
        touched: dict[int, list[int]] = {}
        for number, change in enumerate(self._changes):
            for block in _blocks(change, longest, self._luck.block):
                if block * self._luck.block < size:
                    touched.setdefault(block, []).append(number)
        return touched

    def _ordered(self, block: int, numbers: list[int], known: int) -> tuple[int, int]:
        """How many of its changes a block must and may show, by a journal that knows the file's size after `known`.

        Where it lets a file grow, the data came first; what it has not let a cutting set free is not overwritten.
        """
        is_behind = (block + 1) * self._luck.block > min(self._sizes)
        least = sum(1 for number in numbers if number < known) if is_behind else 0
        cut = next((n for n in range(known, len(self._changes)) if isinstance(self._changes[n], Truncated)), None)
        last = len(numbers) if cut is None else sum(1 for number in numbers if number < cut)
        return least, max(least, last)

    def _fill(self, found: bytearray, block: int, numbers: list[int], least: int) -> None:
        luck = self._luck
        start = block * luck.block
        end = min(start + luck.block, len(found))
        reached = luck.version(least, len(numbers))
        if reached == 0:
            if start >= len(self._durable) and luck.has_stale_octets and luck.kept != 0.0:
                found[start:end] = luck.chance.randbytes(end - start)
            return
        piece = bytearray(self._durable[start : start + luck.block])
        piece.extend(bytes(luck.block - len(piece)))
        for number in numbers[:reached]:
            change = self._changes[number]
            if isinstance(change, Truncated):
                behind = max(change.size - start, 0)
                piece[behind:] = bytes(luck.block - behind)
                continue
            first = max(change.offset, start)
            last = min(end_of(change), start + luck.block)
            piece[first - start : last - start] = change.octets[first - change.offset : last - change.offset]
        found[start:end] = piece[: end - start]
