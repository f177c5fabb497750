# SPDX-License-Identifier: Apache-2.0
"""A pack with any octets in it: records and damage that cover it in order, and whole records of ours are found."""

from __future__ import annotations

import contextlib
import struct
from zlib import crc32

from fuzz.choices import Choices
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
)

DICTIONARY = "pack.dict"
MARK = b"MARKMARK"
MAX_SIZE = 3000


def target(data: bytes) -> None:
    """Each `MARKMARK` begins a record; where `<crc>` follows a header of ours its checksums are made right."""
    with contextlib.suppress(DamagedPack):
        read_pack_header(memoryview(data))
    choices = Choices(data)
    kind = PackKind.OWN if choices.number(4) == 3 else PackKind.LOG
    is_checked = choices.flag()
    pieces = choices.rest.split(b"<record>")
    octets = bytearray(pack_header(kind, 7, 1_700_000_000.0, MARK))
    octets += pieces[0]
    ours: list[bytes] = []
    for piece in pieces[1:]:
        drawn = Choices(piece)
        octets += _record(drawn, len(octets), ours)
    header = read_pack_header(memoryview(octets))
    assert header == PackHeader(kind, 7, 1_700_000_000.0, MARK)
    _check(memoryview(octets), header, ours, is_checked=is_checked)


def _record(choices: Choices, at: int, ours: list[bytes]) -> bytes:
    """One record with a right header checksum: well formed, or with numbers that somebody else chose."""
    shape = choices.number(4)
    note = choices.octets(20)
    content = choices.rest
    if shape == 0:
        ours.append(content)
        return record_header(MARK, note, len(content), crc32(content)) + content
    if shape == 1:
        content = pack_reference(BlobLocation(9, at, len(content)))
        return record_header(MARK, note, len(content), crc32(content), RecordKind.REFERENCE) + content
    numbers = [choices.number(65536) for _ in range(3)]
    length = (numbers[0], (1 << 64) - 1 - numbers[0], numbers[0] << 40)[numbers[1] % 3]
    head = struct.pack("<8sBBHIQI", MARK, 1 + numbers[2] % 2, choices.number(3), numbers[1], len(note), length, 0)
    return head + struct.pack("<I", crc32(note, crc32(head))) + note + content


def _check(view: memoryview, header: PackHeader, ours: list[bytes], *, is_checked: bool) -> None:
    found = list(scan(view, header, is_checked=is_checked))
    if header.kind is PackKind.OWN:
        assert len(found) <= 1
        return
    position = PACK_HEADER_SIZE
    for each in found:
        assert each.start == position, "the scan leaves a gap"
        assert each.end > each.start, "the scan does not go on"
        position = each.end
        if isinstance(each, Record):
            assert each.location.length >= 0
        else:
            assert isinstance(each, Damage)
    assert position == len(view), "the scan ends before the pack"
    if len(found) == len(ours) and all(isinstance(each, Record) for each in found):
        contents = [bytes(each.content) for each in found if isinstance(each, Record)]
        assert contents == ours, "a record's content changed"
