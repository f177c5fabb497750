# SPDX-License-Identifier: Apache-2.0
"""Migrations are applied once, in order, and a schema that is not ours is refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthouse.net.clock import SystemEntropy
from posthouse.net.disk import PosixDisk
from posthouse.ports import StoreFault
from posthouse.store.databases.migrate import Migration, migrate, packaged
from posthouse.store.databases.sqlite import open_sqlite

from .machine import InlineWorkers, SetClock

FIRST = packaged()[0]
TABLE = Migration(9001, "table", "-- a comment; with\nCREATE TABLE t (\n  id INTEGER PRIMARY KEY -- not; here\n);\n")
VALUES = Migration(9002, "values", "INSERT INTO t (id) VALUES (1);\r\nINSERT INTO t (id)\r\n  VALUES (2);")


async def opened(folder: Path, migrations: list[Migration], look: Callable[[Any], Any]) -> Any:
    machine = (PosixDisk(), InlineWorkers(), SetClock(), SystemEntropy())
    database, packs = open_sqlite(folder, *machine, migrations=migrations)
    found = await database.read(look)
    await database.close()
    await packs.close()
    return found


def test_statements_end_at_a_semicolon_at_a_lines_end_outside_comments_and_quotes() -> None:
    text = (
        "CREATE TABLE a (x TEXT DEFAULT ';--');  \n-- only a comment;\nINSERT INTO a (x) VALUES ('it''s -- kept') ;\n"
    )
    assert Migration(1, "x", text).statements == [
        "CREATE TABLE a (x TEXT DEFAULT ';--')",
        "INSERT INTO a (x) VALUES ('it''s -- kept')",
    ]
    assert len(TABLE.statements) == 1
    assert len(VALUES.statements) == 2


def test_a_checksum_does_not_depend_on_line_ends() -> None:
    assert Migration(1, "x", "a;\nb;\n").checksum == Migration(1, "x", "a;\r\nb;\r\n").checksum


def test_the_packaged_migrations_are_numbered_without_doubles() -> None:
    numbers = [migration.number for migration in packaged()]
    assert numbers[0] == 0
    assert numbers == sorted(set(numbers))


async def test_each_is_applied_once_and_new_ones_follow(tmp_path: Path) -> None:
    def look(reader: Any) -> Any:
        return reader.rows("SELECT id FROM t ORDER BY id")

    assert await opened(tmp_path, [FIRST, TABLE], look) == []
    assert await opened(tmp_path, [FIRST, TABLE, VALUES], look) == [(1,), (2,)]
    assert await opened(tmp_path, [FIRST, TABLE, VALUES], look) == [(1,), (2,)]
    applied = await opened(
        tmp_path, [FIRST, TABLE, VALUES], lambda reader: reader.rows("SELECT number, name FROM migration")
    )
    assert applied == [(0, "store"), (9001, "table"), (9002, "values")]


async def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    await opened(tmp_path, [FIRST, TABLE], lambda reader: None)
    changed = Migration(9001, "table", TABLE.text + "\n")
    with pytest.raises(StoreFault, match=r"9001 .table. is not the one that made this database"):
        await opened(tmp_path, [FIRST, changed], lambda reader: None)


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    await opened(tmp_path, [FIRST, TABLE], lambda reader: None)
    with pytest.raises(StoreFault, match="newer version"):
        await opened(tmp_path, [FIRST], lambda reader: None)


async def test_a_broken_migration_leaves_nothing(tmp_path: Path) -> None:
    broken = Migration(9002, "broken", "CREATE TABLE u (id INTEGER);\nINSERT INTO nowhere (id) VALUES (1);\n")
    with pytest.raises(StoreFault):
        await opened(tmp_path, [FIRST, TABLE, broken], lambda reader: None)
    good = Migration(9002, "broken", "CREATE TABLE u (id INTEGER);\n")
    assert await opened(tmp_path, [FIRST, TABLE, good], lambda reader: reader.rows("SELECT id FROM u")) == []


def test_two_files_with_one_number_are_refused() -> None:
    class Nothing:
        def run(self, sql: str) -> int:
            return 0

        def rows(self, sql: str) -> list[Any]:
            return []

    with pytest.raises(StoreFault, match="same number"):
        migrate(lambda work: work(Nothing()), [TABLE, TABLE], 0.0)  # type: ignore[arg-type] # all that is needed
