# SPDX-License-Identifier: Apache-2.0
"""The Database port on SQLite, and the one function that opens the embedded store.

Invariant: all writing goes through the committer; each read is one short transaction on its own connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw

from posthouse import telemetry
from posthouse.ports import Clock, Disk, Entropy, Reader, StoreFault, Transaction, Workers
from posthouse.store.blobs import ledger
from posthouse.store.blobs.appender import PackAppender
from posthouse.store.blobs.packs import PackStore
from posthouse.store.blobs.recovery import adopt, check_lineage, read_lineage, recover, renew_lineage, write_lineage
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.committer import Closing, Committer, Job, Statistics
from posthouse.store.databases.migrate import Migration, migrate, packaged
from posthouse.store.databases.sqlite_engine import (
    Checkpoints,
    SqliteEngine,
    SqliteReader,
    SqliteTransaction,
    connect,
    translate,
)
from posthouse.store.faults import disk_fault
from posthouse.store.numbers import Numbers
from posthouse.store.settings import StoreSettings

T = TypeVar("T")

DATABASE_FILE = "posthouse.sqlite3"
PACK_FOLDER = "packs"
# 4 MiB are copied in some 10 ms: a snapshot holds a thread of the pool `disk` no longer at a time.
SNAPSHOT_PAGES = 1024


class SqliteDatabase:
    """One SQLite file with one writer thread and a few readers."""

    def __init__(
        self,
        path: Path,
        committer: Committer,
        *,
        checkpoints: Checkpoints,
        shelf: Shelf,
        workers: Workers,
        settings: StoreSettings,
    ) -> None:
        self._path = path
        self._committer = committer
        self._checkpoints = checkpoints
        self._shelf = shelf
        self._workers = workers
        self._settings = settings
        self._readers: list[SqliteReader] = []  # idle ones; a pool of two threads may need two
        self._is_closed = False
        self._renewing = asyncio.Lock()
        self._hand_in = workers.committer(committer.commit)

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        if self._is_closed:
            raise StoreFault("the store is closed")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._hand_in(Job(unit, future))
        result: T = await future
        return result

    async def read(self, query: Callable[[Reader], T]) -> T:
        if self._is_closed:
            raise StoreFault("the store is closed")
        return await self._workers.run(partial(self._query, query), pool="read")

    def _query(self, query: Callable[[Reader], T]) -> T:
        try:
            reader = self._readers.pop() if self._readers else self._new_reader()
            try:
                reader.begin()
                try:
                    return query(reader)
                finally:
                    reader.end()
            finally:
                if reader.connection.in_transaction:  # its COMMIT failed: nobody could begin on it any more
                    reader.close()
                else:
                    self._readers.append(reader)
        except apsw.Error as error:
            raise translate(error) from error

    def _new_reader(self) -> SqliteReader:
        return SqliteReader(connect(self._path, vfs=self._settings.vfs, is_reader=True))

    async def verify(self) -> list[str]:
        """What SQLite itself finds wrong with the file, in its words: tables and indexes one by one, references."""
        return await self._workers.run(self._verify, pool="disk")

    def _verify(self) -> list[str]:
        try:
            reader = self._new_reader()
            try:
                tables = reader.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
                # One by one: no read transaction then lasts longer than the largest table takes.
                said = [row[0] for (table,) in tables for row in reader.rows(f"PRAGMA integrity_check('{table}')")]
                lost = reader.rows("PRAGMA foreign_key_check")
            finally:
                reader.close()
        except apsw.Error as error:
            return [str(error)]
        found = [str(text) for text in said if text != "ok"]
        return found + [f"row {row} of {table} refers to a {parent} that is gone" for table, row, parent, _ in lost]

    @property
    def statistics(self) -> Statistics:
        """Counts of the committer since start."""
        return self._committer.statistics

    @property
    def wal_octets(self) -> int:
        """Length of the write-ahead log after the last commit."""
        return self._checkpoints.octets

    async def snapshot(self, target: Path) -> None:
        """Copied in steps from one read transaction, so that it is of one moment and ends on a busy server.

        The log cannot start again while it runs. Raises StoreFault.
        """
        try:
            await self._copy(target)
            # From now on the copy is older than the packs, and must be told apart from the database itself.
            async with self._renewing:
                await self._renew_lineage()
        except OSError as error:
            raise disk_fault("the snapshot cannot be written", error) from error

    async def _renew_lineage(self) -> None:
        """One at a time: the rows know two numbers only, and the file must hold one of them at any moment."""
        present = await self._workers.run(partial(read_lineage, self._shelf), pool="disk")
        lineage = await self.write(partial(_new_lineage, before=present or 0))
        await self._workers.run(partial(write_lineage, self._shelf, lineage), pool="disk")

    async def _copy(self, target: Path) -> None:
        draft = target.with_name(target.name + ".part")
        copy = await self._workers.run(partial(self._begin_copy, draft), pool="disk")
        try:
            while not await self._workers.run(copy.step, pool="disk"):
                pass
            await self._workers.run(partial(copy.finish, self._shelf.disk, target), pool="disk")
        finally:
            await self._workers.run(partial(copy.discard, self._shelf.disk), pool="disk")

    def _begin_copy(self, draft: Path) -> _Copy:
        try:
            return _Copy(self._new_reader(), draft, self._settings.vfs, self._shelf.disk)
        except apsw.Error as error:
            raise translate(error) from error

    async def close(self) -> None:
        """What was handed in before is committed first."""
        if self._is_closed:
            return
        self._is_closed = True
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._checkpoints.end()
        await self._workers.run(self._close_readers, pool="read")
        self._hand_in(Closing(ended))
        await ended
        self._hand_in(None)

    def _close_readers(self) -> None:
        while self._readers:
            self._readers.pop().close()


def _new_lineage(tx: Transaction, before: int) -> int:
    """`before`: what stands beside the packs now; the rows accept both until the new one does."""
    lineage = tx.new_id()
    ledger.save_lineage(tx, lineage, before)
    return lineage


class _Copy:
    """One snapshot under way. Used by one worker thread after another."""

    def __init__(self, source: SqliteReader, draft: Path, vfs: str | None, disk: Disk) -> None:
        self._source = source
        self._draft = draft
        disk.make_folder(draft.parent)
        with contextlib.suppress(OSError):
            disk.unlink(draft)
        disk.append(draft).close()  # created 0600: it holds what the database holds
        source.begin()
        source.row("SELECT id FROM store_state")  # the snapshot begins with the first read
        self._target = apsw.Connection(str(draft), vfs=vfs)
        self._backup = self._target.backup("main", source.connection, "main")
        self._is_finished = False

    def step(self) -> bool:
        """Copy some pages; True when all are."""
        try:
            return bool(self._backup.step(SNAPSHOT_PAGES))
        except apsw.Error as error:
            raise translate(error) from error

    def finish(self, disk: Disk, target: Path) -> None:
        """Make it one file, durable under its final name."""
        try:
            self._backup.finish()
            self._target.execute("PRAGMA journal_mode = DELETE").fetchall()
            self._target.close()
        except apsw.Error as error:
            raise translate(error) from error
        file = disk.append(self._draft)
        try:
            file.sync()
        finally:
            file.close()
        disk.rename(self._draft, target)
        self._is_finished = True

    def discard(self, disk: Disk) -> None:
        """Close everything; remove the draft when it did not become a snapshot."""
        with contextlib.suppress(apsw.Error):
            self._backup.close(True)
        with contextlib.suppress(apsw.Error):
            self._target.close(True)
        self._source.close()
        if not self._is_finished:
            with contextlib.suppress(OSError):
                disk.unlink(self._draft)


def open_sqlite(
    folder: Path,
    disk: Disk,
    workers: Workers,
    clock: Clock,
    entropy: Entropy,
    *,
    settings: StoreSettings | None = None,
    migrations: Sequence[Migration] | None = None,
) -> tuple[SqliteDatabase, PackStore]:
    """Open or create the store in a folder; call it in the loop's thread before anything is served.

    Applies the migrations, then makes the packs match the rows. Raises StoreFault with a sentence for the
    operator. What recovery did is in `PackStore.recovery`.
    """
    try:
        shelf = Shelf(folder / PACK_FOLDER, disk, Numbers(clock), entropy, settings or StoreSettings())
        return _open(folder, shelf, workers, clock, packaged() if migrations is None else migrations)
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreFault(
            f"the database in {folder} is damaged: {error}. `posthouse check --store` cannot mend that; `posthouse"
            " rebuild` makes it anew from the last snapshot and the packs, `posthouse restore` from a backup"
        ) from error
    except apsw.Error as error:
        raise StoreFault(f"the database in {folder} cannot be opened: {error}") from error
    except OSError as error:
        raise StoreFault(f"the store in {folder} cannot be opened: {error}") from error


def _open(
    folder: Path, shelf: Shelf, workers: Workers, clock: Clock, migrations: Sequence[Migration]
) -> tuple[SqliteDatabase, PackStore]:
    path, settings, numbers = folder / DATABASE_FILE, shelf.settings, shelf.counters
    shelf.disk.make_folder(shelf.folder)
    shelf.disk.append(path).close()  # created 0600, its name durable; SQLite gives its other files the same mode
    appender = PackAppender(shelf)
    writer = connect(path, vfs=settings.vfs)
    transaction = SqliteTransaction(writer, appender, numbers)
    checkpoints = Checkpoints(path, writer, workers, vfs=settings.vfs, due_after=settings.checkpoint_pages)
    engine = SqliteEngine(transaction, checkpoints)

    def transact(work: Callable[[Transaction], None]) -> None:
        engine.begin()
        try:
            work(transaction)
            engine.finish()
            engine.commit()
        except BaseException:
            engine.roll_back()
            raise

    try:
        migrate(transact, migrations, clock.wall())
        state = ledger.load_state(transaction)
        rows = ledger.load_packs(transaction)
        numbers.last_id = max(state.last_id, state.lineage)
        numbers.last_pack = max([state.last_pack, *shelf.numbers()])
        if settings.adopt:
            recovery = adopt(shelf, rows, transact)
        else:
            check_lineage(shelf, state)
            recovery = recover(shelf, appender, state, rows, transact)
        renew_lineage(shelf, transact, numbers.new_id(), read_lineage(shelf) or 0)
    except BaseException:
        engine.close()
        appender.close()
        raise
    if recovery.cut_octets or recovery.removed or recovery.findings:
        telemetry.logger("store").warning(
            "recovered", cut_octets=recovery.cut_octets, removed=len(recovery.removed), findings=recovery.findings
        )
    committer = Committer(engine, appender, shelf=shelf, numbers=numbers, workers=workers, clock=clock)
    database = SqliteDatabase(path, committer, checkpoints=checkpoints, shelf=shelf, workers=workers, settings=settings)
    return database, PackStore(shelf, workers, recovery)
