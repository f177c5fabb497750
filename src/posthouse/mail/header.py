# SPDX-License-Identifier: Apache-2.0
"""The header block as octets: a fast scan, and edits that leave every other octet alone.

One regular expression reads the block at delivery; nothing is decoded and no line is looked at twice. The
scan never fails: what is not a field becomes a `Field` without a name, so the fields together are always
the whole block and an edit can drop or add some without touching the rest (signatures stay valid).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from typing import NamedTuple

Buffer = bytes | bytearray | memoryview

MAX_HEADER = 256 * 1024  # octets scanned; real headers stay under 64 KiB, lists of 5,000 recipients included
MAX_FIELDS = 2_000  # fields kept; real letters have 20 to 200
MAX_MESSAGE_ID = 998  # octets; an id cannot be longer than the longest line (RFC 5322 §2.1.1)
MAX_REFERENCES = 8  # the last ones: threading needs no more, and a field may carry thousands

# RFC 5322 §2.2: field name = printable ASCII without colon; blanks before the colon are its obsolete form
# (§4.5). A value ends at a CRLF that no blank follows (§2.2.3). Bare CR and bare LF are content of the value:
# only CRLF ends a line here. The second branch takes a line that is no field, with its continuation lines.
# No possessive quantifiers: before Python 3.11.5 groups inside them come out wrong (python/cpython#101955), and
# Debian 12 has 3.11.2. None is needed: the parts exclude each other, so there is nothing to go back to.
_FIELD = re.compile(rb"(?:([!-9;-~]+)[ \t]*:|(?=[\s\S]))([^\r]*(?:\r(?!\n(?![ \t]))[^\r]*)*)(?:\r\n|\Z)")
_EMPTY_LINE = re.compile(rb"\r\n\r\n")
_MESSAGE_ID = re.compile(rb"<([^<>]*)>")
_BLANKS = b" \t\r\n"
_NOT_IN_AN_ID = re.compile(rb"[\s\x00-\x1f\x7f]+")

# What IMAP ENVELOPE needs, in its order (RFC 9051 §7.5.2).
ENVELOPE_FIELDS = (
    b"date",
    b"subject",
    b"from",
    b"sender",
    b"reply-to",
    b"to",
    b"cc",
    b"bcc",
    b"in-reply-to",
    b"message-id",
)
_LISTS = frozenset((b"to", b"cc", b"bcc"))  # a second such field is wrong but seen; nothing of it is dropped


class Field(NamedTuple):
    """One field of the block. `name` is as written, b"" where the line is no field.

    `block[start:end]` is the whole field with its CRLF, `block[value_start:end]` what follows the colon.
    """

    name: bytes
    start: int
    value_start: int
    end: int


class HeaderScan:
    """The result of `scan_header`. Names are asked for in lower case.

    `block` is the fields alone, up to and with the last one's CRLF.
    `header_size` is the offset just past the empty line (the whole length where there is none).
    `is_too_big`: the block is longer than MAX_HEADER or has more than MAX_FIELDS fields; what is beyond was
    not read. `is_well_formed`: every line is a field, the empty line is there, nothing is too big.
    """

    __slots__ = ("_index", "block", "header_size", "is_too_big", "is_well_formed")

    def __init__(
        self, block: bytes, header_size: int, index: dict[bytes, list[bytes]], *, good: bool, too_big: bool
    ) -> None:
        self.block = block
        self.header_size = header_size
        self.is_too_big = too_big
        self.is_well_formed = good
        self._index = index

    @property
    def fields(self) -> list[Field]:
        """Every field with its offsets, in order, including lines that are none. For edits: not the hot path."""
        return split_fields(self.block)

    def get(self, name: bytes) -> bytes | None:
        """The first such field's value, unfolded, without outer blanks; None where there is none."""
        values = self._index.get(name)
        return None if values is None else unfold(values[0])

    def all(self, name: bytes) -> list[bytes]:
        """Every such field's value, as `get` gives it, in order."""
        return [unfold(value) for value in self._index.get(name, ())]

    def raw(self, name: bytes) -> list[bytes]:
        """Every such field's value as written, folds and outer blanks included, in order: for signatures."""
        return self._index.get(name, [])

    def count(self, name: bytes) -> int:
        return len(self._index.get(name, ()))

    def __contains__(self, name: bytes) -> bool:
        return name in self._index

    @property
    def message_id(self) -> bytes:
        """The Message-ID without its angle brackets; b"" where there is none (RFC 5322 §3.6.4)."""
        values = self._index.get(b"message-id")
        if values is None:
            return b""
        value = unfold(values[0])
        if b"<" not in value:  # seen from old programs: the bare id
            return _clean_id(value)
        ids = message_ids(value)
        return ids[0] if ids else b""

    @property
    def in_reply_to(self) -> bytes:
        """The first id in In-Reply-To; b"" where there is none (the field may hold prose, RFC 5322 §4.5.4)."""
        values = self._index.get(b"in-reply-to")
        ids = message_ids(values[0]) if values else []
        return ids[0] if ids else b""

    @property
    def references(self) -> list[bytes]:
        """The last MAX_REFERENCES ids of References, oldest first."""
        values = self._index.get(b"references")
        return message_ids(values[0])[-MAX_REFERENCES:] if values else []

    def pack_envelope(self) -> bytes:
        """The unfolded values of ENVELOPE_FIELDS as a msgpack array of bin and nil; see `unpack_envelope`."""
        index = self._index
        parts = [b"\x9a"]  # fixarray of 10
        for name in ENVELOPE_FIELDS:
            values = index.get(name)
            if values is None:
                parts.append(b"\xc0")  # nil
                continue
            value = values[0].replace(b"\r\n", b"").strip(_BLANKS)
            if len(values) > 1 and name in _LISTS:
                value = b", ".join(unfold(one) for one in values)
            size = len(value)
            if size < 256:  # msgpack: bin 8, bin 16, bin 32
                parts.append(b"\xc4%c" % size)
            elif size < 65536:
                parts.append(b"\xc5" + size.to_bytes(2, "big"))
            else:
                parts.append(b"\xc6" + size.to_bytes(4, "big"))
            parts.append(value)
        return b"".join(parts)


