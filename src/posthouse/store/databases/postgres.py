# SPDX-License-Identifier: Apache-2.0
"""The Database port on PostgreSQL, with packs on this machine. Invariant: each unit is a transaction of its own.

Units run in worker threads, SERIALIZABLE, and again when the database asks for it. A connection lost before
COMMIT is replaced and the unit run again; one lost during COMMIT is a StoreFault, for nobody knows whether the
unit was stored, and running it twice might deliver twice what was stored once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

import psycopg
from psycopg import errors

from posthouse import telemetry
from posthouse.ports import Clock, Disk, Entropy, Reader, Row, StoreFault, Transaction, Workers
from posthouse.store.blobs import ledger
from posthouse.store.blobs.appender import PackAppender
from posthouse.store.blobs.ledger import PackRow, PackState
from posthouse.store.blobs.packs import PackStore
from posthouse.store.blobs.recovery import adopt, check_lineage, read_lineage, recover, renew_lineage
from posthouse.store.blobs.shared import SharedAppender
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.databases.migrate import Migration, migrate, packaged
from posthouse.store.databases.postgres_engine import (
    PostgresReader,
    PostgresTransaction,
    connect,
    translate,
)
from posthouse.store.databases.postgres_snapshot import copy_to_sqlite
from posthouse.store.numbers import Numbers, id_at
from posthouse.store.settings import StoreSettings

T = TypeVar("T")

PACK_FOLDER = "packs"
# A serialization failure means that another unit went through; so many in a row mean something is wrong.
MAX_TRIES = 50
# A connection that is lost again and again is an outage: the caller is told.
MAX_RECONNECTS = 2
# Ids are reserved in blocks, so that units do not meet on one row. A block is left after a second, so that ids
# of several nodes are in the order of time, to the second.
ID_BLOCK = 1024
ID_BLOCK_SECONDS = 1.0

_RETRY = (errors.SerializationFailure, errors.DeadlockDetected)


class BlockIds:
    """Ids from blocks that the database gives out; each greater than the one before, and no other node's."""

    def __init__(self, dsn: str, clock: Clock) -> None:
        self._dsn = dsn
        self._clock = clock
        self._lock = Lock()
        self._connection: psycopg.Connection[Row] | None = None
        self._next = 0
        self._end = 0
        self._since = 0.0

    def new_id(self) -> int:
        with self._lock:
            if self._next >= self._end or self._clock.monotonic() - self._since > ID_BLOCK_SECONDS:
                self._reserve()
            self._next += 1
            return self._next

    def _reserve(self) -> None:
        try:
            self._end = self._ask()
        except psycopg.OperationalError:
            if self._connection is not None and not self._connection.closed:
                raise
            self._end = self._ask()  # the server was restarted since the last block
        self._next = self._end - ID_BLOCK
        self._since = self._clock.monotonic()

    def _ask(self) -> int:
        if self._connection is not None and self._connection.closed:
            self._connection.close()  # it is broken; this lets go of it
            self._connection = None
        if self._connection is None:
            self._connection = connect(self._dsn, is_automatic=True)
        found = self._connection.execute(
            "UPDATE store_state SET last_id = GREATEST(last_id, %s) + %s WHERE id = 1 RETURNING last_id",
            (id_at(self._clock.wall()), ID_BLOCK),
        ).fetchone()
        assert found is not None, "migration 0000 inserts the row"
        return int(found[0])

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()


