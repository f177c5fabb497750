# SPDX-License-Identifier: Apache-2.0
"""Other copies of letters that are hurt: in our own packs (compaction leaves some), in a backup, in a copied folder.

Invariant: a copy is one whose octets have the digest that the row says; where no digest is known (after a rebuild), a
record whose own checksum holds and whose note names the same letter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from posthouse.mail.header import MAX_HEADER, scan_header
from posthouse.ports import Content, Disk, Reader, StoreFault, Transaction
from posthouse.store import damage, garbage
from posthouse.store.blobs.inspection import open_pack
from posthouse.store.blobs.record import (
    Damage,
    DamagedPack,
    PackHeader,
    Record,
    RecordKind,
    read_pack_header,
    rescue_header,
    scan,
)
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.damage import PlacedBlob
from posthouse.store.note_rows import note_of
from posthouse.store.notes import encode, read_note
from posthouse.store.rebuild import UNKNOWN_DIGEST

# NNN.pack of a data directory; NNN-OFFSET-DIGEST of a folder of backups (services/archive.py), pieces of a pack.
_PACK = re.compile(r"(\d{15})\.pack")
_STRETCH = re.compile(r"(\d{15})-(\d{15})-[0-9a-f]+")
PACK_FOLDER = "packs"
MAX_PASSES = 8  # over pieces that two histories of one pack left; a house is restored less often than that


@dataclass(frozen=True, slots=True)
class Copy:
    """A whole copy of a letter's octets, with its note where the record had one."""

    blob: PlacedBlob
    octets: bytes
    note: bytes


@dataclass(slots=True)
class Wanted:
    """The letters that are looked for; those found are taken off."""

    blobs: dict[int, PlacedBlob]
    _by_digest: dict[tuple[int, bytes], list[PlacedBlob]] = field(default_factory=dict)
    _lengths: set[int] = field(default_factory=set)  # membership only

    def __post_init__(self) -> None:
        for blob in self.blobs.values():
            location = blob.location
            if location.digest != UNKNOWN_DIGEST:
                self._by_digest.setdefault((location.length, location.digest), []).append(blob)
                self._lengths.add(location.length)

    def match(self, record: Record) -> Iterator[Copy]:
        """The letters that this record is a copy of."""
        if record.kind is RecordKind.REFERENCE:
            return
        content, note = record.content, record.note
        named = read_note(note) if note else None
        blob = None if named is None else self.blobs.get(named.blob)
        if blob is not None and blob.location.digest == UNKNOWN_DIGEST:
            yield self._take(blob, bytes(content), note)
            return
        if len(content) not in self._lengths:
            return
        for same in self._by_digest.get((len(content), hashlib.sha256(content).digest()), []):
            if same.id in self.blobs:
                is_own = named is not None and named.blob == same.id
                yield self._take(same, bytes(content), note if is_own else b"")

    def _take(self, blob: PlacedBlob, octets: bytes, note: bytes) -> Copy:
        del self.blobs[blob.id]
        return Copy(blob, octets, note)


def in_our_packs(shelf: Shelf, wanted: Wanted) -> Iterator[Copy]:
    """Blocks."""
    for number in shelf.numbers():
        if not wanted.blobs:
            return
        try:
            pack = open_pack(shelf, number)
        except StoreFault:
            continue
        yield from _in(pack.view, pack.header, wanted)


def in_folder(disk: Disk, folder: Path, wanted: Wanted, tell: Callable[[str], None] = lambda _: None) -> Iterator[Copy]:
    """`folder`: a folder of backups, a data directory, or its folder of packs. Blocks. Raises OSError."""
    inner = folder / PACK_FOLDER
    home = inner if disk.names(inner) else folder
    for number, variants in sorted(_packs(disk, home).items()):
        for paths in variants:
            if not wanted.blobs:
                return
            view = disk.map(paths[0]) if len(paths) == 1 else memoryview(b"".join(map(disk.map, paths)))
            try:
                header = read_pack_header(view)
            except DamagedPack:
                try:
                    header = rescue_header(view, number)
                except DamagedPack as hopeless:
                    tell(f"{home}: pack {number}: {hopeless}")
                    continue
            yield from _in(view, header, wanted)


def holds_packs(disk: Disk, folder: Path) -> bool:
    """Whether `in_folder` would find anything to look through."""
    return bool(_packs(disk, folder / PACK_FOLDER) or _packs(disk, folder))


def _in(view: memoryview, header: PackHeader, wanted: Wanted) -> Iterator[Copy]:
    for record in scan(view, header):
        if not isinstance(record, Damage):
            yield from wanted.match(record)


def _packs(disk: Disk, folder: Path) -> Mapping[int, list[list[Path]]]:
    """Files that together are one pack, in order; several such lists where its pieces have several histories."""
    whole: dict[int, list[list[Path]]] = {}
    pieces: dict[int, dict[int, list[Path]]] = {}
    for name in disk.names(folder):
        if match := _PACK.fullmatch(name):
            whole.setdefault(int(match[1]), []).append([folder / name])
        elif match := _STRETCH.fullmatch(name):
            pieces.setdefault(int(match[1]), {}).setdefault(int(match[2]), []).append(folder / name)
    for number, offsets in pieces.items():
        depth = min(MAX_PASSES, max(map(len, offsets.values())))
        for turn in range(depth):
            chain = [offsets[offset][min(turn, len(offsets[offset]) - 1)] for offset in sorted(offsets)]
            whole.setdefault(number, []).append(chain)
    return whole


def put_back(tx: Transaction, copy: Copy, content: Content, now: float) -> bool:
    """Append the copy (its octets as `content`) and let its row say so; False: the row is another one by now."""
    blob = copy.blob
    if damage.blob(tx, blob.id) != blob:
        return False
    note = copy.note or fresh_note(tx, blob.id)
    location = tx.append(content, note)
    tx.run(
        "UPDATE blob SET pack = :pack, pack_offset = :pack_offset, length = :length, hash = :hash WHERE id = :blob",
        blob=blob.id,
        pack=location.pack,
        pack_offset=location.offset,
        length=content.size,
        hash=content.digest,
    )
    if blob.location.digest == UNKNOWN_DIGEST:  # what was said of it was read from hurt octets
        tx.run(
            "UPDATE email_detail SET summary = :summary, structure = NULL, preview = NULL, ancestors = NULL"
            " WHERE email IN (SELECT id FROM email WHERE blob = :blob)",
            summary=scan_header(copy.octets[:MAX_HEADER]).pack_envelope(),
            blob=blob.id,
        )
    if blob.location.pack:
        garbage.bury(tx, blob.location, now)
    return True


def fresh_note(reader: Reader, blob: int) -> bytes:
    """A note as the rows are now; b"" when nothing refers to the blob."""
    note = note_of(reader, blob)
    return b"" if note is None else encode(note)


def note_again(tx: Transaction, blob: PlacedBlob) -> bool:
    """Write a fresh note for a letter that has a pack of its own; False: its row is another one by now."""
    if damage.blob(tx, blob.id) != blob:
        return False
    location = blob.location
    tx.append(Content(location.length, location.digest, sealed=location), fresh_note(tx, blob.id))
    return True
