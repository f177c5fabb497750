# SPDX-License-Identifier: Apache-2.0
"""What only PostgreSQL has: rewritten statements, lost connections, several units at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.net.clock import SystemClock, SystemEntropy
from posthouse.net.disk import PosixDisk
from posthouse.net.workers import ThreadWorkers
from posthouse.ports import StoreFault
from posthouse.store.databases.migrate import packaged
from posthouse.store.databases.postgres import PostgresDatabase, open_postgres
from posthouse.store.databases.postgres_engine import rewrite
from posthouse.store.settings import StoreSettings
from tests.cluster import new_schema

from .machine import fault_words, keep, migrations, outcomes, say


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT :a, :a_b1", "SELECT %(a)s, %(a_b1)s"),
        ("SELECT ':a', 'it''s :b' WHERE x = :c", "SELECT ':a', 'it''s :b' WHERE x = %(c)s"),
        ("x LIKE 'a%' AND y % 2 = 0", "x LIKE 'a%%' AND y %% 2 = 0"),
        ("SELECT x::text, :y", "SELECT x::text, %(y)s"),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a REAL, b BLOB NOT NULL, c TEXT) WITHOUT ROWID",
            "CREATE TABLE t (id BIGINT PRIMARY KEY, a DOUBLE PRECISION, b BYTEA NOT NULL, c TEXT) ",
        ),
        ("\n  ALTER TABLE t ADD COLUMN x INTEGER", "\n  ALTER TABLE t ADD COLUMN x BIGINT"),
        ("CREATE TABLE blob (real_size INTEGER)", "CREATE TABLE blob (real_size BIGINT)"),
        ("SELECT CAST(:x AS INTEGER)", "SELECT CAST(%(x)s AS INTEGER)"),
    ],
)
def test_statements_are_rewritten_outside_quotes(text: str, expected: str) -> None:
    assert rewrite(text) == expected.encode()


@pytest.fixture
async def dsn(postgres: str) -> str:
    return new_schema(postgres, f"postgres_{os.getpid()}")


@pytest.fixture
async def database(dsn: str, tmp_path: Path) -> AsyncIterator[PostgresDatabase]:
    workers = ThreadWorkers()
    machine = (tmp_path, PosixDisk(), workers, SystemClock(), SystemEntropy())
    settings = StoreSettings(reserve_octets=0)
    database, packs = open_postgres(dsn, *machine, settings=settings, migrations=migrations())
    yield database
    await database.close()
    await packs.close()
    await workers.close()


def kill_all(dsn: str) -> None:
    """Every connection but our own is cut, as by a restart of the server."""
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


@pytest.mark.interop
async def test_lost_connections_are_replaced(database: PostgresDatabase, dsn: str) -> None:
    for turn in range(3):
        results = await outcomes(*(database.write(say(f"{turn} {n}")) for n in range(8)))
        assert fault_words(results) == ["ok"] * 8
        found = await database.read(lambda reader: reader.row("SELECT COUNT(*) FROM word"))
        assert found == (8 * (turn + 1),)
        kill_all(dsn)


@pytest.mark.interop
async def test_a_connection_lost_inside_a_unit_runs_it_again(database: PostgresDatabase, dsn: str) -> None:
    runs = []

    def unit(tx: Any) -> int:
        number: int = say("word")(tx)
        runs.append(number)
        if len(runs) == 1:
            kill_all(dsn)
        return number + len(tx.rows("SELECT id FROM word")) - 1

    assert await database.write(unit) == runs[1]
    assert await database.read(lambda reader: reader.rows("SELECT id FROM word")) == [(runs[1],)]


@pytest.mark.interop
async def test_a_server_that_is_away_is_a_store_fault(dsn: str, tmp_path: Path) -> None:
    workers = ThreadWorkers()
    away = "host=/nonexistent dbname=none"
    with pytest.raises(StoreFault, match="the database failed"):
        open_postgres(away, tmp_path, PosixDisk(), workers, SystemClock(), SystemEntropy(), migrations=migrations())
    await workers.close()


@pytest.mark.interop
async def test_letters_of_units_that_run_together_do_not_meet(database: PostgresDatabase, tmp_path: Path) -> None:
    results = await outcomes(*(database.write(keep(b"%d," % n * 500)) for n in range(40)))
    assert fault_words(results) == ["ok"] * 40
    rows = await database.read(lambda reader: reader.rows("SELECT id, pack, place, length FROM letter"))
    octets = {
        row[0]: (tmp_path / "packs" / f"{row[1]:015d}.pack").read_bytes()[row[2] : row[2] + row[3]] for row in rows
    }
    assert octets == {number: b"%d," % n * 500 for n, number in enumerate(results)}


@pytest.mark.interop
async def test_the_houses_own_schema_applies_and_its_snapshot_is_the_same_schema(dsn: str, tmp_path: Path) -> None:
    workers = ThreadWorkers()
    machine = (tmp_path, PosixDisk(), workers, SystemClock(), SystemEntropy())
    database, packs = open_postgres(dsn, *machine, settings=StoreSettings(reserve_octets=0))
    await database.snapshot(tmp_path / "copy")
    await database.close()
    await packs.close()
    await workers.close()
    copy = sqlite3.connect(tmp_path / "copy")
    applied = copy.execute("SELECT number, checksum FROM migration ORDER BY number").fetchall()
    copy.close()
    assert applied == [(migration.number, migration.checksum) for migration in packaged()]


@pytest.mark.interop
async def test_a_key_that_is_too_long_is_the_fault_of_its_unit(database: PostgresDatabase) -> None:
    """Not one of the machine, after which everybody tries again: nothing would ever come of that."""
    long = "".join(chr(0x4E00 + number) for number in range(5000))
    results = await outcomes(*(database.write(say(text)) for text in ("one", long, "two")))
    assert fault_words(results) == ["ok", "ProgramLimitExceeded", "ok"]
