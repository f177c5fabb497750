# SPDX-License-Identifier: Apache-2.0
"""Values of FETCH items, a column for a page of letters at a time.

Invariant: a column has one value for each letter of its page. It is either written already (rows of many letters are
put together at once), or a list of buffers that are never copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import assert_never

from posthouse.mail.octets import octets_of
from posthouse.mail.sections import Kind
from posthouse.protocol.imap import structure_results
from posthouse.protocol.imap.envelope_results import envelopes
from posthouse.protocol.imap.fetch_items import (
    Attribute,
    BinarySection,
    BinarySize,
    BodySection,
    FetchItem,
    Partial,
    Preview,
    SectionKind,
)
from posthouse.protocol.imap.fetch_results import Buffer
from posthouse.protocol.imap.strings import nstring, utc_time
from posthouse.services.mailbox.contents import Extract, Letter
from posthouse.services.mailbox.pages import Page, Wants
from posthouse.store.catalogue import Letters
from posthouse.store.messages import UNIQUE_ID, thread_id

# What is not in the arrays: names of `Wants`.
_READ = {
    **dict.fromkeys((Attribute.INTERNALDATE, Attribute.SAVEDATE, Attribute.THREADID), frozenset(("dates",))),
    **dict.fromkeys((Attribute.BODY, Attribute.BODYSTRUCTURE), frozenset(("structures",))),
    Attribute.ENVELOPE: frozenset(("summaries",)),
}
_KINDS = {
    SectionKind.ALL: Kind.WHOLE,
    SectionKind.HEADER: Kind.HEADER,
    SectionKind.TEXT: Kind.TEXT,
    SectionKind.MIME: Kind.MIME,
}
_OF_HEADER = frozenset((SectionKind.HEADER, SectionKind.FIELDS, SectionKind.FIELDS_NOT))


def wants_of(items: Iterable[FetchItem]) -> Wants:
    """What has to be read for these."""
    kinds = set[str]()
    for item in items:
        match item:
            case Attribute():
                kinds |= _READ.get(item, frozenset())
            case BodySection() if not item.section.path and item.section.kind in _OF_HEADER:
                kinds.add("headers")
            case BodySection():
                kinds |= {"contents", "parts"} if item.section.path else {"contents"}
            case BinarySection() | BinarySize():
                kinds |= {"contents", "parts"} if item.path else {"contents"}
            case Preview():
                kinds.add("known_previews" if item.is_lazy else "previews")
            case _:
                assert_never(item)
    return _wants(frozenset(kinds))


@cache  # of few names, so there are few; made anew for each command it would be as dear as reading the command
def _wants(kinds: frozenset[str]) -> Wants:
    return Wants(**dict.fromkeys(kinds, True))


def column(item: FetchItem, page: Page, letters: Letters, *, is_utf8: bool) -> Sequence[object]:
    """Values of this item for the letters of a page, dressed for `fetch_results.rows`. Not for sections."""
    match item:
        case Attribute.UID:
            return letters.uids
        case Attribute.RFC822_SIZE:
            return letters.sizes
        case Attribute.MODSEQ:
            return letters.modseqs
        case Attribute.EMAILID:
            return list(map(UNIQUE_ID.__mod__, letters.emails))
        case Attribute.INTERNALDATE:
            return [utc_time(int(row[2])) for row in page.dates]
        case Attribute.SAVEDATE:
            return [utc_time(int(row[3])) for row in page.dates]
        case Attribute.THREADID:
            return [thread_id(row[1]).encode("ascii") for row in page.dates]
        case Preview():
            return [
                nstring(None if text is None else text.encode("utf-8", "replace"), is_utf8=is_utf8)
                for text in page.previews
            ]
        case _:
            raise AssertionError(f"no column for {item}")


def written(item: FetchItem, page: Page, *, is_utf8: bool) -> list[bytes]:
    """The same of what takes time: worth to be kept."""
    if item is Attribute.ENVELOPE:
        return envelopes(page.summaries, is_utf8=is_utf8)
    is_extended = item is Attribute.BODYSTRUCTURE
    write = partial(structure_results.body_structure, is_extended=is_extended, is_utf8=is_utf8)
    return list(map(write, page.structures))


# --- sections -------------------------------------------------------------------------------------


def section(item: BodySection, letter: Letter) -> list[Buffer]:
    """The item with its value, for `fetch_results.message`."""
    return _literal(item.label, _body(item, letter), item.partial)


def binary(item: BinarySection | BinarySize, found: Extract | None) -> list[Buffer]:
    """The same of a part without its transfer encoding; None: there is no such part."""
    if isinstance(item, BinarySize):
        return [item.label + b" %d" % (0 if found is None else found.size)]
    return _literal(item.label, found, item.partial, may_be_binary=True)


def _body(item: BodySection, letter: Letter) -> Extract | None:
    path, kind = item.section.path, item.section.kind
    if kind is SectionKind.FIELDS or kind is SectionKind.FIELDS_NOT:
        fields = letter.fields(path, item.section.names, others=kind is SectionKind.FIELDS_NOT)
        return None if fields is None else Extract(fields, b"")
    return letter.section(path, _KINDS[kind])


def _literal(
    label: bytes, found: Extract | None, partial: Partial | None, *, may_be_binary: bool = False
) -> list[Buffer]:
    """A literal, however long; what lies in the store is not copied. NIL where the letter has no such section."""
    if found is None:
        return [label + b" NIL"]
    if partial is not None:
        found = found.cut(partial.offset, partial.count)
    size = found.size
    if not size:
        return [label + b' ""']
    sign = b"~" if may_be_binary and _has_nul(found.rest) else b""  # literal8 (RFC 9051 §7.5.2)
    head = b"%b %b{%d}\r\n%b" % (label, sign, size, found.before)
    return [head, found.rest] if found.rest else [head]


def _has_nul(octets: Buffer) -> bool:
    return octets_of(octets).find(b"\0", 0, len(octets)) >= 0
