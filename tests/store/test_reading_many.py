# SPDX-License-Identifier: Apache-2.0
"""Opening many contents at once, and the beginning of one: the same octets and the same faults as one by one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from posthouse.ports import BlobLocation, DamagedContent, StoreFault, Transaction
from posthouse.store.blobs import packs as module
from tests.store.drill import flip
from tests.store.machine import House, content

LETTERS = [bytes([number]) * (number * 37 + 1) for number in range(40)] + [b"", bytes(300_000), b"last"]


def keep(octets: bytes) -> Callable[[Transaction], BlobLocation]:
    def unit(tx: Transaction) -> BlobLocation:
        return replace(tx.append(content(octets), b"note"), digest=sha256(octets).digest())

    return unit


async def filled(folder: Path) -> tuple[House, list[BlobLocation]]:
    """A house whose packs nobody has looked at yet, and where its letters lie."""
    house = House(folder).open()
    places = [await house.database.write(keep(octets)) for octets in LETTERS]
    house.packs.forget_checked()
    return house, places


async def test_many_are_opened_as_each_alone_would_be(tmp_path: Path) -> None:
    house, places = await filled(tmp_path)
    mixed = [*range(len(LETTERS)), *range(0, len(LETTERS), 3)]
    random.Random(1).shuffle(mixed)
    for order in (range(len(LETTERS)), mixed, range(len(LETTERS))):
        found = await house.packs.open_all([places[number] for number in order])
        assert [bytes(each) for each in found if not isinstance(each, StoreFault)] == [LETTERS[n] for n in order]
    await house.close()


async def test_neighbours_are_read_in_one_piece_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house, places = await filled(tmp_path)
    reads: list[tuple[int, int]] = []
    real = house.disk.read

    def read(path: Path, offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return real(path, offset, length)

    monkeypatch.setattr(house.disk, "read", read)
    small = places[:40]
    await house.packs.open_all(small)
    assert reads == [(small[0].offset, small[-1].offset + small[-1].length - small[0].offset)]
    await house.packs.open_all(small)
    assert len(reads) == 1
    monkeypatch.setattr(module, "MAX_GAP", 0)
    house.packs.forget_checked()
    await house.packs.open_all(small)
    assert sum(length for _, length in reads[1:]) == sum(place.length for place in small)
    await house.close()


async def test_a_hurt_one_among_many_is_named_and_the_others_are_there(tmp_path: Path) -> None:
    house, places = await filled(tmp_path)
    [path] = [each for each in house.pack_files if each.stem.endswith(str(places[7].pack))]
    flip(path, places[7].offset + 5)
    for _again in range(2):
        found = await house.packs.open_all(places)
        assert [isinstance(each, DamagedContent) for each in found] == [number == 7 for number in range(len(LETTERS))]
        others = [bytes(each) for each in found if not isinstance(each, StoreFault)]
        assert others == [octets for number, octets in enumerate(LETTERS) if number != 7]
    await house.close()


async def test_a_pack_that_is_missing_fails_its_own_alone(tmp_path: Path) -> None:
    house, places = await filled(tmp_path)
    lost = [replace(place, pack=99) for place in places[3:6]]
    found = await house.packs.open_all([*places[:3], *lost, places[6]])
    assert [isinstance(each, StoreFault) for each in found] == [False] * 3 + [True] * 3 + [False]
    await house.close()


async def test_a_beginning_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house, places = await filled(tmp_path)
    large = places[-2]

    async def never(*_: object) -> None:
        raise AssertionError("all of it was looked at")

    monkeypatch.setattr(house.packs, "open", never)
    assert await house.packs.beginning(large, 100) == bytes(100)
    assert await house.packs.beginning(places[10], 5) == LETTERS[10][:5]
    assert await house.packs.beginning(places[10], 0) == b""
    await house.close()


async def test_a_beginning_of_more_than_there_is_or_in_no_pack_is_a_fault(tmp_path: Path) -> None:
    house, places = await filled(tmp_path)
    assert await house.packs.beginning(places[5], places[5].length + 1) == LETTERS[5]
    short = BlobLocation(places[-1].pack, house.pack_files[-1].stat().st_size - 3, 10)
    for wrong in (short, replace(places[0], pack=99)):
        with pytest.raises(DamagedContent):
            await house.packs.beginning(wrong, min(10, wrong.length))
    await house.close()
