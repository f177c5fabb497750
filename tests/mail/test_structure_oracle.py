# SPDX-License-Identifier: Apache-2.0
"""Structures of other projects' letters, beside those that the standard library's parser finds.

The two differ in a few things on purpose; each has its reason here.
"""

from __future__ import annotations

import email
import email.message
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.mail.lines import with_crlf
from posthouse.mail.structure import Part, parse
from posthouse.mail.structure_pack import pack, unpack
from tests.mail.data import DATA, shared

Outline = tuple[str, Any]


def letters(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".msg", ".eml", ".txt") and "_decoded" not in path.name:
            yield path.name, with_crlf(path.read_bytes())


def ours(part: Part, content: bytes) -> Outline:
    kind = f"{part.media.decode()}/{part.subtype.decode()}"
    if part.children:
        return kind, [ours(child, content) for child in part.children]
    return kind, content[part.body.start : part.body.end]


def theirs(message: email.message.Message) -> Outline:
    kind = message.get_content_type()
    payload: Any = message._payload  # get_payload would decode octets that are no ASCII
    is_encoded = message.get("content-transfer-encoding", "").strip().lower() in ("base64", "quoted-printable")
    if not isinstance(payload, list):
        octets = payload.encode("ascii", "surrogateescape")
        # RFC 9051 §9: a multipart has a part; where no delimiter is found it is all of the text.
        return (kind, [("text/plain", octets)]) if kind.startswith("multipart/") else (kind, octets)
    if kind in ("message/rfc822", "message/global") and is_encoded:
        return kind, ...  # that parser looks into the encoded text
    if kind.startswith("message/") and kind not in ("message/rfc822", "message/global"):
        return kind, ...  # that parser takes any message/* apart
    return kind, [theirs(child) for child in payload]


def same(one: Outline, other: Outline) -> bool:
    if other[1] is ...:
        return one[0] == other[0]
    if isinstance(one[1], list) and isinstance(other[1], list):
        pairs = zip(one[1], other[1], strict=False)
        return one[0] == other[0] and len(one[1]) == len(other[1]) and all(same(*pair) for pair in pairs)
    return one == other


def differences(folder: Path) -> dict[str, tuple[Outline, Outline]]:
    found = {}
    for name, content in letters(folder):
        mine = ours(parse(content), content)
        reference = theirs(email.message_from_bytes(content))
        if not same(mine, reference):
            found[name] = (mine, reference)
    return found


def test_letters_of_mimekit() -> None:
    found = differences(DATA / "mime" / "mimekit")
    assert set(found) == {"empty-multipart.txt"}  # it has an inner multipart that nothing closes: a line end more


@pytest.mark.slow
def test_the_whole_sets_differ_in_few_letters() -> None:
    """Those that are malformed. Where they differ, the other parser gives up a header or drops a line end."""
    for folder, most in (("mime/mime4j", 25), ("mime/ruby-mail", 3), ("mime/mimekit", 3), ("bounces", 45)):
        assert len(differences(shared(folder))) <= most


@pytest.mark.slow
def test_every_letter_of_the_whole_sets_survives_its_column() -> None:
    seen = 0
    for folder in ("mime/mime4j", "mime/ruby-mail", "mime/mimekit", "bounces"):
        for _, content in letters(shared(folder)):
            part = parse(content)
            assert unpack(pack(part)) == part
            assert parse(memoryview(content)) == part
            seen += 1
    assert seen > 900
