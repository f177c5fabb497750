# SPDX-License-Identifier: Apache-2.0
"""What the rows know about packs: which exist, how far they are acknowledged, the last numbers given out.

Invariant: it changes in the same transaction as the rows that refer to the packs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from posthouse.ports import Reader, Transaction
from posthouse.store.blobs.record import PackKind


class PackState(IntEnum):
    GROWING = 1
    SEALED = 2
    TO_BE_CUT = 3  # sealed; its file is longer than what counts


@dataclass(frozen=True, slots=True)
class PackRow:
    number: int
    kind: PackKind
    state: PackState
    size: int


@dataclass(frozen=True, slots=True)
class StoreState:
    """The one row of store_state; see migrations/0000_store.sql."""

    pack: int
    tail: int
    last_id: int
    last_pack: int
    lineage: int
    lineage_before: int


def load_state(reader: Reader) -> StoreState:
    row = reader.row("SELECT pack, tail, last_id, last_pack, lineage, lineage_before FROM store_state WHERE id = 1")
    assert row is not None, "migration 0000 inserts it"
    return StoreState(*row)


def load_packs(reader: Reader) -> list[PackRow]:
    rows = reader.rows("SELECT number, kind, state, size FROM pack ORDER BY number")
    return [PackRow(number, PackKind(kind), PackState(state), size) for number, kind, state, size in rows]


def find_pack(reader: Reader, number: int) -> PackRow | None:
    row = reader.row("SELECT kind, state, size FROM pack WHERE number = :number", number=number)
    return None if row is None else PackRow(number, PackKind(row[0]), PackState(row[1]), row[2])


def save_pack(tx: Transaction, row: PackRow) -> None:
    tx.run(
        "INSERT INTO pack (number, kind, state, size) VALUES (:number, :kind, :state, :size)"
        " ON CONFLICT (number) DO UPDATE SET state = excluded.state, size = excluded.size",
        number=row.number,
        kind=int(row.kind),
        state=int(row.state),
        size=row.size,
    )


def has_pack(reader: Reader, number: int) -> bool:
    return reader.row("SELECT 1 FROM pack WHERE number = :number", number=number) is not None


def is_referred(reader: Reader, number: int) -> bool:
    """Whether any content is said to lie in this pack."""
    return reader.row("SELECT 1 FROM blob WHERE pack = :number LIMIT 1", number=number) is not None


def forget_pack(tx: Transaction, number: int) -> None:
    """Call it in the unit that drops the last reference; then `PackStore.remove` the file."""
    tx.run("DELETE FROM pack WHERE number = :number", number=number)


def save_tail(tx: Transaction, pack: int, tail: int, last_id: int, last_pack: int) -> None:
    tx.run(
        "UPDATE store_state SET pack = :pack, tail = :tail, last_id = :last_id, last_pack = :last_pack WHERE id = 1",
        pack=pack,
        tail=tail,
        last_id=last_id,
        last_pack=last_pack,
    )


def save_last_pack(tx: Transaction, last_pack: int) -> None:
    tx.run("UPDATE store_state SET last_pack = :last_pack WHERE id = 1 AND last_pack < :last_pack", last_pack=last_pack)


def save_lineage(tx: Transaction, lineage: int, before: int) -> None:
    tx.run(
        "UPDATE store_state SET lineage = :lineage, lineage_before = :before WHERE id = 1",
        lineage=lineage,
        before=before,
    )
