# SPDX-License-Identifier: Apache-2.0
"""Making a generation of a backup: what is new is copied, read again and compared, then the manifest is written.

Invariant: the house's files are only read. Copies are never links, and are durable before the manifest names them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from posthouse import __version__
from posthouse.ports import Clock, Disk
from posthouse.services.archive import (
    DATABASE_SUFFIX,
    DATABASES,
    DRAFT_SUFFIX,
    FILES,
    FORMAT,
    MANIFESTS,
    MARKER,
    MARKER_TEXT,
    NAME_FORMAT,
    PACKS,
    Archive,
    ArchiveFault,
    FileEntry,
    Manifest,
    PackEntry,
    Stretch,
    digest_of,
    fault_of,
    steps,
)
from posthouse.store import snapshot
from posthouse.store.blobs.inspection import view_of
from posthouse.store.blobs.record import PACK_HEADER_SIZE, Damage, DamagedPack, PackKind, read_pack_header, scan
from posthouse.store.blobs.shelf import PACK_SUFFIX
from posthouse.store.databases.sqlite_file import damage_of, open_snapshot
from posthouse.store.snapshot import WantedPack

# Two packs of one number and size that are not the same (a house that was restored twice) differ in their last
# record, which is of another letter: to compare the end of what was copied is to compare it.
COMPARED_OCTETS = 64 * 1024
# What a backup needs beside what it copies: the manifest, folders.
SPARE_OCTETS = 4 << 20
MAX_FINDINGS = 100  # told and kept; a broken disk has millions


@dataclass(frozen=True, slots=True)
class Source:
    """A house to be copied. `packs` is the folder of packs; `files`: (name in the backup, where it lies)."""

    house: str
    hostname: str
    snapshot: Path
    taken_at: float
    packs: Path
    files: Sequence[tuple[str, Path]]


@dataclass(frozen=True, slots=True)
class Made:
    manifest: Manifest
    new_stretches: int
    forgotten: list[str]


@dataclass(slots=True)
class _Work:
    """One pack: what is here already, and how long its file in the house is (0: it cannot be read)."""

    wanted: WantedPack
    known: list[Stretch]
    length: int

    @property
    def held(self) -> int:
        return self.known[-1].offset + self.known[-1].size if self.known else 0

    @property
    def end(self) -> int:
        """Up to where it can be had."""
        return max(self.held, min(self.length, self.wanted.size))


class Archiving:
    """One backup. Blocks: not for the loop's thread."""

    def __init__(self, archive: Archive, disk: Disk, clock: Clock, beat: Callable[[], None]) -> None:
        """`disk` is the house's; `beat` is called often and may raise to end the work."""
        self._archive = archive
        self._from = disk
        self._to = archive.disk
        self._clock = clock
        self._beat = beat
        self._copied = 0
        self._new = 0
        self._findings: list[str] = []
        self._sources: dict[int, Path] = {}  # the house's packs by number
        self._strays: dict[str, list[str]] = {}

    def make(self, source: Source, keep: int) -> Made:
        """Raises ArchiveFault; then the generations that were there are as they were."""
        try:
            return self._make(source, keep)
        except OSError as error:
            raise fault_of(f"{self._archive.folder}: the backup cannot be written", error) from error
        finally:
            self._remove_drafts()

    def _make(self, source: Source, keep: int) -> Made:
        self._prepare(source.house)
        earlier = self._archive.newest()
        if earlier is not None and earlier.house != source.house:
            raise ArchiveFault(
                f"{self._archive.folder} holds backups of another house ({earlier.hostname}); name another folder"
            )
        wanted, counts = self._look_into(source.snapshot)
        self._sources = {
            int(stem): source.packs / name
            for name in self._from.names(source.packs)
            if (stem := name.removesuffix(PACK_SUFFIX)) != name and stem.isdigit()
        }
        works = list(self._plan(wanted, earlier))
        self._check_room(source, works)
        generation = self._name()
        entries = [self._copy_pack(work) for work in works]
        files = [entry for name, path in source.files if (entry := self._copy_file(name, path)) is not None]
        database = self._copy_database(source.snapshot, generation)
        manifest = Manifest(
            format=FORMAT,
            generation=generation,
            version=__version__,
            house=source.house,
            hostname=source.hostname,
            taken_at=source.taken_at,
            ended_at=self._clock.wall(),
            accounts=counts.accounts,
            letters=counts.letters,
            queued=counts.queued,
            octets=database.size + sum(each.size for each in files) + sum(each.held for each in entries),
            copied=self._copied,
            database=database,
            files=files,
            packs=entries,
            findings=self._findings[:MAX_FINDINGS],
        )
        self._archive.save(manifest)
        # A backup of a hurt house must not push out the one that is whole.
        forgotten = [] if self._findings else self._archive.prune(keep)
        return Made(manifest, self._new, forgotten)

    # --- before -----------------------------------------------------------------------------------

    def _prepare(self, house: str) -> None:
        folder = self._archive.folder
        self._to.make_folder(folder)
        if not self._archive.exists:
            for part in (MANIFESTS, DATABASES, FILES, PACKS):
                self._to.make_folder(folder / part)
            self._archive.write(folder / MARKER, [MARKER_TEXT.encode()])
        self._remove_drafts()

    def _remove_drafts(self) -> None:
        for part in ("", MANIFESTS, DATABASES, FILES, PACKS):
            with contextlib.suppress(OSError):
                for name in self._archive.names(part):
                    if name.endswith(DRAFT_SUFFIX):
                        self._to.unlink(self._archive.folder / part / name)

    def _look_into(self, path: Path) -> tuple[list[WantedPack], snapshot.Contents]:
        with open_snapshot(path) as reader:
            self._findings += [f"database: {each}" for each in damage_of(reader)]
            return snapshot.wanted_packs(reader), snapshot.contents(reader)

    def _name(self) -> str:
        """By the time, in UTC; later than every other, also after the clock was set back."""
        moment = datetime.fromtimestamp(self._clock.wall(), UTC)
        taken = self._archive.generations()
        if taken:
            moment = max(moment, datetime.strptime(taken[-1], NAME_FORMAT).replace(tzinfo=UTC) + timedelta(seconds=1))
        return moment.strftime(NAME_FORMAT)

    def _check_room(self, source: Source, works: Sequence[_Work]) -> None:
        needed = SPARE_OCTETS + len(self._from.map(source.snapshot))
        needed += sum(work.end - work.held for work in works)
        free = self._to.free_octets(self._archive.folder)
        if free < needed:
            raise ArchiveFault(
                f"{self._archive.folder}: {needed:,} octets are needed and {free:,} are free;"
                " make room, or keep fewer backups (--keep)"
            )

    # --- packs ------------------------------------------------------------------------------------

    def _plan(self, wanted: Sequence[WantedPack], earlier: Manifest | None) -> Iterator[_Work]:
        """What the newest backup has of each pack is not copied again."""
        known = {} if earlier is None else {entry.number: entry for entry in earlier.packs}
        present = frozenset(self._archive.names(PACKS))
        named = {stretch.name for entry in known.values() for stretch in entry.stretches}
        for name in sorted(present - named):
            self._strays.setdefault(name.rpartition("-")[0], []).append(name)
        for each in wanted:
            self._beat()
            entry = known.get(each.number)
            yield self._plan_one(each, _within(entry, each.size, present) if entry else [])

    def _plan_one(self, wanted: WantedPack, known: list[Stretch]) -> _Work:
        view = self._open(wanted.number)
        if view is None:  # the house has lost it: what the backup has is more than nothing
            work = _Work(wanted, known, 0)
            if work.end == wanted.size:
                self._find(f"pack {wanted.number} is missing in the house; an earlier backup still has it")
        else:
            if known and not self._is_same(known[-1], view):
                if self._is_whole_copy(known, view):
                    self._find(f"pack {wanted.number} is damaged in the house; an earlier backup still has it whole")
                else:
                    known = []
            work = _Work(wanted, known, len(view))
        if work.end < wanted.size:
            self._find(f"pack {wanted.number}: {wanted.size - work.end} octets of {wanted.size} are missing")
        return work

    def _open(self, number: int) -> memoryview | None:
        """It is closed when nobody looks at the view any more: a house may have more packs than a process files."""
        path = self._sources.get(number)
        try:
            return None if path is None else self._from.map(path)
        except OSError as error:
            self._find(f"pack {number} cannot be read: {error.strerror}")
            return None

    def _read(self, number: int, start: int, end: int) -> memoryview | None:
        """As `_open`; these octets can be looked at, zeros for those that the disk does not give."""
        unreadable: list[tuple[int, int]] = []
        path = self._sources[number]
        try:
            self._from.read(path, 0, PACK_HEADER_SIZE)
            view = view_of(self._from, path, unreadable, start, end)
        except OSError as error:
            self._find(f"pack {number} cannot be read: {error.strerror}")
            return None
        for bad_start, bad_end in unreadable:
            self._find(f"pack {number}: the disk cannot read octets {bad_start} to {bad_end}")
        return view

    def _find(self, finding: str) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(finding)

    def _is_same(self, stretch: Stretch, view: memoryview) -> bool:
        """Whether this stretch of the backup is what the house has at its place; see COMPARED_OCTETS."""
        copy = self._to.map(self._archive.stretch_path(stretch))
        there = view[stretch.offset : stretch.offset + stretch.size]
        if not len(copy) == len(there) == stretch.size:
            return False
        head, tail = PACK_HEADER_SIZE, COMPARED_OCTETS
        return copy[:head] == there[:head] and copy[-tail:] == there[-tail:]

    def _is_whole_copy(self, known: Sequence[Stretch], view: memoryview) -> bool:
        """Whether the house has its octets damaged that the last stretch has whole: some records of both are equal, and
        each other one is damaged in the house. A whole one that differs is of another life of the pack."""
        last = known[-1]
        copy = self._to.map(self._archive.stretch_path(last))
        if len(copy) != last.size or digest_of(copy) != last.digest:
            return False
        try:
            header = read_pack_header(self._to.map(self._archive.stretch_path(known[0])))
        except DamagedPack:
            return False
        is_same = header.kind is PackKind.OWN and view[:PACK_HEADER_SIZE] == copy[:PACK_HEADER_SIZE]  # they never grow
        there = view[: last.offset + last.size]
        for record in scan(there, header, max(last.offset, PACK_HEADER_SIZE)):
            self._beat()
            if not isinstance(record, Damage):
                start = max(record.start, last.offset)
                if there[start : record.end] != copy[start - last.offset : record.end - last.offset]:
                    return False
                is_same = True
        return is_same

    def _copy_pack(self, work: _Work) -> PackEntry:
        stretches = list(work.known)
        number, start, end = work.wanted.number, work.held, work.end
        view = self._read(number, start, end) if end > start else None
        if view is not None:
            self._look_for_damage(number, view[:end], start)
            stretches.append(self._copy_stretch(number, start, view[start:end]))
        return PackEntry(number, work.wanted.size, stretches)

    def _look_for_damage(self, number: int, view: memoryview, start: int) -> None:
        """Records carry checksums of their own: what is damaged in the house is told now, while an older backup may
        still have it whole. It is copied as it is."""
        try:
            header = read_pack_header(view)
        except DamagedPack as damage:
            self._find(f"pack {number}: {damage}")
            return
        for record in scan(view, header, max(start, PACK_HEADER_SIZE)):
            self._beat()
            if isinstance(record, Damage):
                self._find(f"pack {number}: octets {record.start} to {record.end}: {record.reason}")

    def _copy_stretch(self, number: int, offset: int, view: memoryview) -> Stretch:
        prefix = f"{number:015d}-{offset:015d}"
        for name in self._strays.get(prefix, ()):  # of a backup that was interrupted, or of an older one
            if self._is_copy(name, view):
                return Stretch(name, offset, len(view), digest_of(view))
        draft = self._archive.folder / PACKS / f"{prefix}{DRAFT_SUFFIX}"
        digest = self._copy(draft, view)
        name = f"{prefix}-{digest[:32]}"
        self._to.rename(draft, self._archive.folder / PACKS / name)
        self._new += 1
        return Stretch(name, offset, len(view), digest)

    def _is_copy(self, name: str, view: memoryview) -> bool:
        try:
            copy = self._to.map(self._archive.folder / PACKS / name)
        except OSError:
            return False
        return len(copy) == len(view) and digest_of(copy) == digest_of(view)

    # --- files ------------------------------------------------------------------------------------

    def _copy_file(self, name: str, path: Path) -> FileEntry | None:
        """Small files, kept under their SHA-256: what did not change is there already."""
        try:
            octets = bytes(self._from.map(path))
        except OSError as error:
            self._find(f"{path} is not in the backup: {error.strerror}")
            return None
        digest = sha256(octets).hexdigest()
        if digest not in self._archive.names(FILES):
            target = self._archive.folder / FILES / digest
            self._archive.write(target, [octets])
            self._copied += len(octets)
        return FileEntry(name, len(octets), digest)

    def _copy_database(self, path: Path, generation: str) -> FileEntry:
        target = self._archive.folder / DATABASES / f"{generation}{DATABASE_SUFFIX}"
        draft = target.with_name(target.name + DRAFT_SUFFIX)
        view = self._from.map(path)
        digest = self._copy(draft, view)
        self._to.rename(draft, target)
        return FileEntry("posthouse.sqlite3", len(view), digest)

    def _copy(self, draft: Path, view: memoryview) -> str:
        """Copy, sync, read again, compare. Returns the SHA-256."""
        found = sha256()
        file = self._to.append(draft)
        try:
            file.truncate(0)
            for step in steps(view):
                self._beat()
                found.update(step)
                file.write([step])
            file.sync()
        finally:
            file.close()
        digest = found.hexdigest()
        if digest_of(self._to.map(draft)) != digest:
            raise ArchiveFault(f"{draft.parent}: what was written reads differently: this disk cannot be trusted")
        self._copied += len(view)
        return digest


def _within(entry: PackEntry, size: int, present: frozenset[str]) -> list[Stretch]:
    """The stretches of a pack that can be used again for its first `size` octets: from its beginning, without a gap."""
    found: list[Stretch] = []
    reached = 0
    for stretch in entry.stretches:
        if stretch.offset != reached or stretch.offset + stretch.size > size or stretch.name not in present:
            break
        found.append(stretch)
        reached = stretch.offset + stretch.size
    return found
