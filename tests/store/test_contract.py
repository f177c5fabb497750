# SPDX-License-Identifier: Apache-2.0
"""What every Database and BlobStore promises, run on each of them.

PostgreSQL takes part in `make test-interop`: on a cluster of the tests' own, or the one that
POSTHOUSE_TEST_POSTGRES names.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from posthouse.net.clock import SystemClock, SystemEntropy
from posthouse.net.disk import PosixDisk
from posthouse.net.workers import ThreadWorkers
from posthouse.outcome import SYSTEM_FAULT, Refusal
from posthouse.ports import BlobLocation, BlobStore, Conflict, Content, Database, StoreFault
from posthouse.store.databases.sqlite import open_sqlite
from posthouse.store.settings import StoreSettings
from tests.cluster import new_schema

from .machine import InlineWorkers, content, fault_words, keep, keep_content, migrations, outcomes, say

SETTINGS = StoreSettings(reserve_octets=0)


class Kit:
    """One implementation, opened on a folder, and opened again."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.database: Database
        self.packs: BlobStore
        self.workers: Any
        self.dsn = ""

    def open(self) -> None:
        self.workers = InlineWorkers() if self.kind == "sqlite-inline" else ThreadWorkers()
        machine = (self.folder, PosixDisk(), self.workers, SystemClock(), SystemEntropy())
        if self.kind == "postgres":
            from posthouse.store.databases.postgres import open_postgres

            self.database, self.packs = open_postgres(self.dsn, *machine, settings=SETTINGS, migrations=migrations())
        else:
            self.database, self.packs = open_sqlite(*machine, settings=SETTINGS, migrations=migrations())

    async def close(self) -> None:
        await self.database.close()
        await self.packs.close()
        await self.workers.close()


@pytest.fixture(params=["sqlite", "sqlite-inline", pytest.param("postgres", marks=pytest.mark.interop)])
async def kit(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kit]:
    kit = Kit(request.param, tmp_path / "data")
    if kit.kind == "postgres":
        kit.dsn = new_schema(request.getfixturevalue("postgres"), f"contract_{os.getpid()}")
    kit.open()
    yield kit
    await kit.close()


async def texts(kit: Kit) -> list[str]:
    rows = await kit.database.read(lambda reader: reader.rows("SELECT text FROM word ORDER BY text"))
    return [text for (text,) in rows]


async def letter_rows(kit: Kit) -> list[tuple[int, BlobLocation]]:
    rows = await kit.database.read(lambda reader: reader.rows("SELECT id, pack, place, length FROM letter ORDER BY id"))
    return [(row[0], BlobLocation(*row[1:])) for row in rows]


async def test_values_of_every_kind_come_back_as_they_went(kit: Kit) -> None:
    def unit(tx: Any) -> None:
        sql = "INSERT INTO word (id, text, weight, octets) VALUES (:id, :text, :weight, :octets)"
        tx.run(sql, id=2**63 - 1, text="grüße, 驿站 :x %s 100%", weight=0.25, octets=bytes(range(256)))
        tx.run(sql, id=-5, text="", weight=None, octets=None)
        tx.run(sql, id=7, text="seven", weight=1_700_000_000.123456, octets=b"")

    await kit.database.write(unit)
    rows = await kit.database.read(lambda reader: reader.rows("SELECT id, text, weight, octets FROM word ORDER BY id"))
    assert rows == [
        (-5, "", None, None),
        (7, "seven", 1_700_000_000.123456, b""),
        (2**63 - 1, "grüße, 驿站 :x %s 100%", 0.25, bytes(range(256))),
    ]
    assert all(type(row) is tuple for row in rows)


async def test_the_one_sql_text_means_the_same(kit: Kit) -> None:
    """Quotes, percent signs, aggregates, UPSERT, RETURNING and CTEs."""

    def unit(tx: Any) -> list[Any]:
        upsert = (
            "INSERT INTO word (id, text, weight) VALUES (:id, :text, 1.5)"
            " ON CONFLICT (text) DO UPDATE SET weight = word.weight + 1 RETURNING id, weight"
        )
        found = [tx.row(upsert, id=1, text="a%b"), tx.row(upsert, id=2, text="a%b"), tx.row(upsert, id=3, text="it's")]
        found.append(tx.rows("SELECT id FROM word WHERE text LIKE 'a%' AND text <> ':id' ORDER BY id"))
        found.append(tx.row("SELECT SUM(id), COUNT(*), MAX(weight), COALESCE(SUM(id), 0) + :more FROM word", more=1))
        found.append(tx.row("WITH heavy AS (SELECT id FROM word WHERE weight > :least) SELECT id FROM heavy", least=2))
        found.append(tx.row("SELECT id FROM word WHERE id = :id", id=99))
        return found

    assert await kit.database.write(unit) == [(1, 1.5), (1, 2.5), (3, 1.5), [(1,)], (4, 2, 2.5, 5), (1,), None]
    total = await kit.database.read(lambda reader: reader.row("SELECT SUM(id) FROM word"))
    assert total is not None
    assert type(total[0]) is int