class PostgresDatabase:
    """Units and queries on one PostgreSQL server."""

    def __init__(
        self, dsn: str, workers: Workers, shelf: Shelf, ids: BlockIds, *, migrations: Sequence[Migration]
    ) -> None:
        self._dsn = dsn
        self._workers = workers
        self._shelf = shelf
        self._ids = ids
        self._migrations = migrations
        self._writers: list[psycopg.Connection[Row]] = []  # idle ones, as many as threads ran at once
        self._readers: list[psycopg.Connection[Row]] = []
        self._is_closed = False
        self._running = 0
        self._quiet: asyncio.Future[None] | None = None  # set when the last one ends after `close` was called
        self.appender = PackAppender(shelf)
        self.packs = SharedAppender(self.appender, self._record_packs)

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        return await self._work(partial(self.run_unit, unit), "disk")

    async def read(self, query: Callable[[Reader], T]) -> T:
        return await self._work(partial(self._query, query), "read")

    async def snapshot(self, target: Path) -> None:
        """A copy as an SQLite database of the same schema: one file, which any posthouse can open."""
        await self._work(partial(self._snapshot, target), "disk")

    async def close(self) -> None:
        """What was handed in before is finished first."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._running:
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet
        await self._workers.run(self.close_connections, pool="disk")

    async def _work(self, work: Callable[[], T], pool: str) -> T:
        if self._is_closed:
            raise StoreFault("the store is closed")
        # The thread goes on when the caller is cancelled, so its end is counted, not the caller's.
        running = asyncio.ensure_future(self._workers.run(work, pool=pool))
        self._running += 1
        running.add_done_callback(self._ended)
        return await asyncio.shield(running)

    def _ended(self, running: asyncio.Future[T]) -> None:
        if not running.cancelled():
            running.exception()  # the caller has been told, or was cancelled and does not ask
        self._running -= 1
        if self._quiet is not None and not self._running and not self._quiet.done():
            self._quiet.set_result(None)

    # --- in a worker -----------------------------------------------------------------------------

    def run_unit(self, unit: Callable[[Transaction], T]) -> T:
        """Run a unit until it is committed or fails for its own reasons."""
        reconnects = 0
        for _ in range(MAX_TRIES):
            try:
                return self._try(unit)
            except _RETRY:
                continue
            except _ConnectionLostError as lost:
                reconnects += 1
                _close_all(self._writers)  # they go to the same server
                if reconnects > MAX_RECONNECTS:
                    raise translate(lost.cause) from lost.cause
            except psycopg.Error as error:
                raise translate(error) from error
        raise StoreFault(f"the database refused the same unit {MAX_TRIES} times for its neighbours' sake")

    def _try(self, unit: Callable[[Transaction], T]) -> T:
        connection = _take(self._writers) or connect(self._dsn)
        transaction = PostgresTransaction(connection, self.packs, self._shelf, self._ids.new_id)
        is_stored = is_committing = False
        try:
            try:
                result = unit(transaction)
            except psycopg.Error as error:
                if connection.closed:
                    raise _ConnectionLostError(error) from error
                raise
            is_committing = True
            connection.commit()
            is_stored = True
            return result
        finally:
            if not is_stored:
                if is_committing:  # the connection may have broken after the server had done it
                    self._shelf.doubtful.update(transaction.claimed)
                self._shelf.loose.update(transaction.claimed)
                with contextlib.suppress(psycopg.Error):
                    connection.rollback()
            self._put_back(self._writers, connection)

    def _query(self, query: Callable[[Reader], T]) -> T:
        for is_last in (False, True):
            connection = None
            try:
                connection = _take(self._readers) or connect(self._dsn, is_reader=True)
                return query(PostgresReader(connection))
            except psycopg.Error as error:
                if is_last or connection is None or not connection.closed:
                    raise translate(error) from error
                _close_all(self._readers)  # the server was restarted: once more, on a new connection
            finally:
                if connection is not None:
                    with contextlib.suppress(psycopg.Error):
                        connection.rollback()
                    self._put_back(self._readers, connection)
        raise StoreFault("the database cannot be read")

    def _put_back(self, idle: list[psycopg.Connection[Row]], connection: psycopg.Connection[Row]) -> None:
        if self._is_closed or connection.closed or connection.broken:
            connection.close()
        else:
            idle.append(connection)

    def _record_packs(self, rows: Sequence[PackRow]) -> None:
        def record(tx: Transaction) -> None:
            for row in rows:
                ledger.save_pack(tx, row)
            ledger.save_last_pack(tx, self._shelf.last_pack)

        self.run_unit(record)

    def _snapshot(self, target: Path) -> None:
        try:
            connection = connect(self._dsn, is_reader=True)
            try:
                copy_to_sqlite(connection, target, self._shelf.disk, self._migrations)
            finally:
                connection.close()
        except psycopg.Error as error:
            raise translate(error) from error
        # From now on the copy is older than the packs, and must be told apart from the database itself.
        renew_lineage(self._shelf, self.run_unit, self._ids.new_id(), read_lineage(self._shelf) or 0)

    def close_connections(self) -> None:
        _close_all(self._writers)
        _close_all(self._readers)
        self._ids.close()
        self.packs.close()


def _take(idle: list[psycopg.Connection[Row]]) -> psycopg.Connection[Row] | None:
    """An idle connection that was not seen to break, if there is one; other threads take theirs meanwhile."""
    with contextlib.suppress(IndexError):
        while True:
            connection = idle.pop()
            if not connection.closed:
                return connection
    return None


def _close_all(idle: list[psycopg.Connection[Row]]) -> None:
    while (connection := _take(idle)) is not None:
        connection.close()


class _ConnectionLostError(Exception):
    """The connection was lost while a unit ran, before its COMMIT."""

    def __init__(self, cause: psycopg.Error) -> None:
        super().__init__(str(cause))
        self.cause = cause


def open_postgres(
    dsn: str,
    folder: Path,
    disk: Disk,
    workers: Workers,
    clock: Clock,
    entropy: Entropy,
    *,
    settings: StoreSettings | None = None,
    migrations: Sequence[Migration] | None = None,
) -> tuple[PostgresDatabase, PackStore]:
    """As `open_sqlite`, with the rows on a PostgreSQL server (`dsn` as libpq takes it)."""
    shelf = Shelf(folder / PACK_FOLDER, disk, Numbers(clock), entropy, settings or StoreSettings())
    chosen = packaged() if migrations is None else migrations
    database = PostgresDatabase(dsn, workers, shelf, BlockIds(dsn, clock), migrations=chosen)
    try:
        packs = _open(database, shelf, workers, clock, chosen)
    except psycopg.Error as error:
        database.close_connections()
        raise StoreFault(f"the database cannot be opened: {error}") from error
    except OSError as error:
        database.close_connections()
        raise StoreFault(f"the store in {folder} cannot be opened: {error}") from error
    except BaseException:
        database.close_connections()
        raise
    return database, packs


def _open(
    database: PostgresDatabase, shelf: Shelf, workers: Workers, clock: Clock, migrations: Sequence[Migration]
) -> PackStore:
    shelf.disk.make_folder(shelf.folder)
    migrate(database.run_unit, migrations, clock.wall())
    state = database.run_unit(ledger.load_state)
    rows = database.run_unit(ledger.load_packs)
    shelf.counters.last_pack = max([state.last_pack, *shelf.numbers()])
    if shelf.settings.adopt:
        recovery = adopt(shelf, rows, database.run_unit)
    else:
        check_lineage(shelf, state)
        recovery = recover(shelf, database.appender, state, rows, database.run_unit)
        _seal_growing(shelf, rows, database)
    ids = database.run_unit(lambda tx: tx.new_id())
    renew_lineage(shelf, database.run_unit, ids, read_lineage(shelf) or 0)
    if recovery.removed or recovery.findings or recovery.cut_octets:
        telemetry.logger("store").warning("recovered", removed=len(recovery.removed), findings=recovery.findings)
    return PackStore(shelf, workers, recovery)


def _seal_growing(shelf: Shelf, rows: Sequence[PackRow], database: PostgresDatabase) -> None:
    """Every start begins a new pack: the last one may end with a torn record, and nobody knows its tail."""
    present = frozenset(shelf.numbers())
    growing = [row for row in rows if row.state is PackState.GROWING and row.number in present]

    def seal(tx: Transaction) -> None:
        for row in growing:
            ledger.save_pack(tx, PackRow(row.number, row.kind, PackState.SEALED, len(shelf.map(row.number))))

    if growing:
        database.run_unit(seal)
