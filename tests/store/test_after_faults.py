# SPDX-License-Identifier: Apache-2.0
"""What a fault leaves behind: nothing that a row may refer to is removed, and nothing broken is used again."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import apsw
import pytest

from posthouse.ports import Content, StoreFault
from posthouse.store.databases.sqlite_engine import SqliteReader

from .machine import House, keep, keep_content, outcomes

BIG = b"large " * 100_000


@pytest.mark.parametrize(("error", "is_kept"), [(apsw.IOError, True), (apsw.FullError, False)])
async def test_a_commit_of_unknown_end_keeps_the_spooled_pack_until_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[apsw.Error], is_kept: bool
) -> None:
    """After a crash such a commit may come to light; without space it was never written."""
    house = House(tmp_path).open()
    spool = house.packs.spool()
    await spool.write(BIG)
    place = await spool.seal()

    def commit() -> None:
        raise error("in the middle of it")

    with monkeypatch.context() as patch:
        patch.setattr(house.database._committer._engine, "commit", commit)
        with pytest.raises(StoreFault):
            await house.database.write(keep_content(Content(len(BIG), sha256(BIG).digest(), sealed=place)))
    await spool.discard()
    assert (place.pack in house.packs.numbers()) is is_kept
    await house.close()
    house.open()
    assert place.pack not in house.packs.numbers()
    assert await house.letters() == {}
    await house.close()


async def test_a_reader_whose_transaction_did_not_end_is_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path).open()

    def end(reader: SqliteReader) -> None:
        raise apsw.IOError("the disk")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteReader, "end", end)
        with pytest.raises(StoreFault):
            await house.database.read(lambda reader: reader.row("SELECT 1"))
    assert await house.database.read(lambda reader: reader.row("SELECT 1")) == (1,)
    await house.close()


def _records(house: House) -> list[bytes]:
    """Contents of what counts as acknowledged in the packs, whatever lies behind it."""
    return [bytes(each.content) for number in house.packs.numbers() for each in house.packs.records(number) if each]


class _FailingCommits:
    """COMMIT fails so many times; the transaction is rolled back, as SQLite does it."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self._commit = house.database._committer._engine.commit
        monkeypatch.setattr(house.database._committer._engine, "commit", self)

    def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise apsw.IOError("in the middle of it")
        self._commit()


async def test_a_letter_refused_for_a_failed_commit_leaves_no_record_in_the_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check --store` and a rebuild take every record for a letter that somebody was promised."""
    house = House(tmp_path).open()
    commits = _FailingCommits(house, monkeypatch)
    expected = {await house.database.write(keep(b"before")): b"before"}
    commits.left = 1
    with pytest.raises(StoreFault):
        await house.database.write(keep(b"refused"))
    expected[await house.database.write(keep(b"after"))] = b"after"
    assert _records(house) == [b"before", b"after"]
    assert await house.letters() == expected
    await house.close()
    house.open()
    assert _records(house) == [b"before", b"after"]
    assert await house.letters() == expected
    await house.close()


async def test_what_a_commit_of_unknown_end_needs_stays_until_another_one_has_taken_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is broken the pack neither loses those octets nor grows with every try."""
    house = House(tmp_path).open()
    commits = _FailingCommits(house, monkeypatch)
    await house.database.write(keep(b"before"))
    commits.left = 10
    sizes = set()
    for number in range(8):
        with pytest.raises(StoreFault):
            await house.database.write(keep(b"refused"))
        if number:  # the first one may come to light: its record is there
            assert b"refused" in house.pack_files[0].read_bytes()
        sizes.add(house.pack_files[0].stat().st_size)
    assert len(sizes) == 1
    assert len(house.pack_files) == 1
    commits.left = 0
    await house.database.write(keep(b"after"))
    assert b"refused" not in house.pack_files[0].read_bytes()
    await house.close()


async def test_units_of_a_batch_whose_commit_failed_once_all_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path).open()
    commits = _FailingCommits(house, monkeypatch)
    commits.left = 1
    numbers = await outcomes(*(house.database.write(keep(b"letter %d" % n)) for n in range(4)))
    assert await house.letters() == {number: b"letter %d" % n for n, number in enumerate(numbers)}
    assert _records(house) == [b"letter %d" % n for n in range(4)]
    await house.close()
