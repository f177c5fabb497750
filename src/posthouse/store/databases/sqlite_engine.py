# SPDX-License-Identifier: Apache-2.0
"""SQLite connections, the running transaction, and checkpoints. Invariant: one writer, in the committer's thread.

A checkpoint copies the write-ahead log into the database file, so that the log can start again from its
beginning. The bulk is done by a worker on a connection of its own (PASSIVE: it waits for nobody and nobody
waits for it); what was written meanwhile, a little, is copied by the committer right after, so the log is
empty at one moment even on a server that is never idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import apsw

from posthouse import telemetry
from posthouse.ports import BlobLocation, Conflict, Content, Row, StoreFault, Value, Workers
from posthouse.store.blobs import ledger
from posthouse.store.blobs.appender import PackAppender
from posthouse.store.blobs.ledger import PackRow, PackState
from posthouse.store.blobs.record import PACK_HEADER_SIZE, RECORD_HEADER_SIZE, PackKind
from posthouse.store.databases.gathered import Gathered
from posthouse.store.numbers import Numbers

# Another program may hold a lock for a moment (a backup tool, the sqlite3 shell); longer is a fault.
BUSY_MILLISECONDS = 5_000
# More than the statements of the house, so that none is parsed twice.
STATEMENT_CACHE = 512
# 16 MiB per connection: the inner pages of the indexes of some million letters.
CACHE_KIB = 16 * 1024
# 32 MiB of log at 4 KiB a page: hot pages are written back once per several thousand letters, and reading the
# log after a crash takes well under a second.
CHECKPOINT_PAGES = 8 * 1024
# In idle time the committer itself copies up to 4 MiB; with more, whoever comes next would wait for it.
IDLE_PAGES = 1024
# A log that once grew (a long snapshot) is cut back to this when it starts again.
WAL_LIMIT_OCTETS = 64 * 1024 * 1024

_MACHINE_FAULTS = (
    apsw.FullError,
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.InternalError,
    apsw.ConnectionClosedError,
)


def translate(error: Exception) -> Exception:
    """The driver's error in the words of the ports; what is a fault of the statement stays as it is."""
    if isinstance(error, _MACHINE_FAULTS):
        return StoreFault(f"the database failed: {error}", is_full=isinstance(error, apsw.FullError))
    if isinstance(error, apsw.ConstraintError):
        return Conflict(str(error))
    return error


