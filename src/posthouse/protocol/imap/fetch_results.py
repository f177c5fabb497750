# SPDX-License-Identifier: Apache-2.0
"""FETCH responses (RFC 9051 §7.5.2): rows of many messages at once, and messages with large contents, uncopied.

Invariant: what is one column of a row never ends its line by itself: texts come dressed by strings.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from posthouse.protocol.imap.fetch_items import (
    Attribute,
    BinarySection,
    BinarySize,
    BodySection,
    FetchItem,
    Partial,
    Preview,
)
from posthouse.protocol.imap.strings import nstring

Buffer = bytes | memoryview

# How each attribute is written; what goes in is the column of `rows`. Texts come dressed already.
_FORMATS: dict[Attribute, bytes] = {
    Attribute.BODY: b"BODY %b",
    Attribute.BODYSTRUCTURE: b"BODYSTRUCTURE %b",
    Attribute.EMAILID: b"EMAILID (%b)",
    Attribute.ENVELOPE: b"ENVELOPE %b",
    Attribute.FLAGS: b"FLAGS (%b)",  # the flags with a space between them
    Attribute.INTERNALDATE: b"INTERNALDATE %b",
    Attribute.MODSEQ: b"MODSEQ (%d)",
    Attribute.RFC822_SIZE: b"RFC822.SIZE %d",
    Attribute.SAVEDATE: b"SAVEDATE %b",
    Attribute.THREADID: b"THREADID (%b)",
    Attribute.UID: b"UID %d",
}


def row_format(items: Iterable[FetchItem], *, is_uid_only: bool = False) -> bytes:
    """One response with a place for the message's number and one for each item, in their order.

    With UIDONLY the number is the UID and the response UIDFETCH (RFC 9586 §3.3). Sections and previews take a
    dressed nstring; only small ones belong here, see `message` for the others.
    """
    places = b" ".join(map(_place, items))
    return b"* %%d %b (%b)\r\n" % (b"UIDFETCH" if is_uid_only else b"FETCH", places)


def _place(item: FetchItem) -> bytes:
    match item:
        case Attribute():
            return _FORMATS[item]
        case BodySection() | BinarySection():
            return _escaped(item.label) + b" %b"
        case BinarySize():
            return item.label + b" %d"
        case Preview():
            return b"PREVIEW %b"


def _escaped(label: bytes) -> bytes:
    """Names of header fields may have a percent sign."""
    return label.replace(b"%", b"%%")


def rows(form: bytes, *columns: Iterable[object]) -> bytes:
    """Many responses: the numbers, then a column for each item. Made at the speed of C."""
    return b"".join(map(form.__mod__, zip(*columns, strict=True)))


def flags_row(number: int, flags: bytes, *, uid: int | None = None, modseq: int | None = None) -> bytes:
    """An untagged FETCH about changed flags: UID and MODSEQ where the client is to know them."""
    words = b"FLAGS (%b)" % flags
    if uid is not None:
        words = b"UID %d %b" % (uid, words)
    if modseq is not None:
        words += b" MODSEQ (%d)" % modseq
    return b"* %d FETCH (%b)\r\n" % (number, words)


def uid_flags_row(uid: int, flags: bytes, *, modseq: int | None = None) -> bytes:
    """The same with UIDONLY."""
    words = b"FLAGS (%b)" % flags
    if modseq is not None:
        words += b" MODSEQ (%d)" % modseq
    return b"* %d UIDFETCH (%b)\r\n" % (uid, words)


def value(item: FetchItem, content: object) -> bytes:
    """One item of `message`: its name with its value, dressed as for `rows`."""
    return _place(item) % (content,)


def cut(content: Buffer, partial: Partial | None) -> Buffer:
    """The octets that a partial asks for; none behind the end (RFC 9051 §6.4.5)."""
    return content if partial is None else content[partial.offset : partial.offset + partial.count]


def section(label: bytes, content: Buffer | None) -> list[Buffer]:
    """A BODY section as a literal, however long; None where the message has no such part."""
    if content is None:
        return [label + b" NIL"]
    return [b"%b {%d}\r\n" % (label, len(content)), content] if content else [label + b' ""']


def binary(label: bytes, content: bytes | None) -> list[Buffer]:
    """A BINARY section: literal8 where NUL is in it (RFC 9051 §7.5.2)."""
    if content is None or b"\0" not in content:
        return section(label, content)
    return [b"%b ~{%d}\r\n" % (label, len(content)), content]


def preview(text: str | None, *, is_utf8: bool = False) -> bytes:
    """The value of PREVIEW; None where it is not known at once and LAZY was said (RFC 8970 §4.1)."""
    return b"PREVIEW " + nstring(None if text is None else text.encode("utf-8", "replace"), is_utf8=is_utf8)


def message(number: int, items: Sequence[bytes | list[Buffer]], *, is_uid_only: bool = False) -> list[Buffer]:
    """One response from items that are written already: short ones are joined, contents of sections never copied."""
    pieces: list[Buffer] = []
    text = b"* %d UIDFETCH (" % number if is_uid_only else b"* %d FETCH (" % number
    separator = b""
    for item in items:
        text += separator
        separator = b" "
        if isinstance(item, bytes):
            text += item
            continue
        head, *content = item
        text += bytes(head)
        if content:
            pieces += (text, *content)
            text = b""
    pieces.append(text + b")\r\n")
    return pieces
