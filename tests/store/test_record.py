# SPDX-License-Identifier: Apache-2.0
"""The format of packs: what is written is read back, and damage never hides more than it touches."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.ports import BlobLocation
from posthouse.store.blobs.record import (
    PACK_HEADER_SIZE,
    Damage,
    DamagedPack,
    PackHeader,
    PackKind,
    Record,
    RecordKind,
    pack_header,
    pack_reference,
    read_pack_header,
    record_header,
    scan,
    unpack_reference,
)

MARK = b"\x91markeD\x07"
HEADER = PackHeader(PackKind.LOG, 1_700_000_000_000, 1_700_000_000.0, MARK)

letters = st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=200)), max_size=8)


def build(parts: list[tuple[bytes, bytes]]) -> bytes:
    pack = pack_header(HEADER.kind, HEADER.number, HEADER.created_at, MARK)
    for note, content in parts:
        pack += record_header(MARK, note, len(content), crc32(content)) + content
    return pack


def records(pack: bytes) -> list[tuple[bytes, bytes]]:
    return [(item.note, bytes(item.content)) for item in scan(memoryview(pack), HEADER) if isinstance(item, Record)]


@given(letters)
def test_what_was_written_is_read_back(parts: list[tuple[bytes, bytes]]) -> None:
    pack = build(parts)
    assert read_pack_header(memoryview(pack)) == HEADER
    assert records(pack) == parts
    for item in scan(memoryview(pack), HEADER):
        assert isinstance(item, Record)
        assert pack[item.location.offset : item.location.offset + item.location.length] == bytes(item.content)


@given(letters.filter(bool), st.data())
def test_a_pack_cut_anywhere_gives_every_whole_record(parts: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    pack = build(parts)
    cut = data.draw(st.integers(PACK_HEADER_SIZE, len(pack)))
    ends = [len(build(parts[: n + 1])) for n in range(len(parts))]
    assert records(pack[:cut]) == parts[: sum(end <= cut for end in ends)]


@given(
    st.lists(st.tuples(st.binary(max_size=60), st.binary(min_size=1, max_size=200)), min_size=2, max_size=6), st.data()
)
def test_one_damaged_octet_costs_one_record(parts: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    pack = bytearray(build(parts))
    place = data.draw(st.integers(PACK_HEADER_SIZE, len(pack) - 1))
    pack[place] ^= data.draw(st.integers(1, 255))
    starts = [len(build(parts[:n])) for n in range(len(parts))]
    hit = sum(start <= place for start in starts) - 1
    assert records(bytes(pack)) == parts[:hit] + parts[hit + 1 :]
    found = list(scan(memoryview(bytes(pack)), HEADER))
    assert sum(item.end - item.start for item in found) == len(pack) - PACK_HEADER_SIZE
    assert any(isinstance(item, Damage) for item in found)


def test_a_letter_that_looks_like_a_pack_makes_no_false_record() -> None:
    """Only who knows the pack's mark can write a record; a letter's author does not."""
    false = record_header(b"\0" * 8, b"note", 5, crc32(b"false")) + b"false"
    pack = bytearray(build([(b"a", b"x" * 10 + false), (b"b", b"y")]))
    pack[PACK_HEADER_SIZE] ^= 1
    assert records(bytes(pack)) == [(b"b", b"y")]


def test_a_pack_of_one_content_is_described_by_its_trailer() -> None:
    header = PackHeader(PackKind.OWN, 5, 0.005, MARK)
    body = b"large content"
    pack = pack_header(header.kind, 5, 0.005, MARK) + body
    pack += record_header(MARK, b"", len(body), crc32(body), RecordKind.TRAILER)
    [found] = scan(memoryview(pack), header)
    assert isinstance(found, Record)
    assert (found.location, bytes(found.content)) == (BlobLocation(5, PACK_HEADER_SIZE, len(body)), body)
    for cut in range(PACK_HEADER_SIZE, len(pack)):
        [damage] = scan(memoryview(pack[:cut]), header)
        assert isinstance(damage, Damage)


def test_a_reference_gives_the_place_it_refers_to() -> None:
    place = BlobLocation(7, 64, 300_000)
    octets = pack_reference(place)
    assert unpack_reference(octets) == place
    pack = build([]) + record_header(MARK, b"n", len(octets), crc32(octets), RecordKind.REFERENCE) + octets
    [found] = scan(memoryview(pack), HEADER)
    assert isinstance(found, Record)
    assert (found.kind, found.location) == (RecordKind.REFERENCE, place)


def test_a_damaged_or_unknown_header_is_refused_with_its_reason() -> None:
    good = pack_header(PackKind.LOG, 1, 1.0, MARK)
    for place in range(PACK_HEADER_SIZE):
        bad = bytearray(good)
        bad[place] ^= 0x10
        with pytest.raises(DamagedPack):
            read_pack_header(memoryview(bytes(bad)))
    with pytest.raises(DamagedPack, match="shorter"):
        read_pack_header(memoryview(good[:20]))
