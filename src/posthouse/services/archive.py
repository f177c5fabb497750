# SPDX-License-Identifier: Apache-2.0
"""A folder of backups: its format, reading it, checking it, forgetting old ones.

Invariant: a generation is there when its manifest is, and a manifest comes last. Nothing that a manifest names is ever
changed, and it goes only when no manifest names it any more: an interrupted backup is never taken for a whole one.

    manifests/<generation>.json     what belongs to it, with sizes and SHA-256 of everything; and its own SHA-256
    databases/<generation>.sqlite3  the snapshot
    files/<SHA-256>                 settings, keys, certificates
    packs/<pack>-<offset>-<digest>  a stretch of a pack from this offset on; a pack is its stretches one after another

Generations share what is the same. A pack that still grows gets one more stretch with each backup, so nothing of it is
copied twice. Names of stretches sort by pack and offset: `cat packs/<pack>-*` is the pack, for want of anything better.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec

from posthouse.ports import Buffer, Disk, StoreFault
from posthouse.store import snapshot
from posthouse.store.blobs.inspection import view_of
from posthouse.store.databases.sqlite_file import damage_of, open_snapshot
from posthouse.store.faults import disk_fault

FORMAT = 1
NAME_FORMAT = "%Y%m%dT%H%M%SZ"  # of generations; sorts by time
_NAME = re.compile(r"\d{8}T\d{6}Z\.json")
MANIFESTS, DATABASES, FILES, PACKS = "manifests", "databases", "files", "packs"
MANIFEST_SUFFIX, DATABASE_SUFFIX, DRAFT_SUFFIX = ".json", ".sqlite3", ".new"
MARKER = "posthouse-backup.txt"
MARKER_TEXT = """\
Backups of a posthouse mail server. Whoever can read this folder can read every letter in it.

    posthouse backup THIS-FOLDER --list                 which backups there are
    posthouse backup THIS-FOLDER --verify               whether they are whole
    posthouse restore THIS-FOLDER --data NEW-DIRECTORY  make a data directory of the newest one
"""
STEP = 1 << 20  # octets read, hashed and written at once: little memory, and a wish to stop is heard soon


_Read = dict[Path, tuple[str, int]]  # files that were read: SHA-256 and size

# What a manifest may say: numbers are counts, and names lead nowhere but into the folder of backups.
_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Moment = Annotated[float, msgspec.Meta(ge=0, le=1e11)]  # seconds; some three thousand years
_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Generation = Annotated[str, msgspec.Meta(pattern="^[0-9]{8}T[0-9]{6}Z$")]
_StretchName = Annotated[str, msgspec.Meta(pattern="^[0-9]{15}-[0-9]{15}-[0-9a-f]+$")]


class Stretch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a pack, in the file packs/`name`. `digest`: SHA-256 in hexadecimal."""

    name: _StretchName
    offset: _Count
    size: _Count
    digest: _Digest


class PackEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first `size` octets of a pack. Its stretches say less where the house had lost some of it."""

    number: _Count
    size: _Count
    stretches: list[Stretch]

    @property
    def held(self) -> int:
        """Octets that are here."""
        return self.stretches[-1].offset + self.stretches[-1].size if self.stretches else 0


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`path`: within the data directory; an absolute one lies outside of it. `digest` also names the copy."""

    path: str
    size: _Count
    digest: _Digest


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One generation. Times are seconds since the epoch; everything acknowledged before `taken_at` is in it.

    `house`: which house it is, whatever its name; `findings`: what was wrong in the house itself, one sentence each.
    """

    format: int
    generation: _Generation
    version: str
    house: str
    hostname: str
    taken_at: _Moment
    ended_at: _Moment
    accounts: _Count
    letters: _Count
    queued: _Count
    octets: _Count
    copied: _Count
    database: FileEntry
    files: list[FileEntry]
    packs: list[PackEntry]
    findings: list[str]


class _Sheet(msgspec.Struct, frozen=True):
    digest: str
    manifest: msgspec.Raw


class ArchiveFault(Exception):  # noqa: N818 - as StoreFault
    """A backup cannot be made, read or trusted; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of one generation found; no problems: it is whole. `octets` were read for it; `findings`: what was
    wrong in the house when it was made, and is therefore wrong in what is restored of it."""

    generation: str
    octets: int
    problems: list[str]
    findings: list[str] = field(default_factory=list)


class Archive:
    """Blocks: not for the loop's thread. Raises ArchiveFault and, for what the machine does, StoreFault."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.folder = folder
        self.disk = disk

    @property
    def exists(self) -> bool:
        """Also without the marker, which a copy of the folder that was broken off may lack: manifests say enough."""
        return MARKER in self.disk.names(self.folder) or bool(self.generations())

    def names(self, part: str) -> list[str]:
        return self.disk.names(self.folder / part)

    def generations(self) -> list[str]:
        """Oldest first."""
        return [name.removesuffix(MANIFEST_SUFFIX) for name in self.names(MANIFESTS) if _NAME.fullmatch(name)]

    def load(self, generation: str) -> Manifest:
        """Raises ArchiveFault when the manifest is damaged or of a newer format."""
        path = self.folder / MANIFESTS / f"{generation}{MANIFEST_SUFFIX}"
        try:
            octets = bytes(view_of(self.disk, path, []))
        except OSError as error:
            raise ArchiveFault(f"{path}: cannot be read: {error.strerror}") from None
        try:
            sheet = msgspec.json.decode(octets, type=_Sheet)
            is_whole = sha256(sheet.manifest).hexdigest() == sheet.digest
            kind = msgspec.json.decode(sheet.manifest, type=dict[str, object]).get("format")
            if is_whole and kind != FORMAT:
                raise ArchiveFault(f"{path}: format {kind} is of a newer posthouse; this one reads {FORMAT}")
            manifest = msgspec.json.decode(sheet.manifest, type=Manifest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # msgspec lets two fall through
            raise ArchiveFault(f"{path}: the manifest is damaged ({error}); use another generation") from None
        if not is_whole:
            raise ArchiveFault(f"{path}: the manifest is damaged (its SHA-256 is another); use another generation")
        return manifest

    def newest(self) -> Manifest | None:
        """The newest generation whose manifest can be read."""
        for generation in reversed(self.generations()):
            with contextlib.suppress(ArchiveFault):
                return self.load(generation)
        return None

    def save(self, manifest: Manifest) -> None:
        """The last step of a backup: from now on it is there. Durable on return. Raises OSError."""
        octets = msgspec.json.encode(manifest)
        sheet = b'{"digest":"%s","manifest":%s}\n' % (sha256(octets).hexdigest().encode(), octets)
        path = self.folder / MANIFESTS / f"{manifest.generation}{MANIFEST_SUFFIX}"
        self.write(path, [sheet])

    def write(self, path: Path, buffers: Iterable[Buffer]) -> None:
        """A new file, whole and durable under its name, or not there at all. Raises OSError."""
        draft = path.with_name(path.name + DRAFT_SUFFIX)
        file = self.disk.append(draft)
        try:
            file.truncate(0)
            for each in buffers:
                file.write([each])
            file.sync()
        finally:
            file.close()
        self.disk.rename(draft, path)

    # --- checking ---------------------------------------------------------------------------------

    def verify(self, generations: Iterable[str]) -> Iterator[Verdict]:
        """Read everything that these generations name, what they share once."""
        read: _Read = {}
        for generation in generations:
            try:
                manifest = self.load(generation)
            except ArchiveFault as fault:
                yield Verdict(generation, 0, [str(fault)])
                continue
            before = len(read)
            problems = [*self._file_problems(manifest, read), *self._pack_problems(manifest, read)]
            problems += self._database_problems(manifest)
            octets = sum(size for _, size in list(read.values())[before:])
            yield Verdict(generation, octets, problems, manifest.findings)

    def database_path(self, manifest: Manifest) -> Path:
        return self.folder / DATABASES / f"{manifest.generation}{DATABASE_SUFFIX}"

    def file_path(self, entry: FileEntry) -> Path:
        return self.folder / FILES / entry.digest

    def stretch_path(self, stretch: Stretch) -> Path:
        return self.folder / PACKS / stretch.name

    def _file_problems(self, manifest: Manifest, read: _Read) -> Iterator[str]:
        for path, entry in [
            (self.database_path(manifest), manifest.database),
            *((self.file_path(entry), entry) for entry in manifest.files),
        ]:
            wrong = self._difference(path, entry.size, entry.digest, read)
            if wrong:
                yield f"{entry.path}: {wrong}"

    def _pack_problems(self, manifest: Manifest, read: _Read) -> Iterator[str]:
        for pack in manifest.packs:
            reached = 0
            for stretch in pack.stretches:
                wrong = self._difference(self.stretch_path(stretch), stretch.size, stretch.digest, read)
                if wrong:
                    yield f"pack {pack.number}: {stretch.name}: {wrong}"
                if stretch.offset != reached:
                    yield f"pack {pack.number}: octets {reached} to {stretch.offset} are in no file"
                reached = stretch.offset + stretch.size
            if reached != pack.size:
                yield f"pack {pack.number}: {reached} octets of {pack.size}: the rest was lost before the backup"

    def _database_problems(self, manifest: Manifest) -> list[str]:
        try:
            with open_snapshot(self.database_path(manifest)) as reader:
                damage = damage_of(reader)
                if damage:
                    return [f"database: {each}" for each in damage]
                here = {pack.number: pack.size for pack in manifest.packs}
                wanted = snapshot.wanted_packs(reader)
                wrong = [f"pack {each.number} is not in the backup" for each in wanted if here.get(each.number) is None]
                beyond = snapshot.unreachable_blobs(reader)
                return wrong + [f"pack {pack}: letters reach to octet {end}, beyond its end" for pack, end in beyond]
        except StoreFault as fault:
            return [str(fault)]

    def _difference(self, path: Path, size: int, digest: str, read: _Read) -> str:
        """What is wrong with a file; "" when nothing is."""
        if path not in read:
            unreadable: list[tuple[int, int]] = []
            try:
                view = view_of(self.disk, path, unreadable)
            except OSError as error:
                return f"cannot be read: {error.strerror}"
            if unreadable:
                return f"the disk cannot read octets {unreadable[0][0]} to {unreadable[-1][1]} of it"
            read[path] = digest_of(view), len(view)
        found, length = read[path]
        if length != size:
            return f"{length} octets of {size}"
        return "" if found == digest else "its octets have changed (another SHA-256)"

    # --- forgetting -------------------------------------------------------------------------------

    def prune(self, keep: int) -> list[str]:
        """Forget all but the newest `keep` generations, and every file that none of them names. Returns the forgotten.

        Does nothing where a manifest cannot be read: what it names might be the last copy. Raises OSError.
        """
        generations = self.generations()
        kept, forgotten = generations[-keep:], generations[:-keep]
        named: dict[str, set[str]] = {part: set() for part in (FILES, PACKS)}
        for generation in kept:
            try:
                manifest = self.load(generation)
            except ArchiveFault:
                return []
            named[FILES].update(entry.digest for entry in manifest.files)
            named[PACKS].update(stretch.name for pack in manifest.packs for stretch in pack.stretches)
        named[MANIFESTS] = {f"{each}{MANIFEST_SUFFIX}" for each in kept}
        named[DATABASES] = {f"{each}{DATABASE_SUFFIX}" for each in kept}
        for part in (MANIFESTS, DATABASES, FILES, PACKS):  # manifests first: from then on the rest is nobody's
            for name in self.names(part):
                if name not in named[part]:
                    self.disk.unlink(self.folder / part / name)
        return forgotten


def digest_of(view: memoryview) -> str:
    """SHA-256 in hexadecimal."""
    found = sha256()
    for step in steps(view):
        found.update(step)
    return found.hexdigest()


def steps(view: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(view), STEP):
        yield view[start : start + STEP]


def fault_of(doing: str, error: OSError) -> ArchiveFault:
    """The machine's refusal in the words of a backup."""
    fault = disk_fault(doing, error)
    more = "; the disk is full: make room, or keep fewer backups (--keep)" if fault.is_full else ""
    return ArchiveFault(f"{fault}{more}")
