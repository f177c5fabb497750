# SPDX-License-Identifier: Apache-2.0
"""Backups under way. Invariant: while one holds the packs, none is removed, whoever has opened the store meanwhile.

A hold is a row with an end, so that it outlives the server that gave it, and ends by itself when the one who copies
is gone. `garbage.forget_pack` asks here in the same unit that would let a pack go.
"""

from __future__ import annotations

from posthouse.ports import Reader, Transaction


def begin(tx: Transaction, *, now: float, until: float) -> int:
    """Hold all packs until then; the hold's id. Packs that no row knows any more are not held: they are going."""
    hold = tx.new_id()
    tx.run(
        "INSERT INTO backup_hold (id, began_at, held_until) VALUES (:id, :now, :until)", id=hold, now=now, until=until
    )
    return hold


def renew(tx: Transaction, hold: int, *, now: float, until: float) -> bool:
    """False when it ran out or was ended: packs may have gone since."""
    return bool(
        tx.run(
            "UPDATE backup_hold SET held_until = :until WHERE id = :id AND held_until > :now",
            id=hold,
            now=now,
            until=until,
        )
    )


def end(tx: Transaction, hold: int) -> bool:
    return bool(tx.run("DELETE FROM backup_hold WHERE id = :id", id=hold))


def end_expired(tx: Transaction, *, now: float) -> int:
    return tx.run("DELETE FROM backup_hold WHERE held_until <= :now", now=now)


def end_all(tx: Transaction) -> int:
    """In a restored house: the backup that it comes from held the packs of another one."""
    return tx.run("DELETE FROM backup_hold")


def running(reader: Reader) -> list[int]:
    """The holds there are, also those that ran out and were not yet ended."""
    return [row[0] for row in reader.rows("SELECT id FROM backup_hold ORDER BY id")]
