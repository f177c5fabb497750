# SPDX-License-Identifier: Apache-2.0
"""The format of packs: octets in, records out. Invariant: a record is either whole and checked, or damage.

A pack is a header of 64 octets and records, one after another, without padding. All numbers are little-endian.

    pack header    magic 8, format 1, codec 1, kind 2, zero 4, number 8, created 8 (float), mark 8, zero 20, CRC 4
    record header  mark 8, format 1, codec 1, kind 2, note length 4, content length 8, CRC of content 4,
                   CRC of the header up to here and of the note 4; then the note, then the content

The mark is 8 random octets of each pack: after damage the next record is found by searching for it, and no
letter can contain a false record, for nobody outside knows it. In a pack of one spooled content the content
comes first, when its length is not known yet, and a record header (with no note) ends the file.
CRC is CRC-32 (zlib): it finds damage, not malice. Codec 0 is raw octets that can be mapped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from zlib import crc32

from posthouse.ports import BlobLocation, Buffer

MAGIC = b"PHPACK\r\n"  # CR LF shows a pack that went through a text conversion
FORMAT = 1
RAW = 0
MARK_SIZE = 8

_PACK = struct.Struct("<8sBBHIQd8s20x")
_RECORD = struct.Struct("<8sBBHIQI")
_CRC = struct.Struct("<I")
_REFERENCE = struct.Struct("<QQQ")
PACK_HEADER_SIZE = _PACK.size + _CRC.size
RECORD_HEADER_SIZE = _RECORD.size + _CRC.size

# A note holds an envelope summary and a few ids and prefixes per recipient. With 1,000 recipients that is
# some hundred KiB; a length beyond this in a header is damage, and must not make a scan jump far ahead.
MAX_NOTE = 16 * 1024 * 1024


class PackKind(IntEnum):
    """What a pack file holds."""

    LOG = 1  # many records
    OWN = 2  # one spooled content


class RecordKind(IntEnum):
    """What a record's content is."""

    CONTENT = 0  # a letter
    REFERENCE = 1  # where a letter lies that has a pack of its own (see `unpack_reference`)
    TRAILER = 2  # ends a pack of one content; describes the octets before it


_KINDS = frozenset(RecordKind)


class DamagedPack(Exception):  # noqa: N818 - a finding, reported by name
    """The pack's header cannot be read; its text says why."""


@dataclass(frozen=True, slots=True)
class PackHeader:
    kind: PackKind
    number: int
    created_at: float
    mark: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A whole, checked record. `location` is its content's (for a reference: the content it refers to)."""

    start: int
    end: int
    kind: RecordKind
    codec: int
    note: bytes
    location: BlobLocation
    content: memoryview


@dataclass(frozen=True, slots=True)
class Damage:
    """Octets of a pack that are no whole record: torn, overwritten, or cut.

    `note`, `kind` and `location` are set where the record's header and note are whole: then it is the content alone
    that is hurt, and they say whose it is and where it lay.
    """

    start: int
    end: int
    reason: str
    note: bytes | None = None
    kind: RecordKind | None = None
    location: BlobLocation | None = None


def pack_header(kind: PackKind, number: int, created_at: float, mark: bytes) -> bytes:
    head = _PACK.pack(MAGIC, FORMAT, RAW, kind, 0, number, created_at, mark)
    return head + _CRC.pack(crc32(head))


def read_pack_header(view: memoryview) -> PackHeader:
    """Raises DamagedPack."""
    if len(view) < PACK_HEADER_SIZE:
        raise DamagedPack("the file is shorter than a pack's header")
    head = bytes(view[: _PACK.size])
    magic, form, codec, kind, _, number, created_at, mark = _PACK.unpack(head)
    if magic != MAGIC or _CRC.unpack_from(view, _PACK.size)[0] != crc32(head):
        raise DamagedPack("the pack's header is damaged")
    if form != FORMAT or codec != RAW or kind not in (PackKind.LOG, PackKind.OWN):
        raise DamagedPack(f"the pack has format {form}, codec {codec}, kind {kind}: written by a newer version?")
    return PackHeader(PackKind(kind), number, created_at, mark)


def rescue_header(view: memoryview, number: int) -> PackHeader:
    """The header of a pack whose own is damaged, from what its records say. Raises DamagedPack.

    The first record of a pack of many begins right behind the header with the pack's mark; a pack of one content
    ends with it. Both are believed because their checksums hold.
    """
    for kind, start in ((PackKind.LOG, PACK_HEADER_SIZE), (PackKind.OWN, len(view) - RECORD_HEADER_SIZE)):
        if start < PACK_HEADER_SIZE or start + RECORD_HEADER_SIZE > len(view):
            continue
        header = PackHeader(kind, number, number / 1000, bytes(view[start : start + MARK_SIZE]))
        found = _read_record(view, start, header, is_checked=False)
        if isinstance(found, Record) and (found.kind is RecordKind.TRAILER) is (kind is PackKind.OWN):
            return header
    raise DamagedPack("the pack's header is damaged, and no record shows its mark")


