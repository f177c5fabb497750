# SPDX-License-Identifier: Apache-2.0
"""The simplest thing that keeps the promises of `Database` and `BlobStore`: SQLite in memory, packs in a dict.

For tests of store functions and services that are not about the database driver itself. Every unit runs at
once in a savepoint of its own; content appended by a unit that fails is forgotten with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apsw

from posthouse.ports import BlobLocation, Buffer, Content, Row, StoreFault, Value

T = TypeVar("T")
FIRST_ID = 1_000  # well above the few ids that migrations number themselves


def migrations() -> list[tuple[str, str]]:
    """(name, SQL) of every migration, in order."""
    folder = resources.files("posthouse.store.migrations")
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".sql")), key=lambda item: item.name)
    return [(item.name, item.read_text(encoding="utf-8")) for item in files]


class PlainTransaction:
    """Implements `Transaction` on one apsw connection."""

    def __init__(self, connection: apsw.Connection, blobs: PlainBlobs, ids: list[int]) -> None:
        self._connection = connection
        self._blobs = blobs
        self._ids = ids
        self.statements = 0
        self.appended: list[BlobLocation] = []

    def row(self, sql: str, /, **parameters: Value) -> Row | None:
        rows = self.rows(sql, **parameters)
        return rows[0] if rows else None

    def rows(self, sql: str, /, **parameters: Value) -> list[Row]:
        self.statements += 1
        return list(self._connection.execute(sql, parameters))

    def run(self, sql: str, /, **parameters: Value) -> int:
        self.statements += 1
        before = self._connection.total_changes()
        for _ in self._connection.execute(sql, parameters):
            pass
        return self._connection.total_changes() - before

    def add(self, sql: str, rows: Sequence[Mapping[str, Value]], /) -> None:
        self.many(sql, rows)

    def many(self, sql: str, parameters: Iterable[Mapping[str, Value]], /) -> None:
        self.statements += 1
        for each in parameters:
            self._connection.execute(sql, dict(each))

    def new_id(self) -> int:
        self._ids[0] += 1
        return self._ids[0]

    def append(self, content: Content, note: bytes) -> BlobLocation:
        location = self._blobs.append(content, note)
        self.appended.append(location)
        return location


class PlainBlobs:
    """Implements `BlobStore`. Pack 1 takes what units append; spooled content gets a pack of its own."""

    def __init__(self) -> None:
        self.contents: dict[BlobLocation, bytes] = {}
        self.notes: dict[BlobLocation, bytes] = {}
        self._tail = 0
        self._packs = 1

    def append(self, content: Content, note: bytes) -> BlobLocation:
        if content.sealed is not None:
            location = content.sealed
        else:
            assert content.octets is not None
            assert len(content.octets) == content.size
            location = BlobLocation(1, self._tail, content.size)
            self._tail += content.size + 1  # two empty contents must not share a location
            self.contents[location] = bytes(content.octets)
        self.notes[location] = note
        return location

    def forget(self, locations: list[BlobLocation]) -> None:
        """Undo `append`: notes go, and with them the contents of the shared pack."""
        for location in locations:
            self.notes.pop(location, None)
            if location.pack == 1:
                self.contents.pop(location, None)

    def seal(self, octets: bytes) -> BlobLocation:
        self._packs += 1
        location = BlobLocation(self._packs, 0, len(octets))
        self.contents[location] = octets
        return location

    async def open(self, location: BlobLocation) -> memoryview:
        try:
            return memoryview(self.contents[location])
        except KeyError:
            raise StoreFault(f"no content at {location}") from None

    async def open_all(self, locations: Sequence[BlobLocation]) -> list[memoryview | StoreFault]:
        found: list[memoryview | StoreFault] = []
        for location in locations:
            try:
                found.append(await self.open(location))
            except StoreFault as fault:
                found.append(fault)
        return found

    async def beginning(self, location: BlobLocation, octets: int) -> bytes:
        return bytes((await self.open(location))[:octets])

    def spool(self) -> PlainSpool:
        return PlainSpool(self)

    async def close(self) -> None:
        self.contents.clear()


class PlainSpool:
    def __init__(self, blobs: PlainBlobs) -> None:
        self._blobs = blobs
        self._octets = bytearray()

    async def write(self, chunk: Buffer) -> None:
        self._octets += chunk

    async def seal(self) -> BlobLocation:
        return self._blobs.seal(bytes(self._octets))

    async def discard(self) -> None:
        self._octets.clear()


class PlainEngine(Protocol):
    """The database below: this module's SQLite, or PostgreSQL (plain_postgres.py)."""

    @property
    def connection(self) -> Any: ...

    def transaction(self, blobs: PlainBlobs, ids: list[int]) -> PlainTransaction: ...

    def unit(self) -> AbstractContextManager[None]:
        """What is done inside is undone when it raises."""

    def query(self) -> AbstractContextManager[None]:
        """What is done inside may change nothing."""

    def snapshot(self, target: Path) -> None: ...

    def close(self) -> None: ...


