# SPDX-License-Identifier: Apache-2.0
"""What a program does to its disk, as one ordered list of entries; and the tree of names that they speak of.

Invariant: an entry names files and folders by number, never by path, so it means the same after any renaming. The
folder with number 0 is the data directory itself, which is there, durably, before anything begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = 0


@dataclass(frozen=True, slots=True)
class Created:
    """A new name for a new, empty file."""

    folder: int
    name: str
    file: int


@dataclass(frozen=True, slots=True)
class MadeFolder:
    folder: int
    name: str
    made: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """What had the new name, if anything, has lost it."""

    old_folder: int
    old_name: str
    new_folder: int
    new_name: str


@dataclass(frozen=True, slots=True)
class Unlinked:
    folder: int
    name: str


@dataclass(frozen=True, slots=True)
class FolderSynced:
    folder: int


@dataclass(frozen=True, slots=True)
class Written:
    file: int
    offset: int
    octets: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    """Cut, or made longer with zeros."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """fsync or fdatasync of a file came back without an error."""

    file: int


@dataclass(frozen=True, slots=True)
class SyncFailed:
    """It came back with one: what was unsynced may be lost although later syncs succeed (docs/adr, "fsyncgate")."""

    file: int


@dataclass(frozen=True, slots=True)
class Noted:
    """Nothing that the disk does: something that was promised or seen at this point (see sim/promises.py)."""

    what: Any


NameChange = Created | MadeFolder | Renamed | Unlinked
Entry = NameChange | FolderSynced | Written | Truncated | Synced | SyncFailed | Noted


class Tree:
    """Which file or folder has which name now. Numbers are given once and never again."""

    def __init__(self) -> None:
        self._last = ROOT
        self._folders: dict[int, dict[str, int]] = {ROOT: {}}

    def new_number(self) -> int:
        self._last += 1
        return self._last

    def place(self, parts: Sequence[str]) -> tuple[int, str]:
        """The folder and the name that a relative path ends in. Raises FileNotFoundError."""
        *folders, name = parts
        return self.folder(folders), name

    def folder(self, parts: Sequence[str]) -> int:
        here = ROOT
        for part in parts:
            try:
                here = self._folders[here][part]
            except KeyError:
                raise FileNotFoundError(str(Path(*parts))) from None
        return here

    def look(self, folder: int, name: str) -> int | None:
        return self._folders[folder].get(name)

    def apply(self, change: NameChange) -> None:
        match change:
            case Created(folder, name, number):
                self._folders[folder][name] = number
            case MadeFolder(folder, name, number):
                self._folders[folder][name] = number
                self._folders[number] = {}
            case Renamed(old_folder, old_name, new_folder, new_name):
                self._folders[new_folder][new_name] = self._folders[old_folder].pop(old_name)
            case Unlinked(folder, name):
                del self._folders[folder][name]
