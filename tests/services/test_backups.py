# SPDX-License-Identifier: Apache-2.0
"""While a backup holds the packs none of them goes, whatever compaction wants and whoever opens the store meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from pathlib import Path
from typing import Any

import apsw
import pytest

from posthouse.outcome import Refusal
from posthouse.ports import StoreFault
from posthouse.services.backups import HOLD_SECONDS, Backups
from posthouse.store import garbage, holds, snapshot
from posthouse.store.databases import sqlite
from posthouse.store.databases.sqlite_file import open_snapshot
from tests.services.test_compaction import Store


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    opened = await Store(tmp_path / "data").open()
    yield opened
    await opened.close()


def backups_of(store: Store) -> Backups:
    return Backups(store.database, store.disk, store.workers, store.clock, folder=store.folder / "backup")


def packs(store: Store) -> set[str]:
    return {path.name for path in (store.folder / "packs").glob("*.pack")}


async def make_garbage(store: Store) -> None:
    """Most letters of most packs are dead, for so long that compaction wants every pack."""
    put = await store.deliver(30)
    await store.expunge(*list(put)[:25])
    store.clock.now += 40 * 86_400


async def test_no_pack_goes_while_a_backup_runs_and_all_go_when_it_ended(store: Store) -> None:
    await make_garbage(store)
    before = packs(store)
    backups = backups_of(store)
    hold = await backups.begin()
    await store.compaction().run()
    assert before <= packs(store)
    with open_snapshot(store.folder / "backup" / hold.file) as reader:
        wanted = {f"{each.number:015d}.pack" for each in snapshot.wanted_packs(reader)}
    assert wanted <= packs(store)
    await backups.end(hold.id)
    assert not list((store.folder / "backup").iterdir())
    await store.compaction().run()
    assert len(packs(store)) < len(before)


async def test_a_backup_that_begins_in_the_midst_of_compaction_is_heard(store: Store) -> None:
    """The unit that would let a pack go looks itself: between the plan and it a backup may have begun."""
    await make_garbage(store)
    while blobs := (await store.database.read(lambda reader: garbage.find(reader, store.clock.now))).blobs:
        await store.database.write(lambda tx, blobs=blobs: garbage.collect(tx, blobs, store.clock.now))
    empty = await store.database.read(garbage.empty_packs)
    assert empty
    hold = await backups_of(store).begin()
    assert not await store.database.write(lambda tx: garbage.forget_pack(tx, empty[0]))
    await backups_of(store).end(hold.id)
    assert await store.database.write(lambda tx: garbage.forget_pack(tx, empty[0]))


async def test_a_hold_outlives_the_server_that_gave_it(store: Store) -> None:
    await make_garbage(store)
    before = packs(store)
    hold = await backups_of(store).begin()
    await store.again()
    await store.compaction().run()
    assert before <= packs(store)
    assert (store.folder / "backup" / hold.file).exists()
    await backups_of(store).renew(hold.id)
    await backups_of(store).end(hold.id)


async def test_a_hold_whose_holder_is_gone_runs_out(store: Store) -> None:
    """Its snapshot goes with the next backup; what it held goes with the next sweep."""
    await make_garbage(store)
    before = packs(store)
    dead = await backups_of(store).begin()
    store.clock.now += HOLD_SECONDS + 1
    with pytest.raises(Refusal, match="begin it again"):
        await backups_of(store).renew(dead.id)
    await store.compaction().run()
    assert len(packs(store)) < len(before)
    alive = await backups_of(store).begin()
    assert [path.name for path in (store.folder / "backup").iterdir()] == [alive.file]
    assert await store.database.read(holds.running) == [alive.id]
    await backups_of(store).end(alive.id)


async def test_a_renewed_hold_lasts(store: Store) -> None:
    backups = backups_of(store)
    hold = await backups.begin()
    for _ in range(5):
        store.clock.now += HOLD_SECONDS - 1
        await backups.renew(hold.id)
    other = await backups.begin()
    assert {path.name for path in (store.folder / "backup").iterdir()} == {hold.file, other.file}
    await backups.end(hold.id)
    await backups.end(hold.id)
    assert await store.database.read(holds.running) == [other.id]
    await backups.end(other.id)


async def test_a_snapshot_that_cannot_be_written_holds_nothing(store: Store) -> None:
    store.disk.fail["rename"] = errno.ENOSPC
    with pytest.raises(StoreFault) as caught:
        await backups_of(store).begin()
    assert caught.value.is_full
    assert await store.database.read(holds.running) == []
    assert not list((store.folder / "backup").iterdir())
    store.disk.fail.clear()
    await backups_of(store).end((await backups_of(store).begin()).id)


async def test_snapshots_at_once_leave_a_store_that_opens(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two backups and the daily snapshot: whenever the machine stops, the packs still are this database's. Each wrote
    its number beside the packs when the rows had gone on by two, and the next start was refused."""
    written: list[int] = []
    write_lineage = sqlite.write_lineage

    def write(shelf: Any, lineage: int) -> None:
        state = committed()
        assert lineage == state[0], "another snapshot came between the rows and the file"
        assert not written or written[-1] == state[1], "the file holds what the rows have forgotten"
        written.append(lineage)
        write_lineage(shelf, lineage)

    def committed() -> Any:
        with contextlib.closing(apsw.Connection(str(store.folder / sqlite.DATABASE_FILE))) as connection:
            return connection.execute("SELECT lineage, lineage_before FROM store_state").fetchone()

    monkeypatch.setattr(sqlite, "write_lineage", write)
    await asyncio.gather(*(store.database.snapshot(store.folder / f"s{number}.sqlite3") for number in range(4)))
    assert len(written) == 4
    await store.again()


async def test_a_store_opens_after_snapshots_whose_last_step_failed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for the number beside the packs, night after night: the rows go on accepting the old one."""

    def fail(_shelf: Any, _lineage: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "write_lineage", fail)
        for number in range(3):
            with pytest.raises(StoreFault):
                await store.database.snapshot(store.folder / f"s{number}.sqlite3")
    await store.again()
