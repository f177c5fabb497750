# SPDX-License-Identifier: Apache-2.0
"""Structures of other projects' letters, beside the trees that mime4j finds: every body, octet by octet."""

from __future__ import annotations

import re
from typing import Any

import pytest

from posthouse.mail.lines import with_crlf
from posthouse.mail.sections import Kind, find, span
from posthouse.mail.structure import Part, parse
from posthouse.mail.structure_pack import pack, unpack
from tests.mail.data import DATA

MIME4J = DATA / "mime" / "mime4j"
MIMEKIT = DATA / "mime" / "mimekit"

# Where mime4j and this house read differently, and why.
ENCODED = "mime4j looks into a letter that is encoded; offsets cannot"
NO_PART = "a multipart without a part: all of its body is one (RFC 9051 §9)"
BLANKS = "the boundary ends with blanks, which it must not (RFC 2046 §5.1.1): they do not count"
DIFFERENT = {
    "bad-newlines-multiple-parts-base64": ENCODED,
    "base64encoded-rfc822message": ENCODED,
    "base64encoded-rfc822message-nested": ENCODED,
    "malformedHeaderStartsBody-nocrlfcrlf": "a line that is no field ends no header: mail/header.py",
    "malformedHeaderStartsBody-noheader": "a line that is no field ends no header: mail/header.py",
    "missing-boundary": NO_PART,
    "missing-inner-boundary": NO_PART,
    "missing-inner-start-boundary": NO_PART,
    "multipartnopart": NO_PART,
    "very-long-boundary": BLANKS,
    "very-very-long-boundary": BLANKS,
    "weird-boundary": BLANKS,
}
NAMES = sorted(path.stem for path in MIME4J.glob("*.msg"))

_MARK = re.compile(rb"<(/?)(message|header|field|body|multipart|preamble|body-part|epilogue)>(?:\r?\n)?")


class Node:
    def __init__(self, name: bytes, start: int) -> None:
        self.name, self.start, self.end = name, start, 0
        self.inside: list[Node] = []


def expected(xml: bytes) -> Any:
    """Bodies as octets, multiparts as lists, letters in letters as a tuple of one."""
    stack = [Node(b"", 0)]
    for match in _MARK.finditer(xml):
        if match[1]:
            stack.pop().end = match.start()
        else:
            stack.append(Node(match[2], match.end()))
            stack[-2].inside.append(stack[-1])
    return _expected(stack[0].inside[0], xml)


def _expected(entity: Node, xml: bytes) -> Any:
    for node in entity.inside:
        if node.name == b"multipart":
            return [_expected(each, xml) for each in node.inside if each.name == b"body-part"]
        if node.name == b"message":
            return (_expected(node, xml),)
        if node.name == b"body":
            text = xml[node.start : node.end]
            for written, octet in ((b"&lt;", b"<"), (b"&gt;", b">"), (b"&quot;", b'"'), (b"&amp;", b"&")):
                text = text.replace(written, octet)
            return text
    return b""


def found(part: Part, content: bytes) -> Any:
    if part.is_multipart:
        return [found(child, content) for child in part.children]
    if part.holds_letter:
        return (found(part.children[0], content),)
    return content[part.body.start : part.body.end]


def load(name: str) -> tuple[bytes, bytes]:
    content, xml = (MIME4J / f"{name}.msg").read_bytes(), (MIME4J / f"{name}.xml").read_bytes()
    return (content, xml) if b"\r\n" in content else (with_crlf(content), with_crlf(xml))


@pytest.mark.parametrize("name", NAMES)
def test_bodies_are_those_that_mime4j_finds(name: str) -> None:
    content, xml = load(name)
    if name in DIFFERENT:
        assert found(parse(content), content) != expected(xml), "no difference any more"
    else:
        assert found(parse(content), content) == expected(xml)


def test_there_are_letters_to_compare() -> None:
    assert len(NAMES) == 32
    assert set(DIFFERENT) < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_structure_survives_its_column_and_any_buffer(name: str) -> None:
    content, _ = load(name)
    part = parse(content)
    assert unpack(pack(part)) == part
    assert parse(memoryview(content)) == parse(bytearray(content)) == part


PLACES = ["1", "2", "3", "3.1", "3.2", "4", "4.1", "4.2", "4.2.1", "4.2.2", "4.2.2.1", "4.2.2.2"]


def test_each_part_of_the_example_of_the_rfc_has_its_number() -> None:
    """The letter is RFC 9051 §6.4.5.1's, and each part names its own number."""
    content = with_crlf((MIMEKIT / "rfc2060.txt").read_bytes())
    root = parse(content)
    for place in PLACES:
        path = tuple(map(int, place.split(".")))
        part = find(root, path)
        assert part is not None
        said = b"This part specifier should be: " + place.encode()
        if part.holds_letter:
            header = span(root, path, Kind.HEADER)
            assert header is not None
            assert b"\r\nSubject: " + said + b"\r\n" in content[header.start : header.end]
        elif not part.is_multipart:
            assert content[part.body.start : part.body.end].strip() == said
    assert sum(1 for _ in root.walk()) == len(PLACES) + 1 + 2, "the letter itself, and the two inside it"
    for place in ("5", "1.1", "3.3", "4.3", "4.1.1", "4.2.2.3", "0", "3.0"):
        assert find(root, tuple(map(int, place.split(".")))) is None
