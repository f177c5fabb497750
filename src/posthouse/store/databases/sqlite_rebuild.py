# SPDX-License-Identifier: Apache-2.0
"""A new database from the newest sound snapshot and the notes in the packs, when the old one is lost or broken.

Invariant: nothing that is there is changed before the new database is complete and synced; then the old one's files
are put aside, never deleted. Offline: the caller holds the directory's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from posthouse.ports import Clock, Disk, Entropy, StoreFault, Transaction
from posthouse.store import holds, integrity, queue_restore, rebuild
from posthouse.store.blobs import ledger
from posthouse.store.blobs.appender import PackAppender
from posthouse.store.blobs.inspection import open_pack
from posthouse.store.blobs.ledger import PackRow, PackState
from posthouse.store.blobs.record import PackKind
from posthouse.store.blobs.recovery import read_lineage, write_lineage
from posthouse.store.blobs.shelf import Shelf
from posthouse.store.bringing import Bringing, Rebuilt, Tell
from posthouse.store.databases.migrate import Transact, migrate, packaged
from posthouse.store.databases.sqlite import DATABASE_FILE, PACK_FOLDER
from posthouse.store.databases.sqlite_engine import SqliteTransaction, connect, translate
from posthouse.store.databases.sqlite_snapshot import copy, unsound
from posthouse.store.numbers import SEQUENCE_BITS, Numbers
from posthouse.store.settings import StoreSettings

DRAFT = DATABASE_FILE + ".rebuilt"
SIDECARS = ("", "-wal", "-shm", "-journal")  # SQLite's own files beside a database
ASIDE = "set-aside"
SNAPSHOT_SUFFIX = ".sqlite3"


class Rebuilder:
    """One rebuild of one data directory. Everything blocks. Raises StoreFault and OSError."""

    def __init__(
        self, folder: Path, disk: Disk, clock: Clock, entropy: Entropy, *, hostname: str, vfs: str | None = None
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._clock = clock
        self._hostname = hostname
        self._snapshots = folder / "snapshots"
        self._vfs = vfs
        self._numbers = Numbers(clock)
        self._shelf = Shelf(folder / PACK_FOLDER, disk, self._numbers, entropy, StoreSettings(vfs=vfs))
        self._found = Rebuilt()

    def choose(self) -> Path | None:
        """The newest snapshot that is sound; those that are not are told in `Rebuilt.refused`."""
        self._found.refused.clear()
        names = [name for name in self._disk.names(self._snapshots) if name.endswith(SNAPSHOT_SUFFIX)]
        for name in reversed(names):  # named by their day
            reason = unsound(self._snapshots / name, self._vfs)
            if not reason:
                return self._snapshots / name
            self._found.refused.append(f"{name}: {reason}")
        return None

    def state_of_old(self) -> str:
        """What is wrong with the database that is there now: "missing", SQLite's words, or "" when it is sound."""
        path = self._folder / DATABASE_FILE
        return unsound(path, self._vfs, has_log=True) if path.exists() else "missing"

    def run(self, tell: Tell = lambda _: None) -> Rebuilt:
        """Build, check, and put the new database in the old one's place."""
        found, now = self._found, self._clock.wall()
        draft = self._folder / DRAFT
        self._remove(draft)
        try:
            snapshot = self.choose()
            if snapshot is not None:
                found.snapshot = snapshot.name
                tell(f"taking the snapshot {snapshot.name}")
                copy(self._disk, snapshot, draft)
            elif self._vfs is None:
                self._disk.append(draft).close()  # created 0600: it holds what the database holds
            lineage = self._fill(draft, now, tell)
            tell("checking the new database")
            reason = unsound(draft, self._vfs)
            if reason:
                raise StoreFault(f"the new database is not sound: {reason}. Nothing was changed")
        except BaseException as error:
            self._remove(draft)
            if isinstance(error, apsw.Error):
                raise translate(error) from error
            raise
        self._swap(draft, lineage, now)
        return found

    def _fill(self, draft: Path, now: float, tell: Tell) -> int:
        """Bring the draft up to what the packs tell; the lineage that it belongs to."""
        numbers = self._numbers
        connection = connect(draft, vfs=self._vfs)
        try:
            # A draft that is lost is begun anew: it is synced once, when it is complete.
            connection.execute("PRAGMA synchronous = OFF").fetchall()
            tx = SqliteTransaction(connection, PackAppender(self._shelf), numbers)
            transact = _transacting(connection, tx)
            migrate(transact, packaged(), now)
            state = ledger.load_state(tx)
            numbers.last_id = max(state.last_id, state.lineage)
            numbers.last_pack = max([state.last_pack, *self._shelf.numbers()])
            if self._found.snapshot:
                self._found.taken_at = (state.last_id >> SEQUENCE_BITS) / 1000
            self._adopt_packs(transact)
            Bringing(
                self._shelf, numbers, transact, self._found, last_id=state.last_id, hostname=self._hostname, now=now
            ).run(tell)
            lineage = read_lineage(self._shelf) or numbers.new_id()
            transact(lambda each: self._finish(each, lineage, now))
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        finally:
            connection.close()
        file = self._disk.append(draft)
        try:
            file.sync()
        finally:
            file.close()
        return lineage

    def _adopt_packs(self, transact: Transact) -> None:
        """Every pack there is belongs to the new database, whole and sealed; those that are gone keep their rows."""
        rows: list[PackRow] = []
        for number in self._shelf.numbers():
            try:
                pack = open_pack(self._shelf, number)
            except StoreFault as fault:
                rows.append(PackRow(number, PackKind.LOG, PackState.SEALED, 0))
                self._found.unreadable.append(str(fault))
                continue
            rows.append(PackRow(number, pack.header.kind, PackState.SEALED, len(pack.view)))
            if pack.header_fault:
                self._found.unreadable.append(
                    f"pack {number}: {pack.header_fault}; its letters were found all the same"
                )

        def record(tx: Transaction) -> None:
            for row in rows:
                ledger.save_pack(tx, row)
            tx.run("UPDATE pack SET state = :sealed", sealed=int(PackState.SEALED))

        transact(record)

    def _finish(self, tx: Transaction, lineage: int, now: float) -> None:
        for (account,) in tx.rows("SELECT id FROM account ORDER BY id"):
            integrity.mend_counters(tx, account)
            self._found.accounts += 1
        holds.end_all(tx)
        rebuild.adopt_older_state(tx, now=now)
        # What went out since the snapshot is not known, and nothing is sent twice without somebody's word.
        lost = now - self._found.taken_at if self._found.snapshot else 0.0
        self._found.held = queue_restore.resume(tx, lost_seconds=lost, now=now, is_held=True)
        # Nothing grows: the next start begins a new pack. It takes the packs as they are, because both say this number.
        ledger.save_lineage(tx, lineage, lineage)
        ledger.save_tail(tx, 0, 0, self._numbers.last_id, self._numbers.last_pack)

    def _swap(self, draft: Path, lineage: int, now: float) -> None:
        """The old files go aside, the database first: without its log it would be an older one, which takes
        yesterday's letters for leftovers. A crash in between leaves no database, and a start refuses that."""
        there = [path for suffix in SIDECARS if (path := self._folder / (DATABASE_FILE + suffix)).exists()]
        if there:
            aside = self._folder / ASIDE / str(int(now))
            self._disk.make_folder(aside)
            for path in there:
                self._disk.rename(path, aside / path.name)
            self._found.put_aside = str(aside)
        if read_lineage(self._shelf) is None:
            self._disk.make_folder(self._shelf.folder)
            write_lineage(self._shelf, lineage)
        self._disk.rename(draft, self._folder / DATABASE_FILE)

    def _remove(self, draft: Path) -> None:
        for suffix in SIDECARS:
            self._disk.unlink(draft.with_name(draft.name + suffix))


def _transacting(connection: apsw.Connection, tx: SqliteTransaction) -> Transact:
    def transact(work: Callable[[Transaction], None]) -> None:
        tx.command("BEGIN IMMEDIATE")
        try:
            work(tx)
            tx.command("COMMIT")
        except BaseException:
            if connection.in_transaction:
                tx.command("ROLLBACK")
            raise

    return transact
