# SPDX-License-Identifier: Apache-2.0
"""Group commit: who is answered what when something fails, and that nothing else is touched."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.outcome import SYSTEM_FAULT, Refusal
from posthouse.ports import StoreFault
from posthouse.store import committer
from posthouse.store.settings import StoreSettings

from .machine import House, fault_words, keep, outcomes, say


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path).open()
    yield house
    house.disk.fail.clear()
    await house.close()


async def words(house: House) -> list[str]:
    rows = await house.database.read(lambda reader: reader.rows("SELECT text FROM word ORDER BY text"))
    return [text for (text,) in rows]


async def test_what_waits_together_is_one_batch_with_one_write_and_one_sync(house: House) -> None:
    await house.database.write(keep(b"first"))
    house.disk.steps.clear()
    results = await outcomes(*(house.database.write(keep(b"letter %d" % n)) for n in range(20)))
    assert fault_words(results) == ["ok"] * 20
    assert house.disk.steps == ["write", "sync"]
    assert house.workers.batches[-1] == 20
    assert sorted((await house.letters()).values()) == sorted([b"first", *(b"letter %d" % n for n in range(20))])


async def test_a_refused_unit_takes_back_its_rows_and_records_and_nothing_else(house: House) -> None:
    def refused(tx: Any) -> None:
        keep(b"never")(tx)
        say("never")(tx)
        raise Refusal(SYSTEM_FAULT, "no")

    results = await outcomes(
        house.database.write(keep(b"one")), house.database.write(refused), house.database.write(keep(b"two"))
    )
    assert fault_words(results) == ["ok", "Refusal", "ok"]
    assert sorted((await house.letters()).values()) == [b"one", b"two"]
    assert await words(house) == []
    assert b"never" not in house.pack_files[0].read_bytes()


@pytest.mark.parametrize("step", ["write", "sync"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("torn", [0, 1, 40, 10_000])
async def test_a_failed_append_refuses_content_and_only_content(house: House, step: str, error: int, torn: int) -> None:
    before = await house.database.write(keep(b"before"))
    house.disk.fail[step] = error
    house.disk.torn = torn
    results = await outcomes(
        house.database.write(keep(b"a" * 6000)), house.database.write(say("word")), house.database.write(keep(b"b"))
    )
    word = "fault" if error == errno.EIO else "full"
    assert fault_words(results) == [word, "ok", word]
    assert list(await house.letters()) == [before]
    assert await words(house) == ["word"]
    house.disk.fail.clear()
    after = await house.database.write(keep(b"after"))
    assert await house.letters() == {before: b"before", after: b"after"}


async def test_the_file_ends_at_its_tail_after_a_full_disk(house: House) -> None:
    await house.database.write(keep(b"before"))
    size = house.pack_files[0].stat().st_size
    house.disk.fail["write"], house.disk.torn = errno.ENOSPC, 17
    await outcomes(house.database.write(keep(b"x" * 100)))
    assert house.pack_files[0].stat().st_size == size
    assert len(house.pack_files) == 1


async def test_a_failed_sync_poisons_the_pack_and_cuts_nothing(house: House) -> None:
    """After a failed fsync the file is never written to again; what was acknowledged stays readable."""
    before = await house.database.write(keep(b"before"))
    house.disk.fail["sync"] = errno.EIO
    await outcomes(house.database.write(keep(b"lost")))
    size = house.pack_files[0].stat().st_size
    house.disk.fail.clear()
    after = await house.database.write(keep(b"after"))
    assert len(house.pack_files) == 2
    assert house.pack_files[0].stat().st_size == size
    assert await house.letters() == {before: b"before", after: b"after"}
    await house.close()
    house.open()
    assert house.packs.recovery.cut_octets > 0
    assert house.pack_files[0].stat().st_size < size
    assert await house.letters() == {before: b"before", after: b"after"}


@pytest.mark.parametrize("step", ["append", "write", "sync"])
async def test_a_pack_that_cannot_be_begun_leaves_the_next_try_a_clean_start(house: House, step: str) -> None:
    house.disk.fail[step] = errno.ENOSPC
    results = await outcomes(house.database.write(keep(b"one")), house.database.write(say("word")))
    assert fault_words(results) == ["full", "ok"]
    assert house.pack_files == []
    house.disk.fail.clear()
    number = await house.database.write(keep(b"two"))
    assert await house.letters() == {number: b"two"}


async def test_below_the_reserve_content_is_refused_and_rows_go_on(tmp_path: Path) -> None:
    house = House(tmp_path, settings=StoreSettings(reserve_octets=1000)).open()
    house.disk.free = 999
    assert not house.packs.has_room()
    results = await outcomes(house.database.write(keep(b"one")), house.database.write(say("word")))
    assert fault_words(results) == ["full", "ok"]
    spool = house.packs.spool()
    with pytest.raises(StoreFault) as caught:
        await spool.write(b"x" * 300_000)
    assert caught.value.is_full
    await spool.discard()
    assert await words(house) == ["word"]
    house.disk.free = 1000
    number = await house.database.write(keep(b"two"))
    assert await house.letters() == {number: b"two"}
    await house.close()


async def test_a_batch_ends_when_its_octets_are_used_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "BATCH_OCTETS", 10_000)
    await house.database.write(keep(b"first"))
    house.disk.steps.clear()
    results = await outcomes(*(house.database.write(keep(b"x" * 4_000)) for _ in range(9)))
    assert fault_words(results) == ["ok"] * 9
    assert house.disk.steps == ["write", "sync"] * 3


async def test_a_batch_ends_when_its_rows_are_used_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "BATCH_ROWS", 2)
    before = house.database.statistics.batches
    await outcomes(*(house.database.write(say(f"word {n}")) for n in range(9)))
    assert house.database.statistics.batches - before == 3


async def test_a_unit_that_fills_the_database_is_refused_alone(house: House) -> None:
    """SQLITE_FULL may take the whole transaction back: the others run again and succeed."""
    connection = house.database._committer._engine.transaction.connection  # type: ignore[attr-defined] # SQLite's
    pages = connection.execute("PRAGMA page_count").get
    connection.execute(f"PRAGMA max_page_count = {pages + 8}").fetchall()

    def greedy(tx: Any) -> None:
        for n in range(100):
            tx.run(
                "INSERT INTO word (id, text, octets) VALUES (:id, :text, :octets)",
                id=n,
                text=f"{n}",
                octets=b"x" * 4000,
            )

    results = await outcomes(
        house.database.write(keep(b"one")),
        house.database.write(say("word")),
        house.database.write(greedy),
        house.database.write(keep(b"two")),
    )
    assert fault_words(results) == ["ok", "ok", "full", "ok"]
    assert sorted((await house.letters()).values()) == [b"one", b"two"]
    assert await words(house) == ["word"]


async def test_when_the_engine_rolls_everything_back_each_unit_runs_again_alone(house: House) -> None:
    """What SQLite does on its own account on IOERR, done here by hand in the middle of a batch."""
    connection = house.database._committer._engine.transaction.connection  # type: ignore[attr-defined] # SQLite's

    def breaking(tx: Any) -> None:
        connection.execute("ROLLBACK")
        message = "disk I/O error"
        raise OSError(message)

    results = await outcomes(
        house.database.write(keep(b"one")),
        house.database.write(breaking),
        house.database.write(say("word")),
        house.database.write(keep(b"two")),
    )
    assert fault_words(results) == ["ok", "fault", "ok", "ok"]
    assert sorted((await house.letters()).values()) == [b"one", b"two"]
    assert await words(house) == ["word"]


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_failed_commit_stores_nothing_and_the_next_one_works(
    house: House, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    before = await house.database.write(keep(b"before"))
    engine = house.database._committer._engine
    # After a failure that is not for want of space an empty commit ends the doubt whether it was done all the same.
    fails = [True, True, False, True] if is_full else [True, False, True, False, False, True]
    real, failures = engine.commit, iter([*fails, *[False] * 4])

    def commit() -> None:
        if next(failures):
            raise StoreFault("no", is_full=is_full)
        real()

    monkeypatch.setattr(engine, "commit", commit)
    # The batch fails, then alone: the first fails again, the second is stored, the third fails.
    results = await outcomes(*(house.database.write(keep(text)) for text in (b"one", b"two", b"three")))
    word = "full" if is_full else "fault"
    assert fault_words(results) == [word, "ok", word]
    after = await house.database.write(keep(b"after"))
    assert await house.letters() == {before: b"before", results[1]: b"two", after: b"after"}
    assert len(house.pack_files) == 1
    await house.close()
    house.open()
    assert await house.letters() == {before: b"before", results[1]: b"two", after: b"after"}


async def test_a_unit_whose_caller_was_cancelled_before_the_batch_is_not_run(house: House) -> None:
    task = asyncio.ensure_future(house.database.write(say("never")))
    other = asyncio.ensure_future(house.database.write(say("word")))
    await asyncio.sleep(0)  # both are handed in now, and their batch is the loop's next turn
    task.cancel()
    await asyncio.wait([task, other])
    assert await words(house) == ["word"]


async def test_a_broken_unit_is_told_to_its_caller_whatever_it_raises(house: House) -> None:
    def stops(tx: Any) -> None:
        raise StopIteration

    def divides(tx: Any) -> float:
        return 1 / 0

    results = await outcomes(
        house.database.write(stops), house.database.write(divides), house.database.write(say("word"))
    )
    assert fault_words(results) == ["RuntimeError", "ZeroDivisionError", "ok"]


async def test_a_pack_is_sealed_at_its_size_and_a_new_one_begun(tmp_path: Path) -> None:
    house = House(tmp_path, settings=StoreSettings(seal_octets=5_000, reserve_octets=0)).open()
    ids = [await house.database.write(keep(b"%d" % n * 3_000)) for n in range(5)]
    assert len(house.pack_files) == 3
    assert await house.letters() == {number: b"%d" % n * 3_000 for n, number in enumerate(ids)}
    states = await house.database.read(lambda reader: reader.rows("SELECT state, size FROM pack ORDER BY number"))
    sizes = [path.stat().st_size for path in house.pack_files]
    assert states == [(2, sizes[0]), (2, sizes[1]), (1, 0)]
    await house.close()


async def test_ids_grow_also_after_a_restart_with_a_clock_set_back(house: House) -> None:
    first = [await house.database.write(lambda tx: tx.new_id()) for _ in range(3)]
    await house.close()
    house.clock.now -= 1_000_000
    house.open()
    second = await house.database.write(lambda tx: tx.new_id())
    assert [*first, second] == sorted({*first, second})
    assert second < 2**63


async def test_a_closed_store_refuses(tmp_path: Path) -> None:
    house = House(tmp_path).open()
    await house.close()
    with pytest.raises(StoreFault):
        await house.database.write(say("word"))
    with pytest.raises(StoreFault):
        await house.database.read(lambda reader: reader.rows("SELECT 1"))
    await house.database.close()