async def test_run_gives_the_rows_changed_and_many_runs_all(kit: Kit) -> None:
    def unit(tx: Any) -> list[int]:
        tx.many("INSERT INTO word (id, text) VALUES (:id, :text)", [{"id": n, "text": f"w{n}"} for n in range(10)])
        tx.many("INSERT INTO word (id, text) VALUES (:id, :text)", [])
        return [
            tx.run("UPDATE word SET weight = 1.0 WHERE id < :id", id=4),
            tx.run("UPDATE word SET weight = 1.0 WHERE id > :id", id=40),
            tx.run("DELETE FROM word WHERE id >= :id", id=7),
        ]

    assert await kit.database.write(unit) == [4, 0, 3]


async def test_a_unit_sees_its_own_changes_and_others_do_not_before_it_is_durable(kit: Kit) -> None:
    def unit(tx: Any) -> int:
        say("word")(tx)
        return len(tx.rows("SELECT id FROM word"))

    assert await kit.database.write(unit) == 1
    assert await texts(kit) == ["word"]


async def test_a_refused_unit_leaves_nothing_and_its_neighbours_everything(kit: Kit) -> None:
    def refused(tx: Any) -> None:
        keep(b"never")(tx)
        say("never")(tx)
        raise Refusal(SYSTEM_FAULT, "no")

    results = await outcomes(
        kit.database.write(say("one")), kit.database.write(refused), kit.database.write(say("two"))
    )
    assert fault_words(results) == ["ok", "Refusal", "ok"]
    assert await texts(kit) == ["one", "two"]
    assert await letter_rows(kit) == []


async def test_a_broken_rule_of_the_schema_is_a_conflict(kit: Kit) -> None:
    results = await outcomes(*(kit.database.write(say("same")) for _ in range(3)))
    assert sorted(fault_words(results)) == ["Conflict", "Conflict", "ok"]
    with pytest.raises(Conflict):
        await kit.database.write(say("same"))
    assert await texts(kit) == ["same"]


async def test_a_wrong_statement_is_the_programs_fault_and_hurts_nobody_else(kit: Kit) -> None:
    results = await outcomes(
        kit.database.write(say("one")),
        kit.database.write(lambda tx: tx.run("SELECT nonsense FROM nowhere")),
        kit.database.write(say("two")),
    )
    assert isinstance(results[1], Exception)
    assert not isinstance(results[1], StoreFault)
    assert await texts(kit) == ["one", "two"]
    with pytest.raises(Exception):  # noqa: B017, PT011 - the driver's own
        await kit.database.read(lambda reader: reader.rows("SELECT nonsense FROM nowhere"))
    assert await texts(kit) == ["one", "two"]


async def test_ids_are_unique_positive_and_grow_within_a_unit(kit: Kit) -> None:
    units = [kit.database.write(lambda tx: [tx.new_id() for _ in range(400)]) for _ in range(8)]
    groups = await asyncio.gather(*units)
    flat = [number for group in groups for number in group]
    assert len(set(flat)) == len(flat)
    assert all(group == sorted(group) for group in groups)
    assert all(0 < number < 2**63 for number in flat)


async def test_counting_under_load_loses_nothing(kit: Kit) -> None:
    """Read, decide, write: units behave as if they ran one after another."""
    await kit.database.write(lambda tx: tx.run("INSERT INTO word (id, text, weight) VALUES (1, 'n', 0)"))

    def unit(tx: Any) -> None:
        (weight,) = tx.row("SELECT weight FROM word WHERE id = 1")
        tx.run("UPDATE word SET weight = :weight WHERE id = 1", weight=weight + 1)

    assert fault_words(await outcomes(*(kit.database.write(unit) for _ in range(30)))) == ["ok"] * 30
    assert await kit.database.read(lambda reader: reader.row("SELECT weight FROM word")) == (30.0,)


async def test_a_read_is_of_one_moment(kit: Kit) -> None:
    counts: list[tuple[int, int]] = []

    def count(reader: Any) -> tuple[int, int]:
        return len(reader.rows("SELECT id FROM word")), reader.row("SELECT COUNT(*) FROM word")[0]

    async def grow() -> None:
        for n in range(30):
            await kit.database.write(say(f"w{n}"))

    async def look() -> None:
        counts.extend([await kit.database.read(count) for _ in range(30)])

    await asyncio.gather(grow(), look())
    assert all(first == second for first, second in counts)
    assert [first for first, _ in counts] == sorted(first for first, _ in counts)


