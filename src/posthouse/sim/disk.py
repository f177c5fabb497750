# SPDX-License-Identifier: Apache-2.0
"""Files of the world: real ones in a temporary folder, for the packs and for SQLite, but never synced.

What a program has written outlives the program, so a crash of a server needs no sync; and a run takes the same
time on every disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import apsw

from posthouse.net.disk import PosixDisk
from posthouse.ports import AppendFile, Buffer

FREE_OCTETS = 100 << 30  # the disk is large, and the real one's filling does not change a run
VFS = "posthouse-sim"


class _UnsyncedFile:
    """An AppendFile whose `sync` does nothing."""

    __slots__ = ("_file",)

    def __init__(self, file: AppendFile) -> None:
        self._file = file

    @property
    def size(self) -> int:
        return self._file.size

    @size.setter
    def size(self, size: int) -> None:
        self._file.size = size

    def write(self, buffers: Sequence[Buffer]) -> None:
        self._file.write(buffers)

    def sync(self) -> None:
        pass

    def truncate(self, size: int) -> None:
        self._file.truncate(size)

    def close(self) -> None:
        self._file.close()


class WorldDisk(PosixDisk):
    def append(self, path: Path) -> AppendFile:
        return _UnsyncedFile(super().append(path))

    def sync_folder(self, folder: Path) -> None:
        pass

    def free_octets(self, folder: Path) -> int:
        return FREE_OCTETS


class _WorldFile(apsw.VFSFile):
    """A file of SQLite's own kind, apart from syncs."""

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        pass


class _WorldVfs(apsw.VFS):
    def __init__(self) -> None:
        super().__init__(VFS, "")  # "": what it does not do itself the system's VFS does

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - as above
        return _WorldFile("", name, flags)


@cache
def sqlite_vfs() -> apsw.VFS:
    """Register it with SQLite, once in this process."""
    return _WorldVfs()
