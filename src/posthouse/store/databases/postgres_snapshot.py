# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL database copied into one SQLite file. Invariant: it is of one moment (one REPEATABLE READ).

The schema is the same text on both, so the copy can be opened, searched and restored without a server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import psycopg
from psycopg import sql

from posthouse.ports import Disk, Row, StoreFault
from posthouse.store.databases.migrate import Migration

# Rows held in memory at a time.
ROWS_AT_ONCE = 1000


def copy_to_sqlite(source: psycopg.Connection[Row], target: Path, disk: Disk, migrations: Sequence[Migration]) -> None:
    """Raises psycopg's errors, and StoreFault for the file's side."""
    draft = target.with_name(target.name + ".part")
    try:
        disk.make_folder(draft.parent)
        with contextlib.suppress(OSError):
            disk.unlink(draft)
        disk.append(draft).close()  # created 0600
        _fill(source, draft, migrations)
        file = disk.append(draft)
        try:
            file.sync()
        finally:
            file.close()
        disk.rename(draft, target)
    except (apsw.Error, OSError) as error:
        with contextlib.suppress(OSError):
            disk.unlink(draft)
        raise StoreFault(f"the snapshot cannot be written: {error}") from error


def _fill(source: psycopg.Connection[Row], draft: Path, migrations: Sequence[Migration]) -> None:
    copy = apsw.Connection(str(draft))
    try:
        copy.execute("PRAGMA synchronous = OFF").fetchall()  # the whole file is synced at the end
        copy.execute("BEGIN")
        for migration in migrations:
            for statement in migration.statements:
                copy.execute(statement)
        names = [name for (name,) in source.execute(_TABLES).fetchall()]
        for name in names:
            _copy_table(source, copy.execute, copy.executemany, name)
        copy.execute("COMMIT")
    finally:
        copy.close()


_TABLES = (
    "SELECT table_name::text FROM information_schema.tables"
    " WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY table_name"
)


def _copy_table(
    source: psycopg.Connection[Row], run: Callable[..., object], many: Callable[..., object], name: str
) -> None:
    with source.cursor(name="snapshot") as cursor:
        cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name)))
        columns = [column.name for column in cursor.description or ()]
        if name == "migration":
            run("CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT, checksum TEXT, applied_at REAL)")
        run(f'DELETE FROM "{name}"')  # noqa: S608 - what the migrations themselves inserted; the name is the schema's
        places = ", ".join("?" * len(columns))
        insert = f'INSERT INTO "{name}" ({", ".join(columns)}) VALUES ({places})'  # noqa: S608 - as above
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            many(insert, rows)
