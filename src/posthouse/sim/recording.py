# SPDX-License-Identifier: Apache-2.0
"""The Disk port and SQLite's file system, on real files, with everything that changes them written down.

Invariant: the log has what was done in the order in which it was done, and nothing of a life that has ended. Syncs
are written down, not done: the files live in memory or are thrown away, and outlive the program anyway.
SQLite's shared-memory index is mapped memory that no file operation shows: it is not in the log, as it is on no disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import ENOSPC
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import apsw

from posthouse.net.disk import PosixDisk
from posthouse.ports import AppendFile, Buffer
from posthouse.sim.disklog import (
    Created,
    Entry,
    FolderSynced,
    MadeFolder,
    NameChange,
    Noted,
    Renamed,
    Synced,
    SyncFailed,
    Tree,
    Truncated,
    Unlinked,
    Written,
)
from posthouse.sim.image import DiskState

FREE_OCTETS = 100 << 30  # as sim/disk.py: the real disk's filling does not change a run
# A new file of these kinds has its folder synced by SQLite with its own first sync (os_unix.c, UNIXFILE_DIRSYNC).
SYNCS_FOLDER = apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL

Sink = Callable[[Entry], None]
_numbers = count()


class Gate(Protocol):
    """What may make an operation fail (sim/faults.py)."""

    def pass_through(self, operation: str, path: Path) -> None:
        """Raises OSError when it is to fail. `operation`: open, write, sync, truncate, rename, unlink, …"""

    def shortened(self, path: Path, octets: int) -> int | None:
        """Before a write: None, or how many octets of it are written before it fails."""


class OpenGate:
    """Nothing fails."""

    def pass_through(self, operation: str, path: Path) -> None:
        return

    def shortened(self, path: Path, octets: int) -> int | None:
        return None


def _nowhere(_entry: Entry) -> None:
    return


class Recorder:
    """One life's view of a data directory at `root`; what happens outside of it is not recorded.

    `lies_about_syncs`: syncs do nothing, for tests of those who should notice.
    """

    def __init__(
        self,
        root: Path,
        sink: Sink,
        tree: Tree | None = None,
        *,
        gate: Gate | None = None,
        lies_about_syncs: bool = False,
    ) -> None:
        self.root = root
        self.tree = tree or Tree()
        self.gate = gate or OpenGate()
        self.disk = RecordingDisk(self)
        self._sink = sink
        self._lies = lies_about_syncs
        self._is_over = False
        self._vfs = RecordingVfs(f"posthouse-recording-{next(_numbers)}", self)

    @property
    def vfs(self) -> str:
        """Name of SQLite's file system."""
        return self._vfs.vfs_name

    def end(self) -> None:
        """The life is over, as by kill -9: whatever still closes its files writes nothing down."""
        if self._is_over:
            return
        self._is_over = True
        self._sink = _nowhere  # SQLite's file systems live long, and would keep the whole log alive
        self.gate = OpenGate()
        self._vfs.unregister()

    def note(self, what: Any) -> None:
        self._put(Noted(what))

    # --- what happened ----------------------------------------------------------------------------

    def create(self, path: Path) -> None:
        folder, name = self._place(path)
        self._change(Created(folder, name, self.tree.new_number()))

    def make_folder(self, path: Path) -> None:
        folder, name = self._place(path)
        self._change(MadeFolder(folder, name, self.tree.new_number()))

    def rename(self, old: Path, new: Path) -> None:
        self._change(Renamed(*self._place(old), *self._place(new)))

    def unlink(self, path: Path) -> None:
        self._change(Unlinked(*self._place(path)))

    def write(self, file: int, offset: int, octets: bytes) -> None:
        self._put(Written(file, offset, octets))

    def truncate(self, file: int, size: int) -> None:
        self._put(Truncated(file, size))

    def sync(self, file: int) -> None:
        if not self._lies:
            self._put(Synced(file))

    def sync_failed(self, file: int) -> None:
        self._put(SyncFailed(file))

    def sync_folder(self, path: Path) -> None:
        if not self._lies and self.covers(path):
            self._put(FolderSynced(self.tree.folder(path.relative_to(self.root).parts)))

    def number(self, path: Path) -> int:
        """Of the file with this name now."""
        number = self.tree.look(*self._place(path))
        if number is None:
            raise FileNotFoundError(str(path))
        return number

    def covers(self, path: Path) -> bool:
        return path == self.root or self.root in path.parents

    def _place(self, path: Path) -> tuple[int, str]:
        return self.tree.place(path.relative_to(self.root).parts)

    def _change(self, change: NameChange) -> None:
        if not self._is_over:
            self.tree.apply(change)
            self._sink(change)

    def _put(self, entry: Entry) -> None:
        if not self._is_over:
            self._sink(entry)