def scan_header(octets: Buffer) -> HeaderScan:
    """Read the header block at the start of a letter (lines end in CRLF). Never raises for what is in it."""
    text = octets if isinstance(octets, bytes) else bytes(octets[: MAX_HEADER + 4])
    if text.startswith(b"\r\n"):  # an empty header
        return HeaderScan(b"", 2, {}, good=True, too_big=False)
    end = text.find(b"\r\n\r\n", 0, MAX_HEADER)
    is_good = end >= 0
    if is_good:
        size = end + 4
        block = text[: end + 2]
    else:
        size = _header_size_beyond(octets)
        block = text[:MAX_HEADER]
    too_big = size > MAX_HEADER + 4
    pairs: list[tuple[bytes, bytes]] = _FIELD.findall(block)
    if len(pairs) > MAX_FIELDS:
        too_big = True
        del pairs[MAX_FIELDS:]
    index: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        key = name.lower()
        if key in index:
            index[key].append(value)
        else:
            index[key] = [value]
    if b"" in index:
        del index[b""]
        is_good = False
    return HeaderScan(block, size, index, good=is_good and not too_big, too_big=too_big)


def _header_size_beyond(octets: Buffer) -> int:
    """Where the empty line is, when it is not within MAX_HEADER: the rare path, without a copy."""
    if len(octets) <= MAX_HEADER:
        return len(octets)
    found = _EMPTY_LINE.search(octets, MAX_HEADER - 4)
    return len(octets) if found is None else found.end()


def split_fields(block: bytes) -> list[Field]:
    """The fields of a header block (with or without its empty line) with offsets; they cover all of it."""
    fields: list[Field] = []
    for match in _FIELD.finditer(block):
        if match.end() - match.start() == 2 and match.group() == b"\r\n":
            break  # the empty line
        fields.append(Field(match[1] or b"", match.start(), match.start(2), match.end()))
    return fields


def unfold(value: bytes) -> bytes:
    """Take the CRLFs out of a folded value, and the blanks at both ends (RFC 5322 §2.2.3)."""
    return value.replace(b"\r\n", b"").strip(_BLANKS)


def message_ids(value: bytes) -> list[bytes]:
    """Every `<id>` in a value, without brackets and without blanks that folding put inside."""
    return [clean for one in _MESSAGE_ID.findall(value) if (clean := _clean_id(one))]


def _clean_id(text: bytes) -> bytes:
    clean = _NOT_IN_AN_ID.sub(b"", text)
    return clean if len(clean) <= MAX_MESSAGE_ID else b""


def remove_fields(block: bytes, names: Iterable[bytes]) -> bytes:
    """The block without the fields of these names (any case); every other octet as it was.

    `block` is a header block, with or without the empty line and what follows it.
    """
    unwanted = {name.lower() for name in names}
    kept: list[bytes] = []
    position = 0
    for field in split_fields(block):
        if field.name.lower() in unwanted and field.name:
            kept.append(block[position : field.start])
            position = field.end
    kept.append(block[position:])
    return b"".join(kept)


def insert_fields(block: bytes, fields: bytes) -> bytes:
    """The block with whole fields (each ending in CRLF) put on top, where trace fields go (RFC 5321 §4.4).

    Raises ValueError when `fields` is not a run of well-formed fields: it would change what follows.
    """
    if fields and not (fields.endswith(b"\r\n") and all(field.name for field in split_fields(fields))):
        raise ValueError("only whole header fields can be inserted")
    if fields.startswith(b"\r\n") or b"\r\n\r\n" in fields:
        raise ValueError("an empty line would end the header")
    return fields + block


def unpack_envelope(packed: bytes) -> dict[bytes, bytes | None]:
    """Read what `pack_envelope` wrote: field name in lower case -> unfolded value, None where absent.

    Raises ValueError for anything else.
    """
    values: list[bytes | None] = []
    position = 1
    try:
        while position < len(packed):
            kind = packed[position]
            position += 1
            if kind == 0xC0:
                values.append(None)
                continue
            width, layout = {0xC4: (1, ">B"), 0xC5: (2, ">H"), 0xC6: (4, ">I")}[kind]
            (size,) = struct.unpack_from(layout, packed, position)
            position += width
            values.append(packed[position : position + size])
            position += size
    except (KeyError, struct.error):
        raise ValueError("not a packed envelope") from None
    if packed[:1] != b"\x9a" or len(values) != len(ENVELOPE_FIELDS) or position != len(packed):
        raise ValueError("not a packed envelope")
    return dict(zip(ENVELOPE_FIELDS, values, strict=True))
