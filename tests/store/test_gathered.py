# SPDX-License-Identifier: Apache-2.0
"""Rows that units add are written together, and nobody can tell: not their reader, not a neighbour that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.outcome import SYSTEM_FAULT, Refusal
from posthouse.ports import Value
from posthouse.store.databases.gathered import Gathered

from .machine import House, fault_words, keep, outcomes

ADD = "INSERT INTO word (id, text, weight) VALUES (:id, :text, 1)"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path).open()
    yield house
    await house.close()


def add(text: str) -> Any:
    return lambda tx: tx.add(ADD, [{"id": tx.new_id(), "text": text}])


async def words(house: House) -> list[str]:
    rows = await house.database.read(lambda reader: reader.rows("SELECT text FROM word ORDER BY id"))
    return [text for (text,) in rows]


async def test_rows_of_all_units_of_a_batch_are_there_after_it_in_order(house: House) -> None:
    await outcomes(*(house.database.write(add(f"word {number:03}")) for number in range(150)))
    assert house.workers.batches[-1] == 150
    assert await words(house) == [f"word {number:03}" for number in range(150)]


async def test_a_unit_sees_what_it_and_units_before_it_added(house: House) -> None:
    def count(tx: Any) -> int:
        tx.add(ADD, [{"id": tx.new_id(), "text": "own"}])
        return int(tx.row("SELECT COUNT(*) FROM word")[0])

    def change(tx: Any) -> int:
        return int(tx.run("UPDATE word SET weight = 2"))

    results = await outcomes(*map(house.database.write, (add("one"), count, add("two"), change)))
    assert results[1] == 2
    assert results[3] == 3


async def test_a_unit_that_fails_takes_its_rows_back_and_no_others(house: House) -> None:
    def refused(tx: Any) -> None:
        add("never")(tx)
        keep(b"never")(tx)
        raise Refusal(SYSTEM_FAULT, "no")

    results = await outcomes(*map(house.database.write, (add("one"), keep(b"letter"), refused, add("two"))))
    assert fault_words(results) == ["ok", "ok", "Refusal", "ok"]
    assert await words(house) == ["one", "two"]
    assert list((await house.letters()).values()) == [b"letter"]
    assert b"never" not in house.pack_files[0].read_bytes()


async def test_of_rows_that_conflict_after_all_only_the_guilty_unit_is_refused(house: House) -> None:
    results = await outcomes(*map(house.database.write, (add("same"), add("other"), add("same"))))
    assert fault_words(results) == ["ok", "ok", "Conflict"]
    assert await words(house) == ["same", "other"]


async def test_only_plain_inserts_can_wait(house: House) -> None:
    sql = "INSERT INTO word (id, text) SELECT :id, :text"
    with pytest.raises(ValueError, match="not a plain INSERT"):
        await house.database.write(lambda tx: tx.add(sql, [{"id": 1, "text": "x"}]))


@given(st.lists(st.integers(0, 90), max_size=6))
def test_every_row_is_written_once_and_in_order_whatever_the_number(sizes: list[int]) -> None:
    gathered, written = Gathered(), list[Value]()
    expected = list(range(sum(sizes)))
    left = iter(expected)
    for size in sizes:
        gathered.add("INSERT INTO t (a, b) VALUES (:a, 7)", [{"a": next(left)} for _ in range(size)])
    assert gathered.count == len(expected)

    def execute(sql: str, values: Sequence[Value]) -> None:
        assert sql == "INSERT INTO t (a, b) VALUES " + ", ".join(["(?, 7)"] * len(values))
        written.extend(values)

    gathered.write(execute)
    assert written == expected
    assert gathered.count == 0


def test_a_statement_concerns_rows_that_wait_when_it_names_their_table() -> None:
    gathered = Gathered()
    gathered.add("INSERT INTO letter (id) VALUES (:id)", [{"id": 1}])
    assert gathered.concerns("SELECT 1 FROM letter WHERE id = :id")
    assert not gathered.concerns("SELECT letters FROM mailbox")
    gathered.add("INSERT INTO mailbox (id) VALUES (:id)", [{"id": 1}])
    assert gathered.concerns("SELECT letters FROM mailbox")