def adopt(root: Path, tree: Tree, disks: Sequence[DiskState]) -> None:
    """What lies in a data directory already counts as durable."""
    for path in sorted(root.rglob("*")):
        if path.name.endswith("-shm"):
            continue
        folder, name = tree.place(path.relative_to(root).parts)
        number = tree.new_number()
        if path.is_dir():
            tree.apply(MadeFolder(folder, name, number))
            for disk in disks:
                disk.adopt_folder(number, folder, name)
        else:
            tree.apply(Created(folder, name, number))
            octets = path.read_bytes() if disks else b""
            for disk in disks:
                disk.adopt(number, folder, name, octets)


# --- the packs ------------------------------------------------------------------------------------


class _RecordedFile:
    """An AppendFile."""

    __slots__ = ("_file", "_number", "_path", "_recorder")

    def __init__(self, recorder: Recorder, file: AppendFile, path: Path) -> None:
        self._recorder = recorder
        self._file = file
        self._path = path
        self._number = recorder.number(path)

    @property
    def size(self) -> int:
        return self._file.size

    @size.setter
    def size(self, size: int) -> None:
        self._file.size = size

    def write(self, buffers: Sequence[Buffer]) -> None:
        octets = b"".join(buffers)
        gate = self._recorder.gate
        part = gate.shortened(self._path, len(octets))
        if part is not None:
            self._write(octets[:part])
        gate.pass_through("write", self._path)
        self._write(octets)

    def _write(self, octets: bytes) -> None:
        if octets:
            self._recorder.write(self._number, self._file.size, octets)
            self._file.write([octets])

    def sync(self) -> None:
        try:
            self._recorder.gate.pass_through("sync", self._path)
        except OSError:
            self._recorder.sync_failed(self._number)
            raise
        self._recorder.sync(self._number)

    def truncate(self, size: int) -> None:
        self._recorder.gate.pass_through("truncate", self._path)
        self._recorder.truncate(self._number, size)
        self._file.truncate(size)

    def close(self) -> None:
        self._file.close()


