# SPDX-License-Identifier: Apache-2.0
"""The plain database of the store's tests on PostgreSQL: the same rules and tests, so that the SQL does not drift.

Every database of a test is one open transaction on a migrated schema, rolled back in the end; its units are
savepoints. Each statement seen is written to the file that POSTHOUSE_SEEN_STATEMENTS names, as a JSON line.
"""

from __future__ import annotations

import gc
import json
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest

from posthouse.net.disk import PosixDisk
from posthouse.ports import Row, Value
from posthouse.store.databases.migrate import packaged
from posthouse.store.databases.postgres_engine import connect, rewrite
from posthouse.store.databases.postgres_snapshot import copy_to_sqlite
from tests.cluster import new_schema
from tests.store.plain_database import PlainBlobs, PlainTransaction

# Databases that tests hold at once; more are probably garbage not yet collected.
HELD = 6

_idle: list[psycopg.Connection[Row]] = []
_count: list[int] = []
_seen: set[str] = set()


def _take(dsn: str) -> psycopg.Connection[Row]:
    """A connection in a transaction of its own, on a schema that no other has."""
    if not _idle and len(_count) >= HELD:
        gc.collect()
    if _idle:
        return _idle.pop()
    _count.append(1)
    connection = connect(new_schema(dsn, f"plain_{os.getpid()}_{len(_count)}"))
    for migration in packaged():
        for statement in migration.statements:
            connection.execute(rewrite(statement))
    connection.commit()
    return connection


def _give_back(connection: psycopg.Connection[Row]) -> None:
    connection.rollback()
    _idle.append(connection)


def _note(sql: str) -> None:
    if sql not in _seen:
        _seen.add(sql)
        if "POSTHOUSE_SEEN_STATEMENTS" in os.environ:
            with Path(os.environ["POSTHOUSE_SEEN_STATEMENTS"]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(sql) + "\n")


class PostgresEngine:
    def __init__(self, dsn: str) -> None:
        self._connection = _take(dsn)
        self._closed = weakref.finalize(self, _give_back, self._connection)
        self._closed.atexit = False

    @property
    def connection(self) -> _Connection:
        return _Connection(self._connection)

    def transaction(self, blobs: PlainBlobs, ids: list[int]) -> PlainTransaction:
        return PostgresPlainTransaction(self._connection, blobs, ids)

    @contextmanager
    def unit(self) -> Iterator[None]:
        self._connection.execute("SAVEPOINT unit")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK TO unit")
            raise
        finally:
            self._connection.execute("RELEASE unit")

    @contextmanager
    def query(self) -> Iterator[None]:
        self._connection.execute("SAVEPOINT query")
        try:
            self._connection.execute("SET LOCAL transaction_read_only = on")
            yield
        finally:
            self._connection.execute("ROLLBACK TO query")
            self._connection.execute("RELEASE query")

    def snapshot(self, target: Path) -> None:
        copy_to_sqlite(self._connection, target, PosixDisk(), packaged())

    def close(self) -> None:
        self._closed()


class _Connection:
    """As much of SQLite's connection as PostgreSQL has."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Mapping[str, Value] | tuple[Value, ...] = ()) -> None:
        places = b"%s" if isinstance(parameters, tuple) else b"?"
        self._connection.execute(rewrite(sql).replace(b"?", places), parameters or None)

    def __getattr__(self, name: str) -> NoReturn:
        pytest.skip("this test is about SQLite itself")


class PostgresPlainTransaction(PlainTransaction):
    """The same on a psycopg connection; content and ids are as in SQLite's."""

    def __init__(self, connection: psycopg.Connection[Row], blobs: PlainBlobs, ids: list[int]) -> None:
        super().__init__(None, blobs, ids)  # type: ignore[arg-type] # every method that uses it is replaced below
        self._cursor = connection.cursor()

    def rows(self, sql: str, /, **parameters: Value) -> list[Row]:
        self.statements += 1
        _note(sql)
        return self._cursor.execute(rewrite(sql), parameters).fetchall()

    def run(self, sql: str, /, **parameters: Value) -> int:
        self.statements += 1
        _note(sql)
        return self._cursor.execute(rewrite(sql), parameters).rowcount

    def many(self, sql: str, parameters: Iterable[Mapping[str, Value]], /) -> None:
        self.statements += 1
        _note(sql)
        self._cursor.executemany(rewrite(sql), [dict(each) for each in parameters])
