# SPDX-License-Identifier: Apache-2.0
"""What FETCH can ask for (RFC 9051 §6.4.5): values and their grammar.

Invariant: an item carries the `label` that stands before its value in the response, so that whoever answers
writes what was asked and never spells a section again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from posthouse.protocol.imap import limits
from posthouse.protocol.imap.tokens import CommandFault, Cursor

_CACHED = 300  # octets of items; the lists that clients send all day are shorter
_CACHE = 256  # of them: all that the clients of a house use

_WORD = re.compile(rb"[A-Za-z0-9.]+")
_PLAIN_NAME = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')


class Attribute(Enum):
    """Items that are one word; the value is the label."""

    BODY = b"BODY"  # the structure without extension data
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    EMAILID = b"EMAILID"  # RFC 8474 §5.3
    ENVELOPE = b"ENVELOPE"
    FLAGS = b"FLAGS"
    INTERNALDATE = b"INTERNALDATE"
    MODSEQ = b"MODSEQ"  # RFC 7162 §3.1.4.2
    RFC822_SIZE = b"RFC822.SIZE"
    SAVEDATE = b"SAVEDATE"  # RFC 8514 §4.2
    THREADID = b"THREADID"
    UID = b"UID"


class SectionKind(Enum):
    ALL = auto()  # the whole message, or the body of a part
    HEADER = auto()
    FIELDS = auto()
    FIELDS_NOT = auto()
    TEXT = auto()
    MIME = auto()


@dataclass(frozen=True, slots=True)
class Section:
    """`path`: numbers of parts, () for the message; `names`: fields as the client spelled them."""

    path: tuple[int, ...]
    kind: SectionKind
    names: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Partial:
    """The octets asked for; fewer where there are not so many."""

    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class BodySection:
    """BODY[…], BODY.PEEK[…], RFC822, RFC822.HEADER, RFC822.TEXT."""

    section: Section
    label: bytes
    partial: Partial | None = None
    is_peek: bool = False  # does not set \\Seen


@dataclass(frozen=True, slots=True)
class BinarySection:
    """BINARY[…]: the part's content with its transfer encoding undone (RFC 9051 §6.4.5)."""

    path: tuple[int, ...]
    label: bytes
    partial: Partial | None = None
    is_peek: bool = False


@dataclass(frozen=True, slots=True)
class BinarySize:
    path: tuple[int, ...]
    label: bytes


@dataclass(frozen=True, slots=True)
class Preview:
    """`is_lazy`: only where it costs nothing (RFC 8970 §4.1)."""

    is_lazy: bool = False


FetchItem = Attribute | BodySection | BinarySection | BinarySize | Preview

_FAST = (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.RFC822_SIZE)
MACROS: dict[bytes, tuple[FetchItem, ...]] = {
    b"ALL": (*_FAST, Attribute.ENVELOPE),
    b"FAST": _FAST,
    b"FULL": (*_FAST, Attribute.ENVELOPE, Attribute.BODY),
}
_WORDS: dict[bytes, FetchItem] = {
    **{item.value: item for item in Attribute},
    # RFC 3501 §6.4.5: the older names; the response bears the name that was asked for.
    b"RFC822": BodySection(Section((), SectionKind.ALL), b"RFC822"),
    b"RFC822.HEADER": BodySection(Section((), SectionKind.HEADER), b"RFC822.HEADER", is_peek=True),
    b"RFC822.TEXT": BodySection(Section((), SectionKind.TEXT), b"RFC822.TEXT"),
}
_KINDS = {b"HEADER": SectionKind.HEADER, b"TEXT": SectionKind.TEXT, b"MIME": SectionKind.MIME}
_FIELDS = {b"HEADER.FIELDS": SectionKind.FIELDS, b"HEADER.FIELDS.NOT": SectionKind.FIELDS_NOT}


def parse_items(cursor: Cursor) -> tuple[FetchItem, ...]:
    """A macro, one item, or a list of items; each is answered once however often it is asked."""
    rest = cursor.text[cursor.position :]
    if len(rest) > _CACHED or b"{" in rest:
        return _parse_items(cursor)
    try:
        items, used = _parse_again(rest)
    except CommandFault:
        return _parse_items(cursor)  # for the place of the fault within the whole command
    cursor.position += used
    return items


@lru_cache(maxsize=_CACHE)
def _parse_again(rest: bytes) -> tuple[tuple[FetchItem, ...], int]:
    """A client asks for the same items all day: what they are, and how many octets say it."""
    cursor = Cursor(rest)
    return _parse_items(cursor), cursor.position


def _parse_items(cursor: Cursor) -> tuple[FetchItem, ...]:
    if cursor.looks_at(b"("):
        items: tuple[FetchItem, ...] = tuple(cursor.in_list(lambda: _parse_item(cursor), limits.MAX_FETCH_ITEMS))
    else:
        found = _WORD.match(cursor.text, cursor.position)
        macro = MACROS.get(found[0].upper()) if found is not None else None
        if found is not None and macro is not None:
            cursor.position = found.end()
            return macro
        items = (_parse_item(cursor),)
    return tuple(dict.fromkeys(items)) if len(items) > 1 else items


