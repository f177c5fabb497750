# SPDX-License-Identifier: Apache-2.0
"""The Disk port on POSIX. Invariant: what a method calls durable has been synced, with its folder.

A new name, a changed name and a removed name are durable only when their folder is synced (fsync(2), NOTES);
every method here that changes names does so before it returns.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from posthouse.ports import AppendFile, Buffer

FILE_MODE = 0o600  # letters are private
FOLDER_MODE = 0o700

# writev(2) takes at most IOV_MAX buffers; POSIX promises 16, Linux and the BSDs have 1024.
BUFFERS_PER_WRITE = os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in os.sysconf_names else 16


def _sync(descriptor: int) -> None:
    """Make a file's octets and its size durable.

    fdatasync leaves out times, which nobody needs. Where only fsync exists it may stop at the drive's cache
    (macOS, fsync(2)); F_FULLFSYNC goes through it.
    """
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
        return
    import fcntl  # noqa: PLC0415 - only where fdatasync is missing

    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, full)


class PosixAppendFile:
    """A file that only grows, written with writev. `size` is what has been written so far, in octets."""

    __slots__ = ("_descriptor", "size")

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def write(self, buffers: Sequence[Buffer]) -> None:
        for first in range(0, len(buffers), BUFFERS_PER_WRITE):
            self._write_all(buffers[first : first + BUFFERS_PER_WRITE])

    def _write_all(self, buffers: Sequence[Buffer]) -> None:
        wanted = sum(map(len, buffers))
        written = os.writev(self._descriptor, buffers)
        self.size += written
        if written == wanted:
            return
        # A partial write: a full disk, a signal, or more than 2 GiB at once. Go on until it is done or fails.
        rest = memoryview(b"".join(buffers))[written:]
        while rest:
            written = os.write(self._descriptor, rest)
            self.size += written
            rest = rest[written:]

    def sync(self) -> None:
        _sync(self._descriptor)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self.size = size

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class PosixDisk:
    """The files of the data directory."""

    def append(self, path: Path) -> AppendFile:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            descriptor = os.open(path, flags | os.O_CREAT, FILE_MODE)
            try:
                self.sync_folder(path.parent)
            except OSError:
                os.close(descriptor)
                raise
        return PosixAppendFile(descriptor, os.fstat(descriptor).st_size)

    def map(self, path: Path) -> memoryview:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if size == 0:  # mmap refuses a length of 0
                return memoryview(b"")
            return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)

    def read(self, path: Path, offset: int, length: int) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            octets = os.pread(descriptor, length, offset)
            while 0 < len(octets) < length:  # Linux reads at most 2 GiB at once
                more = os.pread(descriptor, length - len(octets), offset + len(octets))
                if not more:
                    break
                octets += more
            return octets
        finally:
            os.close(descriptor)

    def names(self, folder: Path) -> list[str]:
        try:
            return sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted, not a Path for each
        except FileNotFoundError:
            return []

    def make_folder(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            with contextlib.suppress(FileExistsError):
                each.mkdir(FOLDER_MODE)
            self.sync_folder(each.parent)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)
        self.sync_folder(new.parent)
        if old.parent != new.parent:
            self.sync_folder(old.parent)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.sync_folder(path.parent)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_octets(self, folder: Path) -> int:
        numbers = os.statvfs(folder)
        return numbers.f_bavail * numbers.f_frsize
