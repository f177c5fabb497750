# SPDX-License-Identifier: Apache-2.0
"""A data directory made of a backup: every octet is checked against the manifest on its way.

Invariant: the backup is only read. What was written is durable when `unpack` returns; it is no house yet: whoever
asked adopts the older state (`adopt`) before anything is served from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath

from posthouse.ports import Buffer, Database, Disk, Transaction
from posthouse.services.archive import Archive, ArchiveFault, FileEntry, Manifest, PackEntry, fault_of, steps
from posthouse.store import holds, queue_restore
from posthouse.store.blobs.inspection import view_of
from posthouse.store.blobs.shelf import NAME_DIGITS, PACK_SUFFIX
from posthouse.store.rebuild import adopt_older_state

OUTSIDE = "outside"  # within the restored directory: copies of files that lay elsewhere (certificates, passwords)
PACK_FOLDER = "packs"


@dataclass(slots=True)
class Unpacked:
    """`outside`: the files that lay outside of the data directory, by their old place. `damage`: what the backup could
    not give, one sentence each."""

    outside: dict[str, Path] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)


class Unpacking:
    """One restore. Blocks: not for the loop's thread. Raises ArchiveFault."""

    def __init__(self, archive: Archive, manifest: Manifest, disk: Disk, folder: Path, *, accepts_damage: bool) -> None:
        """`folder` is empty. `accepts_damage`: go on without letters that the backup does not have whole."""
        self._archive = archive
        self._manifest = manifest
        self._disk = disk
        self._folder = folder
        self._accepts_damage = accepts_damage
        self._done = Unpacked()

    def unpack(self) -> Unpacked:
        manifest = self._manifest
        free = self._disk.free_octets(self._folder)
        if free < manifest.octets:
            raise ArchiveFault(f"{self._folder}: {manifest.octets:,} octets are needed and {free:,} are free")
        try:
            for number, entry in enumerate(manifest.files):
                self._unpack_file(number, entry)
            self._unpack_database()
            self._disk.make_folder(self._folder / PACK_FOLDER)
            for pack in manifest.packs:
                self._unpack_pack(pack)
        except OSError as error:
            raise fault_of(f"{self._folder}: cannot be written", error) from error
        return self._done

    def _unpack_file(self, number: int, entry: FileEntry) -> None:
        """Settings and keys are small and come whole or not at all."""
        view = self._read(self._archive.file_path(entry))
        if view is None or len(view) != entry.size or sha256(view).hexdigest() != entry.digest:
            self._suffer(f"{entry.path} is damaged in the backup")
            return
        path = PurePosixPath(entry.path)
        if path.is_absolute():
            target = self._folder / OUTSIDE / f"{number:02d}-{path.name}"
            self._done.outside[entry.path] = target
        else:
            target = self._inside(path)
        self._disk.make_folder(target.parent)
        self._write(target, [view])

    def _unpack_database(self) -> None:
        """Without it there is nothing to restore: its damage is never accepted."""
        entry = self._manifest.database
        path = self._archive.database_path(self._manifest)
        view = self._read(path)
        if view is None or len(view) != entry.size:
            raise ArchiveFault(f"{path}: is not there whole; use another generation (--generation)")
        if self._write(self._inside(PurePosixPath(entry.path)), steps(view)) != entry.digest:
            raise ArchiveFault(f"{path}: its octets have changed since then; use another generation (--generation)")

    def _inside(self, path: PurePosixPath) -> Path:
        if path.is_absolute() or ".." in path.parts:
            raise ArchiveFault(f"{path}: a name that leads out of the data directory; the backup was tampered with")
        return self._folder / path

    def _unpack_pack(self, pack: PackEntry) -> None:
        if pack.held < pack.size:
            self._suffer(f"pack {pack.number}: the house had lost {pack.size - pack.held} octets before the backup")
        views: list[memoryview] = []
        for stretch in pack.stretches:
            view = self._read(self._archive.stretch_path(stretch))
            if view is None or len(view) != stretch.size:
                self._suffer(f"pack {pack.number}: {stretch.name} is not there whole")
                if view is None:
                    break  # what comes behind it would lie in the wrong place
            elif sha256(view).hexdigest() != stretch.digest:
                self._suffer(f"pack {pack.number}: {stretch.name} has changed since the backup")
            views.append(view)
            if len(view) != stretch.size:
                break
        if views:
            name = f"{pack.number:0{NAME_DIGITS}d}{PACK_SUFFIX}"
            self._write(self._folder / PACK_FOLDER / name, (step for view in views for step in steps(view)))

    def _suffer(self, damage: str) -> None:
        if not self._accepts_damage:
            raise ArchiveFault(
                f"{damage}; use another generation (--generation), or take what there is (--despite-damage)"
            )
        self._done.damage.append(damage)

    def _read(self, path: Path) -> memoryview | None:
        try:
            return view_of(self._archive.disk, path, [])  # zeros, where the disk gives nothing: another SHA-256
        except OSError:
            return None

    def _write(self, target: Path, buffers: Iterable[Buffer]) -> str:
        """Durable on return; the SHA-256 of what was written."""
        found = sha256()
        file = self._disk.append(target)
        try:
            for each in buffers:
                found.update(each)
                file.write([each])
            file.sync()
        finally:
            file.close()
        return found.hexdigest()


async def adopt(database: Database, manifest: Manifest, *, now: float, is_queue_held: bool) -> int:
    """Live on with the older state (DESIGN §5), in one unit; returns how many recipients wait in the queue."""
    return await database.write(
        partial(_adopt, now=now, lost_seconds=now - manifest.taken_at, is_queue_held=is_queue_held)
    )


def _adopt(tx: Transaction, *, now: float, lost_seconds: float, is_queue_held: bool) -> int:
    holds.end_all(tx)
    adopt_older_state(tx, now=now)
    return queue_restore.resume(tx, lost_seconds=lost_seconds, now=now, is_held=is_queue_held)
