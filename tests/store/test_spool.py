# SPDX-License-Identifier: Apache-2.0
"""Large content on a failing disk or in a cancelled session: an answer, and nothing left behind."""

from __future__ import annotations

import asyncio
import errno
from hashlib import sha256
from pathlib import Path

import pytest

from posthouse.net.workers import ThreadWorkers
from posthouse.ports import Content, StoreFault
from posthouse.store.blobs import packs
from posthouse.store.blobs.record import Record, RecordKind
from posthouse.store.blobs.spool import SPOOL_CHUNK

from .machine import House, keep_content

BIG = b"large " * 100_000


@pytest.mark.parametrize("step", ["append", "write", "sync", "rename"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("is_late", [False, True])
async def test_a_failing_disk_is_told_and_leaves_nothing(tmp_path: Path, step: str, error: int, is_late: bool) -> None:
    house = House(tmp_path).open()
    spool = house.packs.spool()
    if is_late:
        await spool.write(BIG)
    house.disk.fail[step] = error
    with pytest.raises(StoreFault) as caught:  # noqa: PT012 - either call may be the one that meets the disk
        await spool.write(BIG)
        await spool.seal()
        if is_late and step == "append":
            raise StoreFault("opened long before", is_full=error == errno.ENOSPC)
    assert caught.value.is_full == (error == errno.ENOSPC)
    house.disk.fail.clear()
    await spool.discard()
    assert [path.name for path in (tmp_path / "packs").iterdir()] == ["lineage"]
    await house.close()


async def test_a_cancelled_session_discards_safely_while_a_worker_writes(tmp_path: Path) -> None:
    workers = ThreadWorkers()
    house = House(tmp_path, workers=workers).open()
    for _ in range(20):
        spool = house.packs.spool()
        task = asyncio.ensure_future(spool.write(BIG))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await spool.discard()
    assert [path.name for path in (tmp_path / "packs").iterdir()] == ["lineage"]
    await house.close()
    await workers.close()


async def test_no_more_than_a_chunk_waits_in_memory(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    spool = house.packs.spool()
    for _ in range(100):
        await spool.write(b"x" * 60_000)
        assert spool._waiting_octets < SPOOL_CHUNK  # type: ignore[attr-defined] # PackSpool's
    assert (await spool.seal()).length == 6_000_000
    await spool.discard()
    await house.close()


async def test_the_note_of_a_spooled_letter_is_kept_in_a_record_that_refers_to_it(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    spool = house.packs.spool()
    await spool.write(BIG)
    place = await spool.seal()
    await house.database.write(keep_content(Content(len(BIG), sha256(BIG).digest(), sealed=place), b"who and where"))
    found = [record for number in house.packs.numbers() for record in house.packs.records(number)]
    assert all(isinstance(record, Record) for record in found)
    kinds = {record.kind: record for record in found if isinstance(record, Record)}
    assert bytes(kinds[RecordKind.TRAILER].content) == BIG
    assert kinds[RecordKind.REFERENCE].location == kinds[RecordKind.TRAILER].location == place
    assert kinds[RecordKind.REFERENCE].note == b"who and where"
    await house.close()


async def test_a_removed_pack_is_gone_and_its_views_stay(tmp_path: Path) -> None:
    from posthouse.store.blobs import ledger

    house = House(tmp_path).open()
    spool = house.packs.spool()
    await spool.write(BIG)
    place = await spool.seal()
    await house.database.write(keep_content(Content(len(BIG), b"", sealed=place)))
    view = await house.packs.open(place)
    await house.database.write(lambda tx: ledger.forget_pack(tx, place.pack))
    await house.packs.remove(place.pack)
    assert bytes(view) == BIG
    with pytest.raises(StoreFault):
        await house.packs.open(place)
    await house.close()
    house.open()
    assert house.packs.recovery.findings == []
    await house.close()


async def test_maps_are_bounded_and_come_back_when_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "MAX_MAPS", 3)
    house = House(tmp_path).open()
    for n in range(8):
        spool = house.packs.spool()
        await spool.write(b"%d" % n * 10)
        sealed = Content(10, b"", sealed=await spool.seal())
        await house.database.write(keep_content(sealed))
    for _ in range(2):
        assert sorted((await house.letters()).values()) == [b"%d" % n * 10 for n in range(8)]
        assert len(house.packs._maps) == 3
    await house.close()


@pytest.mark.parametrize("step", ["append", "sync", "rename"])
async def test_a_snapshot_on_a_failing_disk_is_told_and_leaves_nothing(tmp_path: Path, step: str) -> None:
    house = House(tmp_path / "data").open()
    house.disk.fail[step] = errno.ENOSPC
    with pytest.raises(StoreFault) as caught:
        await house.database.snapshot(tmp_path / "backup" / "copy")
    assert caught.value.is_full
    house.disk.fail.clear()
    assert list((tmp_path / "backup").iterdir()) == []
    await house.close()