def connect(path: Path, *, vfs: str | None, is_reader: bool = False) -> apsw.Connection:
    """A connection set up as the store needs it. Raises the driver's errors."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(str(path), flags=flags, vfs=vfs, statementcachesize=STATEMENT_CACHE)
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    # A name in double quotes that is no column would silently be a text: it is an error on PostgreSQL too.
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    # One plan per statement, whatever is bound: otherwise joins are planned anew each time a parameter changes,
    # which takes as long again as running them.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    settings = {
        "journal_mode": "WAL",
        "synchronous": "FULL",  # COMMIT syncs the log: what is acknowledged survives a power cut
        "foreign_keys": "ON",
        "temp_store": "MEMORY",
        "cache_size": f"-{CACHE_KIB}",
        "journal_size_limit": str(WAL_LIMIT_OCTETS),
        "wal_autocheckpoint": "0",  # checkpoints run apart from the committer
    }
    if is_reader:
        settings["query_only"] = "ON"
    for name, value in settings.items():
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
    return connection


class SqliteReader:
    """Reading on one connection. Every call ends its statement, so that no cursor keeps the log from ending."""

    __slots__ = ("_cursor", "_execute", "connection")

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._cursor = connection.cursor()
        self._execute = self._cursor.execute

    def row(self, sql: str, /, **parameters: Value) -> Row | None:
        found = self._execute(sql, parameters).fetchone()
        return cast("Row | None", found)

    def rows(self, sql: str, /, **parameters: Value) -> list[Row]:
        return cast("list[Row]", self._execute(sql, parameters).fetchall())

    def begin(self) -> None:
        self._execute("BEGIN")

    def end(self) -> None:
        self._execute("COMMIT")

    def close(self) -> None:
        with contextlib.suppress(apsw.Error):
            self.connection.close()


class SqliteTransaction(SqliteReader):
    """The one transaction that runs at a time. As little as possible happens in Python per statement."""

    __slots__ = ("_appender", "_changes", "gathered", "new_id")

    def __init__(self, connection: apsw.Connection, appender: PackAppender, numbers: Numbers) -> None:
        super().__init__(connection)
        self._appender = appender
        self._changes = connection.changes
        self.gathered = Gathered()
        self.new_id = numbers.new_id

    def row(self, sql: str, /, **parameters: Value) -> Row | None:
        if self.gathered.count and self.gathered.concerns(sql):
            self.write_gathered()
        found = self._execute(sql, parameters).fetchone()
        return cast("Row | None", found)

    def rows(self, sql: str, /, **parameters: Value) -> list[Row]:
        if self.gathered.count and self.gathered.concerns(sql):
            self.write_gathered()
        return cast("list[Row]", self._execute(sql, parameters).fetchall())

    def run(self, sql: str, /, **parameters: Value) -> int:
        if self.gathered.count and self.gathered.concerns(sql):
            self.write_gathered()
        self._execute(sql, parameters)
        return self._changes()

    def add(self, sql: str, rows: Sequence[Mapping[str, Value]], /) -> None:
        self.gathered.add(sql, rows)

    def write_gathered(self) -> None:
        if self.gathered.count:
            self.gathered.write(self._execute)

    def many(self, sql: str, parameters: Iterable[Mapping[str, Value]], /) -> None:
        if self.gathered.count and self.gathered.concerns(sql):
            self.write_gathered()
        self._cursor.executemany(sql, cast("Iterable[dict[str, Value]]", parameters))

    def append(self, content: Content, note: bytes) -> BlobLocation:
        sealed = content.sealed
        if sealed is not None:
            if self._appender.claim(sealed.pack):
                size = PACK_HEADER_SIZE + sealed.length + RECORD_HEADER_SIZE
                ledger.save_pack(self, PackRow(sealed.pack, PackKind.OWN, PackState.SEALED, size))
            elif not ledger.has_pack(self, sealed.pack):
                raise StoreFault("the spooled content was discarded")
        return self._appender.reserve(content, note)

    def command(self, sql: str) -> None:
        """BEGIN, SAVEPOINT and their like."""
        self._execute(sql)


class Checkpoints:
    """When the log is copied back, and by whom. `pages` is its length, `octets` the same for statistics."""

    def __init__(
        self, path: Path, writer: apsw.Connection, workers: Workers, *, vfs: str | None, due_after: int | None = None
    ) -> None:
        """`due_after`: in pages, CHECKPOINT_PAGES where it is None."""
        self._writer = writer
        self._workers = workers
        self._due_after = due_after or CHECKPOINT_PAGES
        self._own = connect(path, vfs=vfs)
        self._page_size = int(cast("int", self._own.pragma("page_size")))
        self._due_at = self._due_after
        self._task: asyncio.Future[None] | None = None
        self._is_running = False
        self._is_to_finish = False
        self._is_closing = False
        self._log = telemetry.logger("store")
        self.pages = 0
        self.count = 0
        writer.set_wal_hook(self._on_commit)

    @property
    def octets(self) -> int:
        return self.pages * self._page_size

    def _on_commit(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self.pages = pages
        return apsw.SQLITE_OK

    def after_commit(self) -> None:
        """In the committer's thread, after everybody was answered."""
        if self._is_to_finish:
            self._is_to_finish = False
            is_complete = self._copy(self._writer)
            # A reader still needs the old log: try again after some more of it.
            self._due_at = self._due_after if is_complete else self.pages + self._due_after // 4
        elif self.pages >= self._due_at and not self._is_running:
            self._request()

    def idle(self) -> None:
        """In the committer's thread, when nobody waits."""
        if self._is_running:
            return
        if self.pages > IDLE_PAGES:
            self._request()
        elif self.pages and self._copy(self._writer):
            self.pages = 0
            self._due_at = self._due_after

    def _request(self) -> None:
        self._is_running = True
        self._workers.call_back([self._start])

    async def end(self) -> None:
        """In the loop's thread: wait for the worker, and start no other."""
        self._is_closing = True
        if self._task is not None:
            await asyncio.wait([self._task])

    def _start(self) -> None:
        if self._is_closing:
            return
        self._task = asyncio.ensure_future(self._workers.run(self._copy_bulk, pool="disk"))
        self._task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _copy_bulk(self) -> None:
        try:
            if self._copy(self._own):
                self._is_to_finish = True
        finally:
            self._is_running = False

    def _copy(self, connection: apsw.Connection) -> bool:
        """Whether the whole log has been copied."""
        try:
            pages, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except (apsw.BusyError, apsw.LockedError):  # the other one is at it
            return False
        except apsw.Error as error:  # the log keeps what could not be copied; nothing is lost
            self._log.error("checkpoint_failed", error=str(error))
            return False
        self.count += 1
        return pages == copied

    def close(self) -> None:
        with contextlib.suppress(apsw.Error):
            self._own.close()


class SqliteEngine:
    """SQLite as group commit needs it (store/committer.py: Engine)."""

    def __init__(self, transaction: SqliteTransaction, checkpoints: Checkpoints) -> None:
        self.transaction = transaction
        self.checkpoints = checkpoints
        self._connection = transaction.connection
        self._command = transaction.command
        self._changes = self._connection.total_changes

    def begin(self) -> None:
        self.transaction.gathered.clear()
        self._command("BEGIN IMMEDIATE")

    def save(self) -> None:
        self._command("SAVEPOINT unit")

    def release(self) -> None:
        self.transaction.write_gathered()
        self._command("RELEASE unit")

    def undo(self) -> None:
        self.transaction.gathered.clear()
        self._command("ROLLBACK TO unit")
        self._command("RELEASE unit")

    def finish(self) -> None:
        self.transaction.write_gathered()

    def changes(self) -> int:
        return self._changes() + self.transaction.gathered.count

    def commit(self) -> None:
        self._command("COMMIT")

    def roll_back(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(apsw.Error):  # what cannot be rolled back is rolled back by closing, at the latest
                self._command("ROLLBACK")

    def is_open(self) -> bool:
        return bool(self._connection.in_transaction)

    def translate(self, error: Exception) -> Exception:
        return translate(error)

    def idle(self) -> None:
        self.checkpoints.idle()

    def committed(self) -> None:
        self.checkpoints.after_commit()

    def close(self) -> None:
        self.checkpoints.close()
        with contextlib.suppress(apsw.Error):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with contextlib.suppress(apsw.Error):
            self._connection.close()
