# SPDX-License-Identifier: Apache-2.0
"""What a fault leaves behind: nothing that a row may refer to is removed, and nothing broken is used again."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import apsw
import pytest

from posthouse.ports import Content, StoreFault
from posthouse.store.databases.sqlite_engine import SqliteReader

from .machine import House, keep_content

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
