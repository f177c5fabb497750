# SPDX-License-Identifier: Apache-2.0
"""Structures, sections, decodings, previews: any octets have them, inside each other and on one line."""

from __future__ import annotations

import contextlib
from itertools import islice

from fuzz.choices import Choices
from posthouse.mail.decoding import UnknownEncodingError, decoded, decoded_text
from posthouse.mail.header import scan_header
from posthouse.mail.header_summary import SummaryAddress, summarise
from posthouse.mail.preview import MAX_PREVIEW, preview
from posthouse.mail.sections import Kind, find, header_fields, span
from posthouse.mail.structure import MAX_PARTS, Part, parse
from posthouse.mail.structure_pack import pack, unpack

DICTIONARY = "mime.dict"
PATHS = 20  # numbers of parts that are looked up: the way to each is as long as it is deep


def target(data: bytes) -> None:
    choices = Choices(data)
    packed = choices.octets(60)
    letter = choices.rest
    root = parse(letter)
    assert root == parse(memoryview(letter)), "another buffer, another structure"
    assert (root.header.start, root.body.end) == (0, len(letter))
    assert root.header.end == scan_header(letter).header_size, "two readers disagree about the header"
    assert sum(1 for _ in root.walk()) <= MAX_PARTS
    for part in root.walk():
        _check(part, letter)
    assert unpack(pack(root)) == root, "the column changes a structure"
    for path in islice(_paths(root), PATHS):
        assert find(root, path) is not None
        assert span(root, path, Kind.MIME) is not None
    header = letter[: root.header.end]
    some = header_fields(header, [b"content-type", b"to"])
    others = header_fields(header, [b"content-type", b"to"], others=True)
    assert sorted(some + others) == sorted(header + header_fields(header, [])), "octets of a header are lost"
    text = preview(root, letter)
    text.encode()
    assert len(text) <= MAX_PREVIEW
    assert len(text.splitlines()) <= 1, "a preview of several lines"
    with contextlib.suppress(ValueError):
        again = unpack(packed)
        assert unpack(pack(again)) == again


def _check(part: Part, letter: bytes) -> None:
    assert part.header.end == part.body.start <= part.body.end
    assert bool(part.children) == (part.is_multipart or part.holds_letter), "a part has not the children it should"
    at = part.body.start
    for child in part.children:
        assert at <= child.header.start <= child.header.end, "parts overlap"
        assert child.body.end <= part.body.end, "a part goes on behind what it is in"
        at = child.body.end
    told = (part.media, part.subtype, part.encoding, part.id, part.description, part.location, *part.languages)
    for value in told:
        assert value is None or not set(b"\0\r\n") & set(value), "a value of several lines"
    if part.summary is not None:
        for field in summarise(part.summary):
            _check_addresses(field)
    elif not part.children:
        with contextlib.suppress(UnknownEncodingError):
            decoded(part, letter)
        decoded_text(part, letter).encode()


def _check_addresses(field: bytes | tuple[SummaryAddress, ...] | None) -> None:
    groups = 0
    for address in field if isinstance(field, tuple) else ():
        if address.host is None:
            groups += 1 if address.mailbox is not None else -1
            assert groups in (0, 1), "a group in a group"
    assert groups == 0, "a group that does not end"


def _paths(root: Part) -> list[tuple[int, ...]]:
    """The numbers of the parts of the outer letter's multiparts."""
    found: list[tuple[int, ...]] = []
    waiting: list[tuple[Part, tuple[int, ...]]] = [(root, ())]
    while waiting and len(found) < PATHS:
        part, path = waiting.pop()
        if part.is_multipart:
            inside = [(child, (*path, number)) for number, child in enumerate(part.children[:PATHS], 1)]
            found += [each for _, each in inside]
            waiting += inside
    return found
