# SPDX-License-Identifier: Apache-2.0
"""The queue of a restored house: everything is tried again or held, and nothing is given up for the lost days."""

from __future__ import annotations

from typing import Any

import pytest

from posthouse.store import queue_restore
from tests.store.plain_database import PlainDatabase

NOW = 1_700_000_000.0
DAY = 86_400.0
STATES = ("due", "claimed", "held", "delivered")


@pytest.fixture
def db() -> Any:
    database = PlainDatabase()

    def unit(tx: Any) -> None:
        for number, state in enumerate(STATES, 1):
            tx.run(
                "INSERT INTO queue_recipient (id, letter, address, next_hop, state, due_at, warn_at, expires_at,"
                " deadline_at, attempts, hold_asked, owner, leased_until) VALUES (:id, 1, 'x@a.test', 'a.test', :state,"
                " :due, :warn, :expires, :warn, 2, 0, :owner, :leased)",
                id=number,
                state=state,
                due=NOW + 60,
                warn=NOW + 100,
                expires=NOW + DAY,
                owner="dead" if state == "claimed" else None,
                leased=NOW + 300 if state == "claimed" else None,
            )
        tx.run(
            "INSERT INTO queue_destination (next_hop, ready_at, failures, down_since, down_until)"
            " VALUES ('a.test', :until, 3, :now, :until)",
            until=NOW + 900,
            now=NOW,
        )

    database.run(unit)
    return database


def rows(db: PlainDatabase, what: str) -> list[Any]:
    return db.look(lambda reader: reader.rows(f"SELECT {what} FROM queue_recipient ORDER BY id"))


def test_what_was_claimed_is_due_and_time_goes_on_where_it_stood(db: PlainDatabase) -> None:
    """Ten days in a backup: the letters have what they had left until their warning and their expiry."""
    later = NOW + 10 * DAY
    assert db.run(lambda tx: queue_restore.resume(tx, lost_seconds=10 * DAY, now=later, is_held=False)) == 3
    assert [row[0] for row in rows(db, "state")] == ["due", "due", "held", "delivered"]
    assert rows(db, "owner, leased_until") == [(None, None)] * 4
    shifted = (later + 100, later + DAY, later + 100)
    assert rows(db, "warn_at, expires_at, deadline_at") == [shifted] * 3 + [(NOW + 100, NOW + DAY, NOW + 100)]
    told = db.look(
        lambda reader: reader.row("SELECT ready_at, failures, down_since, down_until FROM queue_destination")
    )
    assert told == (later, 0, None, 0), "it is tried at once, whatever the network was like then"


def test_held_nothing_is_tried(db: PlainDatabase) -> None:
    assert db.run(lambda tx: queue_restore.resume(tx, lost_seconds=0, now=NOW, is_held=True)) == 3
    assert [row[0] for row in rows(db, "state")] == ["held", "held", "held", "delivered"]
    assert db.look(lambda reader: reader.row("SELECT ready_at FROM queue_destination")) == (None,)


def test_a_clock_behind_the_backup_shortens_nothing(db: PlainDatabase) -> None:
    db.run(lambda tx: queue_restore.resume(tx, lost_seconds=-500, now=NOW, is_held=False))
    assert [row[0] for row in rows(db, "expires_at")] == [NOW + DAY] * 4
