# SPDX-License-Identifier: Apache-2.0
"""A structure as octets, for the column that keeps it: a letter is parsed once.

`unpack(pack(part)) == part` for every structure that `parse` gives. The form is: version, number of parts, a record
of numbers for each part (each before its children), then all strings in the same order with NUL between them. No
string of a structure has a NUL in it, so one `split` finds them all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from posthouse.mail.header import ENVELOPE_FIELDS
from posthouse.mail.structure import Part, Span, Summary
from posthouse.mail.structure_fields import Disposition, Parameters

# what there is, numbers of: children, parameters, languages, disposition parameters; which values of the summary;
# lines, begin of header, its end, end of body.
_NARROW, _WIDE = 1, 2  # versions: offsets in 32 bits, in 64 bits
_RECORDS = {_NARROW: struct.Struct(">BHBBBHIIII"), _WIDE: struct.Struct(">BHBBBHQQQQ")}
_HEAD = struct.Struct(">BH")
_ALL_NARROW = 1 << 32

_ID, _DESCRIPTION, _MD5, _DISPOSITION, _LOCATION, _SUMMARY = 1, 2, 4, 8, 16, 32
_SUMMARY_BITS = tuple(1 << number for number in range(len(ENVELOPE_FIELDS)))


def pack(part: Part) -> bytes:
    """Raises ValueError for a structure that `parse` never gives: a NUL in a string, more than 65,535 parts."""
    version = _NARROW if part.body.end < _ALL_NARROW else _WIDE
    record = _RECORDS[version]
    records: list[bytes] = []
    strings: list[bytes] = []
    try:
        for each in part.walk():
            records.append(record.pack(*_numbers(each)))
            strings += _strings(each)
        head = _HEAD.pack(version, len(records))
    except struct.error:
        raise ValueError("not a structure that can be packed") from None
    text = b"\0".join(strings)
    if text.count(b"\0") != len(strings) - 1:
        raise ValueError("a string of a structure has a NUL in it")
    return b"".join((head, *records, text))


def _numbers(part: Part) -> tuple[int, ...]:
    what = mask = 0
    for bit, value in (
        (_ID, part.id),
        (_DESCRIPTION, part.description),
        (_MD5, part.md5),
        (_DISPOSITION, part.disposition),
        (_LOCATION, part.location),
        (_SUMMARY, part.summary),
    ):
        what |= 0 if value is None else bit
    for bit, one in zip(_SUMMARY_BITS, part.summary or (), strict=False):
        mask |= 0 if one is None else bit
    return (
        what,
        len(part.children),
        len(part.parameters),
        len(part.languages),
        0 if part.disposition is None else len(part.disposition.parameters),
        mask,
        part.lines,
        part.header.start,
        part.header.end,
        part.body.end,
    )


def _strings(part: Part) -> Iterator[bytes]:
    yield part.media
    yield part.subtype
    yield part.encoding
    for pair in part.parameters:
        yield from pair
    yield from (value for value in (part.id, part.description, part.md5) if value is not None)
    if part.disposition is not None:
        yield part.disposition.kind
        for pair in part.disposition.parameters:
            yield from pair
    yield from part.languages
    if part.location is not None:
        yield part.location
    yield from (value for value in part.summary or () if value is not None)


def unpack(packed: bytes) -> Part:
    """Read what `pack` wrote. Raises ValueError for anything else."""
    try:
        version, count = _HEAD.unpack_from(packed)
        record = _RECORDS[version]
        end = _HEAD.size + count * record.size
        numbers = list(record.iter_unpack(packed[_HEAD.size : end]))
        strings = packed[end:].split(b"\0")
        if len(numbers) != count:
            raise ValueError("a packed structure is cut off")
        return _tree(numbers, strings)
    except (struct.error, KeyError, IndexError):
        raise ValueError("not a packed structure") from None


def _tree(numbers: list[tuple[int, ...]], strings: list[bytes]) -> Part:
    """The parts are read from the first to the last, and put into each other from the last to the first."""
    position = 0
    rows: list[tuple[Part, int]] = []
    for row in numbers:
        part, position = _part(row, strings, position)
        rows.append((part, row[1]))
    if position != len(strings):
        raise ValueError("a packed structure has more strings than it should")
    waiting: list[Part] = []  # the last one is the first child of the part before
    for part, children in reversed(rows):
        if children > len(waiting) or (children != 1 and part.summary is not None):
            raise ValueError("a packed structure has not the children it should")
        if bool(children) != (part.summary is not None or part.media == b"multipart"):
            raise ValueError("a packed structure has children in the wrong place")
        if not children:
            waiting.append(part)
            continue
        mine = tuple(waiting[: -children - 1 : -1])
        del waiting[-children:]
        waiting.append(part._replace(children=mine))
    if len(waiting) != 1:
        raise ValueError("a packed structure has more than one root")
    return waiting[0]


def _part(row: tuple[int, ...], strings: list[bytes], at: int) -> tuple[Part, int]:
    what, _, parameter_count, language_count, disposition_count, mask, lines, start, middle, end = row
    if not start <= middle <= end:
        raise ValueError("a packed part ends before it begins")
    media, subtype, encoding = strings[at], strings[at + 1], strings[at + 2]
    at += 3
    parameters, at = _pairs(strings, at, parameter_count) if parameter_count else ((), at)
    identity = description = md5 = location = None
    disposition: Disposition | None = None
    summary: Summary | None = None
    languages: tuple[bytes, ...] = ()
    if what or language_count:
        if what & _ID:
            identity, at = strings[at], at + 1
        if what & _DESCRIPTION:
            description, at = strings[at], at + 1
        if what & _MD5:
            md5, at = strings[at], at + 1
        if what & _DISPOSITION:
            kind = strings[at]
            pairs, at = _pairs(strings, at + 1, disposition_count)
            disposition = Disposition(kind, pairs)
        languages, at = tuple(strings[at : at + language_count]), at + language_count
        if what & _LOCATION:
            location, at = strings[at], at + 1
        if what & _SUMMARY:
            summary, at = _summary(strings, at, mask)
    return (
        Part(
            media, subtype, parameters, identity, description, encoding, md5, disposition, languages, location,
            Span(start, middle), Span(middle, end), lines, summary, (),
        ),
        at,
    )  # fmt: skip


def _pairs(strings: list[bytes], at: int, count: int) -> tuple[Parameters, int]:
    end = at + 2 * count
    return tuple(zip(strings[at:end:2], strings[at + 1 : end : 2], strict=True)), end


def _summary(strings: list[bytes], at: int, mask: int) -> tuple[Summary, int]:
    values: list[bytes | None] = []
    for bit in _SUMMARY_BITS:
        if mask & bit:
            values.append(strings[at])
            at += 1
        else:
            values.append(None)
    return tuple(values), at