class RecordingDisk(PosixDisk):
    """The real thing, whose order of steps is kept: what it does beside its own system calls comes back here."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def append(self, path: Path) -> AppendFile:
        self._recorder.gate.pass_through("open", path)
        if not path.exists():
            self._recorder.create(path)
        return _RecordedFile(self._recorder, super().append(path), path)

    def make_folder(self, folder: Path) -> None:
        missing = []
        here = folder
        while self._recorder.covers(here) and not here.is_dir():
            missing.append(here)
            here = here.parent
        if missing:
            self._recorder.gate.pass_through("make_folder", folder)
        for each in reversed(missing):
            self._recorder.make_folder(each)
        super().make_folder(folder)

    def rename(self, old: Path, new: Path) -> None:
        self._recorder.gate.pass_through("rename", new)
        if old.exists():
            self._recorder.rename(old, new)
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._recorder.gate.pass_through("unlink", path)
        if path.exists():
            self._recorder.unlink(path)
        super().unlink(path)

    def map(self, path: Path) -> memoryview:
        self._recorder.gate.pass_through("map", path)
        return super().map(path)

    def sync_folder(self, folder: Path) -> None:
        self._recorder.gate.pass_through("sync_folder", folder)
        self._recorder.sync_folder(folder)

    def free_octets(self, folder: Path) -> int:
        return FREE_OCTETS


# --- SQLite ---------------------------------------------------------------------------------------


class _SqliteFile(apsw.VFSFile):
    """A file of SQLite's own kind, apart from syncs."""

    def __init__(self, recorder: Recorder, filename: str | apsw.URIFilename | None, flags: list[int]) -> None:
        name = filename.filename() if isinstance(filename, apsw.URIFilename) else filename
        path = Path(name) if name else None
        self._recorder = recorder
        self._path = path
        self._number: int | None = None  # of what is recorded
        wants = flags[0]
        is_ours = path is not None and recorder.covers(path) and not wants & apsw.SQLITE_OPEN_DELETEONCLOSE
        is_missing = is_ours and path is not None and not path.exists()
        super().__init__("", filename, flags)
        if is_ours and path is not None:
            if is_missing:
                recorder.create(path)
            self._number = recorder.number(path)
        self._syncs_folder = bool(wants & SYNCS_FOLDER and wants & apsw.SQLITE_OPEN_CREATE)

    def excepthook(self, etype: Any, evalue: Any, etraceback: Any) -> bool:
        """As RecordingVfs.excepthook."""
        return True

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._number is not None:
            self._pass_write(data, offset)
            self._recorder.write(self._number, offset, bytes(data))
        super().xWrite(data, offset)

    def _pass_write(self, data: bytes, offset: int) -> None:
        assert self._path is not None
        assert self._number is not None
        gate = self._recorder.gate
        part = gate.shortened(self._path, len(data))
        if part:
            self._recorder.write(self._number, offset, bytes(data[:part]))
            super().xWrite(data[:part], offset)
        try:
            gate.pass_through("write", self._path)
        except OSError as error:
            # Only a write tells SQLite that the disk is full (os_unix.c, unixWrite); all else is an I/O error.
            kind = apsw.FullError if error.errno == ENOSPC else apsw.IOError
            raise kind(str(error)) from error

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - as above
        if self._number is not None:
            self._check("truncate")
            self._recorder.truncate(self._number, newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - as above
        if self._number is None or self._path is None:
            return
        try:
            self._check("sync")
        except apsw.Error:
            self._recorder.sync_failed(self._number)
            raise
        self._recorder.sync(self._number)
        if self._syncs_folder:
            self._recorder.sync_folder(self._path.parent)
            self._syncs_folder = False

    def _check(self, operation: str) -> None:
        assert self._path is not None
        try:
            self._recorder.gate.pass_through(operation, self._path)
        except OSError as error:
            raise apsw.IOError(str(error)) from error


class RecordingVfs(apsw.VFS):
    def __init__(self, name: str, recorder: Recorder) -> None:
        super().__init__(name, "")  # "": what it does not do itself the system's VFS does
        self.vfs_name = name
        self._recorder = recorder

    def excepthook(self, etype: Any, evalue: Any, etraceback: Any) -> bool:
        """A second fault while SQLite cleans up after the first: it goes on by the result code alone."""
        return True

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - as above
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        try:
            if path:
                self._recorder.gate.pass_through("open", Path(path))
        except OSError as error:
            raise apsw.CantOpenError(str(error)) from error
        return _SqliteFile(self._recorder, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - as above
        path = Path(filename)
        is_ours = self._recorder.covers(path) and path.exists()
        if is_ours:
            try:
                self._recorder.gate.pass_through("unlink", path)
            except OSError as error:
                raise apsw.IOError(str(error)) from error
            self._recorder.unlink(path)
        super().xDelete(filename, syncdir)
        if is_ours and syncdir:
            self._recorder.sync_folder(path.parent)
