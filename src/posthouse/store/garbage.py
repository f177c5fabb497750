# SPDX-License-Identifier: Apache-2.0
"""Content that nothing refers to: its rows go here, its octets when its pack is compacted or removed.

A blob is kept while an email, a letter in the queue or a retention row refers to it; this page alone decides.
The caller goes through the blobs page by page in idle time: reading finds, a small unit of work removes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from posthouse.ports import BlobLocation, Content, Reader, Transaction
from posthouse.store.blobs import ledger
from posthouse.store.blobs.ledger import PackState
from posthouse.store.blobs.record import PackKind
from posthouse.store.notes import decode

PAGE = 1_000  # blobs looked at in one visit to the reader: some milliseconds
DEAD_SHARE = 0.3  # of a pack: below it compaction copies more than twice what it frees
DEAD_DAYS = 30  # DESIGN §5: dead octets are gone at the latest so many days later
COMPACTION_BLOBS = 500  # moved by one plan, so that one plan is read and written in about a second


@dataclass(frozen=True, slots=True)
class Found:
    """Unreferenced blobs of one page; `after` is where the next page begins, None at the end."""

    blobs: tuple[int, ...]
    after: int | None


@dataclass(frozen=True, slots=True)
class Collected:
    """What a unit removed: blobs, their octets, and these by pack."""

    blobs: int
    octets: int
    by_pack: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pack worth compacting: its octets, those of them that are dead, since when the oldest are."""

    pack: int
    size: int
    dead: int
    since: float


@dataclass(frozen=True, slots=True)
class LiveBlob:
    id: int
    location: BlobLocation


# --- blobs ----------------------------------------------------------------------------------------

_PAGE_END = "SELECT COUNT(*), MAX(id) FROM (SELECT id FROM blob WHERE id > :after ORDER BY id LIMIT :page) AS looked_at"
_UNREFERENCED = (
    "SELECT id FROM blob WHERE id > :after AND id <= :last"
    " AND NOT EXISTS (SELECT 1 FROM email WHERE email.blob = blob.id)"
    " AND NOT EXISTS (SELECT 1 FROM queue_letter WHERE queue_letter.blob = blob.id)"
    " AND NOT EXISTS (SELECT 1 FROM retention WHERE retention.blob = blob.id"
    "   AND (retention.until IS NULL OR retention.until > :now)) ORDER BY id"
)
_REMOVE = (
    "DELETE FROM blob WHERE id = :blob"
    " AND NOT EXISTS (SELECT 1 FROM email WHERE email.blob = blob.id)"
    " AND NOT EXISTS (SELECT 1 FROM queue_letter WHERE queue_letter.blob = blob.id)"
    " AND NOT EXISTS (SELECT 1 FROM retention WHERE retention.blob = blob.id"
    "   AND (retention.until IS NULL OR retention.until > :now)) RETURNING pack, length"
)
_BURY = (
    "INSERT INTO dead_octets (pack, octets, since) VALUES (:pack, :octets, :now)"
    " ON CONFLICT (pack) DO UPDATE SET octets = dead_octets.octets + excluded.octets"
)


def find(reader: Reader, now: float, after: int = 0, page: int = PAGE) -> Found:
    """Unreferenced blobs among the next `page` ones behind `after`, in order of their ids."""
    count, last = reader.row(_PAGE_END, after=after, page=page) or (0, None)
    if not count:
        return Found((), None)
    rows = reader.rows(_UNREFERENCED, after=after, last=last, now=now)
    return Found(tuple(row[0] for row in rows), last if count == page else None)


def collect(tx: Transaction, blobs: Sequence[int], now: float) -> Collected:
    """Remove those of the blobs that (still) nothing refers to, and count their octets as dead."""
    removed = 0
    by_pack: dict[int, int] = {}
    for blob in blobs:
        row = tx.row(_REMOVE, blob=blob, now=now)
        if row is not None:
            tx.run("DELETE FROM retention WHERE blob = :blob", blob=blob)
            removed += 1
            by_pack[row[0]] = by_pack.get(row[0], 0) + row[1]
    packs = tuple(sorted(by_pack.items()))
    for pack, octets in packs:
        tx.run(_BURY, pack=pack, octets=octets, now=now)
    return Collected(removed, sum(by_pack.values()), packs)


def retain(tx: Transaction, blob: int, reason: str, until: float | None) -> None:
    """Keep content for a reason ("undelete", "hold", "archive") until a time, or until it is released (None)."""
    tx.run(
        "INSERT INTO retention (blob, reason, until) VALUES (:blob, :reason, :until)"
        " ON CONFLICT (blob, reason) DO UPDATE SET until = excluded.until",
        blob=blob,
        reason=reason,
        until=until,
    )


