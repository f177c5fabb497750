# SPDX-License-Identifier: Apache-2.0
"""What a start finds after a crash: acknowledged letters are all there, everything else is gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from posthouse.ports import StoreFault
from posthouse.store.blobs.record import RECORD_HEADER_SIZE, record_header
from posthouse.store.settings import StoreSettings

from .machine import House, keep, keep_content, say


async def crashed(folder: Path, tmp_path: Path) -> Path:
    """A copy of the files as a crash at this moment leaves them (everything acknowledged was synced)."""
    copy = tmp_path / "crashed"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    return copy


async def test_letters_and_rows_survive_a_crash(tmp_path: Path) -> None:
    house = House(tmp_path / "data").open()
    ids = {await house.database.write(keep(b"letter %d" % n)): b"letter %d" % n for n in range(5)}
    copy = await crashed(house.folder, tmp_path)
    again = House(copy).open()
    assert await again.letters() == ids
    number = await again.database.write(keep(b"one more"))
    assert await again.letters() == ids | {number: b"one more"}
    assert len(again.pack_files) == 1
    await again.close()
    await house.close()


@pytest.mark.slow
async def test_a_torn_tail_of_any_length_is_cut_off(tmp_path: Path) -> None:
    """A batch that was written but not committed leaves any part of its record behind the tail."""
    house = House(tmp_path / "data").open()
    ids = {await house.database.write(keep(b"kept")): b"kept"}
    await house.close()
    whole = house.pack_files[0].read_bytes()
    mark = whole[64:72]
    torn = record_header(mark, b"note", 40, 0) + b"x" * 40
    for length in range(1, len(torn) + 1):
        house.pack_files[0].write_bytes(whole + torn[:length])
        house.open()
        assert house.packs.recovery.cut_octets == length
        assert house.pack_files[0].read_bytes() == whole
        assert await house.letters() == ids
        await house.close()


@pytest.mark.slow
async def test_a_pack_cut_short_loses_only_what_was_cut(tmp_path: Path) -> None:
    """Damage from outside, at every octet of the last record: the store starts, says so, and serves the rest."""
    house = House(tmp_path / "data").open()
    first = await house.database.write(keep(b"first"))
    start = house.pack_files[0].stat().st_size
    second = await house.database.write(keep(b"second"))
    await house.close()
    end = house.pack_files[0].stat().st_size
    for size in range(start, end):
        copy = tmp_path / f"cut-{size}"
        shutil.copytree(house.folder, copy)
        again = House(copy)
        with again.pack_files[0].open("r+b") as file:
            file.truncate(size)
        again.open()
        assert again.packs.recovery.findings
        rows = await again.database.read(lambda reader: reader.rows("SELECT id, pack, place, length FROM letter"))
        assert [row[0] for row in rows] == [first, second]
        third = await again.database.write(keep(b"third"))
        row = await again.database.read(lambda reader: reader.row("SELECT pack FROM letter WHERE id = :id", id=third))  # noqa: B023 - run at once
        assert row != (rows[0][1],)
        from .machine import location

        assert bytes(await again.packs.open(location(*rows[0][1:]))) == b"first"
        with pytest.raises(StoreFault):
            await again.packs.open(location(*rows[1][1:]))
        await again.close()
        shutil.rmtree(copy)


async def test_a_new_pack_whose_batch_never_committed_is_removed(tmp_path: Path) -> None:
    house = House(tmp_path / "data").open()
    ids = {await house.database.write(keep(b"kept")): b"kept"}
    await house.close()
    stray = house.pack_files[0].with_name("001700000099999.pack")
    stray.write_bytes(house.pack_files[0].read_bytes())
    house.open()
    assert house.packs.recovery.removed == [stray.name]
    assert await house.letters() == ids
    await house.close()


async def test_spooled_content_that_no_unit_took_is_removed_at_start(tmp_path: Path) -> None:
    house = House(tmp_path / "data").open()
    sealed, unfinished = house.packs.spool(), house.packs.spool()
    await sealed.write(b"x" * 300_000)
    await sealed.seal()
    await unfinished.write(b"y" * 300_000)
    copy = await crashed(house.folder, tmp_path)
    again = House(copy).open()
    assert len(again.packs.recovery.removed) == 2
    assert again.pack_files == []
    assert list((copy / "packs").glob("*.part")) == []
    await again.close()
    await sealed.discard()
    await unfinished.discard()
    assert [path.name for path in (house.folder / "packs").iterdir()] == ["lineage"]
    await house.close()


async def test_a_spooled_letter_survives_and_its_number_is_not_used_again(tmp_path: Path) -> None:
    from hashlib import sha256

    from posthouse.ports import Content

    house = House(tmp_path / "data").open()
    octets = b"large " * 100_000
    spool = house.packs.spool()
    for start in range(0, len(octets), 70_000):
        await spool.write(memoryview(octets)[start : start + 70_000])
    place = await spool.seal()
    letter = Content(len(octets), sha256(octets).digest(), sealed=place)
    number = await house.database.write(keep_content(letter))
    await spool.discard()  # too late to matter: a unit refers to it
    house.clock.now -= 1000
    other = house.packs.spool()
    await other.write(b"z" * 300_000)
    assert (await other.seal()).pack > place.pack
    copy = await crashed(house.folder, tmp_path)
    again = House(copy)
    again.clock.now -= 2000
    again.open()
    assert await again.letters() == {number: octets}
    third = again.packs.spool()
    await third.write(b"z")
    assert (await third.seal()).pack > place.pack
    await third.discard()
    await again.close()
    await house.close()


async def test_an_older_database_does_not_destroy_newer_packs(tmp_path: Path) -> None:
    """A database put back from a snapshot must not take the letters since then for a crash's leftovers."""
    house = House(tmp_path / "data").open()
    await house.database.write(keep(b"old"))
    await house.database.snapshot(tmp_path / "snapshot")
    await house.database.write(keep(b"new"))
    await house.close()
    before = {path.name: path.read_bytes() for path in house.pack_files}
    shutil.copy(tmp_path / "snapshot", house.folder / "posthouse.sqlite3")
    with pytest.raises(StoreFault, match="do not belong to this database"):
        house.open()
    assert {path.name: path.read_bytes() for path in house.pack_files} == before
    house.settings = StoreSettings(reserve_octets=0, adopt=True)
    house.open()
    assert list((await house.letters()).values()) == [b"old"]
    await house.database.write(keep(b"newest"))
    await house.close()
    house.settings = StoreSettings(reserve_octets=0)
    house.open()
    assert sorted((await house.letters()).values()) == [b"newest", b"old"]
    contents = [bytes(record.content) for record in house.packs.records(house.packs.numbers()[0])]  # type: ignore[union-attr] # no damage
    assert contents == [b"old", b"new"]
    await house.close()