def record_header(mark: bytes, note: bytes, length: int, content_crc: int, kind: int = RecordKind.CONTENT) -> bytes:
    """The octets that come before a content: header and note."""
    head = _RECORD.pack(mark, FORMAT, RAW, kind, len(note), length, content_crc)
    return head + _CRC.pack(crc32(note, crc32(head))) + note


def pack_reference(location: BlobLocation) -> bytes:
    return _REFERENCE.pack(location.pack, location.offset, location.length)


def unpack_reference(octets: Buffer) -> BlobLocation:
    return BlobLocation(*_REFERENCE.unpack(octets))


def _read_record(view: memoryview, start: int, header: PackHeader, *, is_checked: bool) -> Record | Damage | str:
    """The record that starts here, or why there is none; Damage where only its content is hurt."""
    if len(view) - start < RECORD_HEADER_SIZE:
        return "cut within a header"
    head = view[start : start + _RECORD.size]
    mark, form, codec, kind, note_length, length, content_crc = _RECORD.unpack(head)
    if mark != header.mark:
        return "no record starts here"
    note_start = start + RECORD_HEADER_SIZE
    if note_length > MAX_NOTE or note_start + note_length > len(view):
        return "cut within a note, or its length is damaged"
    note = bytes(view[note_start : note_start + note_length])
    if _CRC.unpack_from(view, start + _RECORD.size)[0] != crc32(note, crc32(head)):
        return "the header or note is damaged"
    if form != FORMAT:
        return f"unknown record format {form}"
    if kind not in _KINDS:
        return f"unknown record kind {kind}: written by a newer version?"
    content_start = note_start + note_length
    end = content_start + length
    if kind == RecordKind.TRAILER:
        content_start, end = start - length, content_start
    location = BlobLocation(header.number, content_start, length)
    if end > len(view) or content_start < PACK_HEADER_SIZE:
        return Damage(start, len(view), "cut within a content", note, RecordKind(kind), location)
    content = view[content_start : content_start + length]
    # A reference's few octets are checked always: they say where to look.
    if (is_checked or kind == RecordKind.REFERENCE) and crc32(content) != content_crc:
        return Damage(start, end, "the content is damaged", note, RecordKind(kind), location)
    if kind == RecordKind.REFERENCE:
        if length != _REFERENCE.size:
            return "the reference is damaged"
        location = unpack_reference(content)
    return Record(start, end, RecordKind(kind), codec, note, location, content)


def scan(
    view: memoryview, header: PackHeader, start: int = PACK_HEADER_SIZE, *, is_checked: bool = True
) -> Iterator[Record | Damage]:
    """Every record of a pack of many records, and every stretch of damage, in order.

    After damage the scan goes on at the next mark. With `is_checked` false, contents are not read.
    """
    if header.kind is PackKind.OWN:
        yield from _scan_own(view, header, is_checked=is_checked)
        return
    while start < len(view):
        found = _read_record(view, start, header, is_checked=is_checked)
        if isinstance(found, Record):
            yield found
            start = found.end
            continue
        following = _find_mark(view, start + 1, header.mark)
        yield replace(found, end=following) if isinstance(found, Damage) else Damage(start, following, found)
        start = following


def _scan_own(view: memoryview, header: PackHeader, *, is_checked: bool) -> Iterator[Record | Damage]:
    found = _read_record(view, len(view) - RECORD_HEADER_SIZE, header, is_checked=is_checked)
    if isinstance(found, Record) and found.kind is RecordKind.TRAILER:
        yield found
    elif isinstance(found, Damage):
        yield replace(found, start=PACK_HEADER_SIZE, end=len(view))
    else:
        reason = found if isinstance(found, str) else "the trailer is missing"
        yield Damage(PACK_HEADER_SIZE, len(view), reason)


# A search copies at most this much at once (memoryview has no find of its own), and little at first: where one mark
# stands close behind another, each search costs what lies between them.
_SEARCH_STEP = 1024 * 1024
_FIRST_STEP = 4096


def _find_mark(view: memoryview, start: int, mark: bytes) -> int:
    """Offset of the next mark, or the pack's end."""
    step = _FIRST_STEP
    while start < len(view):
        found = bytes(view[start : start + step]).find(mark)
        if found >= 0:
            return start + found
        start += step - MARK_SIZE + 1
        step = min(2 * step, _SEARCH_STEP)
    return len(view)