def release(tx: Transaction, blob: int, reason: str) -> None:
    tx.run("DELETE FROM retention WHERE blob = :blob AND reason = :reason", blob=blob, reason=reason)


# --- packs ----------------------------------------------------------------------------------------


def empty_packs(reader: Reader) -> list[int]:
    """Packs that hold nothing alive and take no more: `forget_pack`, then their files can go."""
    rows = reader.rows(
        "SELECT number FROM pack WHERE state <> :growing"
        " AND NOT EXISTS (SELECT 1 FROM blob WHERE blob.pack = pack.number) ORDER BY number",
        growing=int(PackState.GROWING),
    )
    return [row[0] for row in rows]


def forget_pack(tx: Transaction, pack: int) -> bool:
    """Drop the rows of a pack; False, and nothing is done, when something in it is alive, it still grows, or a
    backup under way may want it."""
    row = tx.row(
        "SELECT 1 FROM pack WHERE number = :pack AND state <> :growing"
        " AND NOT EXISTS (SELECT 1 FROM blob WHERE blob.pack = pack.number)"
        " AND NOT EXISTS (SELECT 1 FROM backup_hold)",
        pack=pack,
        growing=int(PackState.GROWING),
    )
    if row is None:
        return False
    ledger.forget_pack(tx, pack)
    tx.run("DELETE FROM dead_octets WHERE pack = :pack", pack=pack)
    return True


def candidates(reader: Reader, now: float, *, share: float = DEAD_SHARE, days: float = DEAD_DAYS) -> list[Candidate]:
    """Packs to compact: enough of them is dead, or something in them has been dead for too long. Most dead first.

    A pack of one spooled letter is alive or empty, never worth moving.
    """
    rows = reader.rows(
        "SELECT pack.number, pack.size, dead_octets.octets, dead_octets.since FROM dead_octets"
        " JOIN pack ON pack.number = dead_octets.pack WHERE pack.state <> :growing AND pack.kind = :log"
        " AND (dead_octets.octets >= :share * pack.size OR dead_octets.since <= :before)"
        " ORDER BY dead_octets.octets DESC, pack.number",
        growing=int(PackState.GROWING),
        log=int(PackKind.LOG),
        share=share,
        before=now - days * 86_400,
    )
    return [Candidate(*row) for row in rows]


def plan_compaction(reader: Reader, pack: int, after: int = -1, limit: int = COMPACTION_BLOBS) -> list[LiveBlob]:
    """What of a pack must be copied elsewhere, in order of its place there, behind offset `after`.

    Copy each with `relocate`; when nothing is left, `forget_pack`.
    """
    rows = reader.rows(
        "SELECT id, pack, pack_offset, length FROM blob WHERE pack = :pack AND pack_offset > :after"
        " ORDER BY pack_offset LIMIT :limit",
        pack=pack,
        after=after,
        limit=limit,
    )
    return [LiveBlob(row[0], BlobLocation(row[1], row[2], row[3])) for row in rows]


def bury(tx: Transaction, location: BlobLocation, now: float) -> None:
    """Count octets of a pack as dead."""
    tx.run(_BURY, pack=location.pack, octets=location.length, now=now)


def relocate(tx: Transaction, blob: LiveBlob, content: Content, note: bytes, now: float) -> BlobLocation | None:
    """Append a blob's content anew, with its note, and point its row there. None: it has gone or moved meanwhile."""
    row = tx.row("SELECT pack, pack_offset, length FROM blob WHERE id = :blob", blob=blob.id)
    if row is None or BlobLocation(*row) != blob.location:
        return None
    location = tx.append(content, note)
    tx.run(
        "UPDATE blob SET pack = :pack, pack_offset = :pack_offset WHERE id = :blob",
        blob=blob.id,
        pack=location.pack,
        pack_offset=location.offset,
    )
    tx.run(_BURY, pack=blob.location.pack, octets=blob.location.length, now=now)
    return location


def carry(tx: Transaction, location: BlobLocation, note: bytes) -> bool:
    """Append anew the note of a letter that has a pack of its own, where that letter is still alive.

    Its note lies in a shared pack, in a record that refers to it; when that pack goes, nothing else knows whose
    letter it is. Twice is harmless: the note names its blob.
    """
    try:
        blob = decode(note).blob
    except msgspec.MsgspecError:  # written by somebody else; no rebuilding could read it either
        return False
    row = tx.row("SELECT pack, pack_offset, length, hash FROM blob WHERE id = :blob", blob=blob)
    if row is None or BlobLocation(*row[:3]) != location:
        return False
    tx.append(Content(location.length, bytes(row[3]), sealed=location), note)
    return True