async def test_a_crash_between_the_two_places_of_the_lineage_is_no_mismatch(tmp_path: Path) -> None:
    house = House(tmp_path / "data").open()
    number = await house.database.write(keep(b"kept"))
    await house.close()
    lineage = house.folder / "packs" / "lineage"
    earlier = lineage.read_bytes()
    house.open()
    await house.close()
    assert lineage.read_bytes() != earlier
    lineage.write_bytes(earlier)
    house.open()
    assert await house.letters() == {number: b"kept"}
    await house.close()


async def test_records_give_back_every_letter_with_its_note(tmp_path: Path) -> None:
    house = House(tmp_path / "data").open()
    for n in range(3):
        await house.database.write(keep(b"letter %d" % n, b"note %d" % n))
    await house.database.write(say("word"))
    found = list(house.packs.records(house.packs.numbers()[0]))
    assert [(record.note, bytes(record.content)) for record in found] == [  # type: ignore[union-attr] # no damage
        (b"note %d" % n, b"letter %d" % n) for n in range(3)
    ]
    assert found[0].location.offset == 64 + RECORD_HEADER_SIZE + 6  # type: ignore[union-attr] # no damage
    await house.close()


async def test_a_missing_pack_is_reported_and_the_rest_is_served(tmp_path: Path) -> None:
    house = House(tmp_path / "data", settings=StoreSettings(seal_octets=100, reserve_octets=0)).open()
    for n in range(3):
        await house.database.write(keep(b"%d" % n * 100))
    await house.close()
    house.pack_files[0].unlink()
    house.open()
    assert len(house.packs.recovery.findings) == 1
    rows = await house.database.read(lambda reader: reader.rows("SELECT pack, place, length FROM letter ORDER BY id"))
    from .machine import location

    assert bytes(await house.packs.open(location(*rows[2]))) == b"2" * 100
    with pytest.raises(StoreFault):
        await house.packs.open(location(*rows[0]))
    await house.close()