class SqliteEngine:
    def __init__(self) -> None:
        self.connection = apsw.Connection(":memory:")
        self.connection.execute("PRAGMA foreign_keys = ON")
        for _, sql in migrations():
            self.connection.execute(sql)

    def transaction(self, blobs: PlainBlobs, ids: list[int]) -> PlainTransaction:
        return PlainTransaction(self.connection, blobs, ids)

    @contextmanager
    def unit(self) -> Iterator[None]:
        self.connection.execute("SAVEPOINT unit")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK TO unit")
            raise
        finally:
            self.connection.execute("RELEASE unit")

    @contextmanager
    def query(self) -> Iterator[None]:
        before = self.connection.total_changes()
        yield
        assert self.connection.total_changes() == before, "a query changed something"

    def snapshot(self, target: Path) -> None:
        copy = apsw.Connection(str(target))
        with copy.backup("main", self.connection, "main") as backup:
            backup.step()
        copy.close()

    def close(self) -> None:
        self.connection.close()


def open_engine() -> PlainEngine:
    """SQLite in memory; PostgreSQL where POSTHOUSE_PLAIN_POSTGRES names a server (tests/interop sets it)."""
    dsn = os.environ.get("POSTHOUSE_PLAIN_POSTGRES")
    if dsn is None:
        return SqliteEngine()
    from tests.store.plain_postgres import PostgresEngine

    return PostgresEngine(dsn)


class PlainDatabase:
    """Implements `Database`. `run` and `look` are the same as `write` and `read` for tests without a loop."""

    def __init__(self, blobs: PlainBlobs | None = None) -> None:
        self.blobs = blobs or PlainBlobs()
        self._engine = open_engine()
        self._ids = [FIRST_ID]
        self.writes = 0  # units run so far
        self.reads = 0  # queries run so far
        self.last_statements = 0  # statements of the last unit or query
        self.fault: StoreFault | None = None  # set it: every unit fails with it

    @property
    def connection(self) -> Any:
        """The one below: to change rows behind everybody's back, and for what only SQLite can tell a test."""
        return self._engine.connection

    def run(self, unit: Callable[[Any], T]) -> T:
        """Run one unit of work, at once."""
        self.writes += 1
        if self.fault is not None:
            raise self.fault
        transaction = self._engine.transaction(self.blobs, self._ids)
        try:
            with self._engine.unit():
                return unit(transaction)
        except BaseException:
            self.blobs.forget(transaction.appended)
            raise
        finally:
            self.last_statements = transaction.statements

    def look(self, query: Callable[[Any], T]) -> T:
        """Run one query, at once. Whatever it writes is an error of the test."""
        self.reads += 1
        transaction = self._engine.transaction(self.blobs, self._ids)
        try:
            with self._engine.query():
                return query(transaction)
        finally:
            self.last_statements = transaction.statements

    async def write(self, unit: Callable[[Any], T]) -> T:
        return self.run(unit)

    async def read(self, query: Callable[[Any], T]) -> T:
        return self.look(query)

    async def snapshot(self, target: Path) -> None:
        self._engine.snapshot(target)

    async def close(self) -> None:
        self._engine.close()