def _parse_item(cursor: Cursor) -> FetchItem:
    found = _WORD.match(cursor.text, cursor.position)
    if found is None:
        cursor.fail("expected the name of a data item")
    word = found[0].upper()
    cursor.position = found.end()
    if cursor.looks_at(b"["):
        match word:
            case b"BODY" | b"BODY.PEEK":
                return _body_section(cursor, is_peek=word == b"BODY.PEEK")
            case b"BINARY" | b"BINARY.PEEK":
                path = _binary_path(cursor)
                partial = _partial(cursor)
                label = b"BINARY[" + _path_text(path) + b"]" + _origin(partial)
                return BinarySection(path, label, partial, word == b"BINARY.PEEK")
            case b"BINARY.SIZE":
                path = _binary_path(cursor)
                return BinarySize(path, b"BINARY.SIZE[" + _path_text(path) + b"]")
            case _:
                cursor.fail("this data item has no section")
    if word == b"PREVIEW":
        return _preview(cursor)
    item = _WORDS.get(word)
    if item is None:
        raise CommandFault(f"There is no data item {word.decode('ascii')}", "CLIENTBUG")
    return item


def _body_section(cursor: Cursor, *, is_peek: bool) -> BodySection:
    section, text = _section(cursor)
    partial = _partial(cursor)
    return BodySection(section, b"BODY[" + text + b"]" + _origin(partial), partial, is_peek)


def _section(cursor: Cursor) -> tuple[Section, bytes]:
    """section-spec between brackets, and its text for the response."""
    cursor.expect(b"[")
    path = _path(cursor)
    prefix = _path_text(path)
    if cursor.accept(b"]"):
        return Section(path, SectionKind.ALL), prefix
    if path:
        cursor.expect(b".")
        prefix += b"."
    found = _WORD.match(cursor.text, cursor.position)
    if found is None:
        cursor.fail("expected a section")
    word = found[0].upper()
    cursor.position = found.end()
    kind = _KINDS.get(word) or _FIELDS.get(word)
    if kind is None or (kind is SectionKind.MIME and not path):
        cursor.fail("no such section")
    names: tuple[bytes, ...] = ()
    if word in _FIELDS:
        cursor.space()
        names = tuple(cursor.in_list(lambda: _field_name(cursor), limits.MAX_HEADER_NAMES))
        word += b" (" + b" ".join(map(_written, names)) + b")"
    cursor.expect(b"]")
    return Section(path, kind, names), prefix + word


def _path(cursor: Cursor) -> tuple[int, ...]:
    """section-part; a dot that no number follows belongs to what comes next."""
    numbers: list[int] = []
    text = cursor.text
    while text[cursor.position : cursor.position + 1].isdigit():
        numbers.append(cursor.nz_number())
        if len(numbers) > limits.MAX_PART_DEPTH:
            raise CommandFault(f"A part is at most {limits.MAX_PART_DEPTH} levels deep", "LIMIT", is_no=True)
        if not text[cursor.position + 1 : cursor.position + 2].isdigit() or not cursor.accept(b"."):
            break
    return tuple(numbers)


def _binary_path(cursor: Cursor) -> tuple[int, ...]:
    cursor.expect(b"[")
    path = _path(cursor)
    cursor.expect(b"]")
    return path


def _path_text(path: tuple[int, ...]) -> bytes:
    return ".".join(map(str, path)).encode("ascii")


def _field_name(cursor: Cursor) -> bytes:
    name = cursor.astring()
    # RFC 5322 §2.2: printable ASCII but the colon. Others name no field; they could not be repeated either.
    if not name or not name.isascii() or not name.decode("ascii").isprintable() or b":" in name:
        cursor.fail("no name of a field")
    return name


def _written(name: bytes) -> bytes:
    """As an astring in the response."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _partial(cursor: Cursor) -> Partial | None:
    if not cursor.accept(b"<"):
        return None
    offset = cursor.number64()
    cursor.expect(b".")
    count = cursor.number(limits.MAX_NUMBER64, 1)
    cursor.expect(b">")
    return Partial(offset, count)


def _origin(partial: Partial | None) -> bytes:
    return b"" if partial is None else b"<%d>" % partial.offset


def _preview(cursor: Cursor) -> Preview:
    """ "PREVIEW" [SP "(" preview-mod *(SP preview-mod) ")"] (RFC 8970 §6)."""
    # Behind PREVIEW alone a parenthesis may also open fetch-modifiers.
    if cursor.text[cursor.position : cursor.position + 6].upper() != b" (LAZY":
        return Preview()
    cursor.position += 2
    while True:
        if cursor.keyword() != "LAZY":
            cursor.fail("there is no such modifier of PREVIEW")
        if cursor.accept(b")"):
            return Preview(is_lazy=True)
        cursor.space()