async def test_letters_are_read_as_they_were_written(kit: Kit) -> None:
    letters = [b"", b"x", b"line\r\n" * 1000, bytes(range(256)) * 500]
    ids = await asyncio.gather(*(kit.database.write(keep(letter)) for letter in letters))
    found = {number: bytes(await kit.packs.open(place)) for number, place in await letter_rows(kit)}
    assert found == dict(zip(ids, letters, strict=True))
    await kit.close()
    kit.open()
    found = {number: bytes(await kit.packs.open(place)) for number, place in await letter_rows(kit)}
    assert found == dict(zip(ids, letters, strict=True))
    await kit.database.write(keep(b"after"))
    assert bytes(await kit.packs.open((await letter_rows(kit))[-1][1])) == b"after"


async def test_a_view_outlives_the_store(kit: Kit) -> None:
    await kit.database.write(keep(b"held"))
    [(_, place)] = await letter_rows(kit)
    view = await kit.packs.open(place)
    await kit.database.write(keep(b"more"))
    await kit.packs.close()
    assert bytes(view) == b"held"
    assert view.readonly


async def test_a_missing_pack_is_a_store_fault(kit: Kit) -> None:
    await kit.database.write(keep(b"x"))
    [(_, place)] = await letter_rows(kit)
    for wrong in (BlobLocation(1, 64, 10), BlobLocation(place.pack, place.offset, 10_000)):
        with pytest.raises(StoreFault):
            await kit.packs.open(wrong)


async def test_a_spooled_letter_is_shared_by_units_and_survives(kit: Kit) -> None:
    octets = os.urandom(700_000)
    spool = kit.packs.spool()
    buffer = bytearray(100_000)
    for start in range(0, len(octets), 100_000):
        buffer[:] = octets[start : start + 100_000]  # the caller's buffer is filled again
        await spool.write(memoryview(buffer))
    place = await spool.seal()
    letter = Content(len(octets), sha256(octets).digest(), sealed=place)

    def refused(tx: Any) -> None:
        keep_content(letter)(tx)
        raise Refusal(SYSTEM_FAULT, "no")

    with pytest.raises(Refusal):
        await kit.database.write(refused)
    await kit.database.write(keep_content(letter))
    await kit.database.write(keep_content(letter))
    await spool.discard()
    await kit.close()
    kit.open()
    rows = await letter_rows(kit)
    assert [found for _, found in rows] == [place, place]
    assert bytes(await kit.packs.open(place)) == octets


async def test_a_discarded_spool_cannot_be_used_any_more(kit: Kit) -> None:
    spool = kit.packs.spool()
    await spool.write(b"x" * 300_000)
    place = await spool.seal()
    await spool.discard()
    await spool.discard()
    with pytest.raises(StoreFault):
        await kit.database.write(keep_content(Content(300_000, b"", sealed=place)))
    with pytest.raises(StoreFault):
        await spool.write(b"x")
    with pytest.raises(StoreFault):
        await spool.seal()
    empty = kit.packs.spool()
    await empty.discard()


async def test_a_snapshot_is_one_file_of_one_moment(kit: Kit, tmp_path: Path) -> None:
    for n in range(50):
        await kit.database.write(say(f"w{n:03}"))
    await kit.database.write(keep(b"letter"))
    target = tmp_path / "backup" / "snapshot.sqlite3"

    async def busy() -> None:
        for n in range(50, 80):
            await kit.database.write(say(f"w{n:03}"))

    await asyncio.gather(kit.database.snapshot(target), busy())
    await kit.database.snapshot(target)  # a second one takes its place
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert target.stat().st_mode & 0o077 == 0
    copy = sqlite3.connect(target)
    assert [text for (text,) in copy.execute("SELECT text FROM word ORDER BY text")] == [f"w{n:03}" for n in range(80)]
    assert copy.execute("SELECT length FROM letter").fetchall() == [(6,)]
    copy.close()
    await kit.close()
    kit.open()
    assert len(await texts(kit)) == 80


async def test_a_digest_is_kept_as_octets(kit: Kit) -> None:
    letter = content(b"x")
    await kit.database.write(keep_content(letter))
    found = await kit.database.read(lambda reader: reader.row("SELECT digest FROM letter"))
    assert found == (letter.digest,)


async def test_closing_waits_for_what_was_handed_in(kit: Kit) -> None:
    writes = [asyncio.ensure_future(kit.database.write(say(f"w{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    await kit.close()
    assert fault_words(await outcomes(*writes)) == ["ok"] * 20
    kit.open()
    assert len(await texts(kit)) == 20
