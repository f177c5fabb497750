# SPDX-License-Identifier: Apache-2.0
"""The structure of a letter (RFC 2045, RFC 2046): its parts by their offsets, and what their fields say of them.

Any octets have a structure, and always the same one: reading never fails, takes time in proportion to the
octets (times MAX_DEPTH at worst), and a multipart always has a part, a letter in a letter always its letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from posthouse.mail import structure_fields as fields
from posthouse.mail.header import ENVELOPE_FIELDS, MAX_HEADER, Buffer
from posthouse.mail.octets import Octets, octets_of
from posthouse.mail.structure_fields import Disposition, Parameters

MAX_DEPTH = 64  # entities inside each other; a letter forwarded thirty times is that deep
MAX_PARTS = 1_000  # parts of a letter that can be asked for; digests have some hundred
MAX_FALSE_DELIMITERS = 10_000  # lines that only begin like a delimiter; text that quotes so many was made to hurt

# RFC 2046 §5.1.1: what begins with the delimiter is one, whatever follows it. But a longer boundary may begin with
# a shorter one (`a` outside, `a-1` inside), so what follows must be no character that boundaries are made of. Blanks
# before the closing hyphens come from boundaries that wrongly end with blanks.
_AFTER = re.compile(rb"(?:[ \t]{0,70}(--))?(?![0-9A-Za-z'()+_,\-./:=?])")
_LOOKED_AT = 75  # octets behind a boundary that tell what it is
# Name and value of each field of a part's header, as in mail/header.py.
_FIELD = re.compile(rb"(?:([!-9;-~]+)[ \t]*:|(?=[\s\S]))([^\r]*(?:\r(?!\n(?![ \t]))[^\r]*)*)(?:\r\n|\Z)")
_FIELD_BEGINS = re.compile(rb"[!-9;-~]+[ \t]*:")

_TEXT = (b"text", b"plain", ((b"charset", b"us-ascii"),))  # RFC 2045 §5.2: the type of what says nothing
_LETTER: tuple[bytes, bytes, Parameters] = (b"message", b"rfc822", ())  # RFC 2046 §5.1.5: the same in a digest
_UNOPENED = (b"application", b"octet-stream")  # what lies deeper than is looked
_LETTERS = (b"rfc822", b"global")  # RFC 6532 §3.7: message/global is a letter as well
_OPAQUE = (b"base64", b"quoted-printable")  # a letter that is encoded cannot be looked into by offsets
_LISTS = frozenset((b"to", b"cc", b"bcc"))  # as in mail/header.py


class Span(NamedTuple):
    """`content[start:end]`."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


# The unfolded values of ENVELOPE_FIELDS, None where a field is absent: what mail/header.py packs of the outer letter.
Summary = tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a letter is looked into."""

    depth: int = MAX_DEPTH
    parts: int = MAX_PARTS


class Part(NamedTuple):
    """One part, or the whole letter. Names, types and encoding are in lower case, values as they are written.
    (A named tuple: a mailbox has hundreds of thousands of them, and frozen dataclasses take four times as long.)

    `header` ends with its empty line, `body` follows it to the end of the part; both are offsets into the letter.
    `lines` is counted for text and for letters. `children`: the parts of a multipart, or the letter in a
    message/rfc822 or message/global, which then has `summary`.
    """

    media: bytes
    subtype: bytes
    parameters: Parameters
    id: bytes | None
    description: bytes | None
    encoding: bytes
    md5: bytes | None
    disposition: Disposition | None
    languages: tuple[bytes, ...]
    location: bytes | None
    header: Span
    body: Span
    lines: int
    summary: Summary | None
    children: tuple[Part, ...]

    @property
    def is_multipart(self) -> bool:
        return self.media == b"multipart"

    @property
    def holds_letter(self) -> bool:
        """It holds a letter, with a header of its own (RFC 9051 §6.4.5.1)."""
        return self.summary is not None

    @property
    def octets(self) -> int:
        """The size in its transfer encoding, as BODYSTRUCTURE tells it."""
        return self.body.end - self.body.start

    def walk(self) -> Iterator[Part]:
        """This part and all inside it, each before its own."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting += reversed(part.children)


DEFAULT_LIMITS = Limits()


def parse(content: Buffer, *, limits: Limits = DEFAULT_LIMITS) -> Part:
    """The structure of a letter whose lines end in CRLF. Never fails."""
    octets = octets_of(content)
    return _Reader(octets, limits).letter(0, octets.size, 0)


class _Reader:
    def __init__(self, octets: Octets, limits: Limits) -> None:
        self._octets = octets
        self._depth = limits.depth
        self._left = limits.parts
        self._false_left = MAX_FALSE_DELIMITERS

    def letter(self, start: int, end: int, depth: int) -> Part:
        header, index = self._header(start, end)
        return self._part(header, end, index, depth, _TEXT)

    def _member(self, start: int, end: int, depth: int, default: tuple[bytes, bytes, Parameters]) -> Part:
        """A part of a multipart. One that begins with no field has no header: people forget the empty line."""
        octets = self._octets
        if start < end and octets.cut(start, start + 2) != b"\r\n":
            line = octets.cut(start, min(start + 80, end))
            if not _FIELD_BEGINS.match(line):
                return self._part(Span(start, start), end, {}, depth, default)
        header, index = self._header(start, end)
        return self._part(header, end, index, depth, default)

    def _header(self, start: int, end: int) -> tuple[Span, dict[bytes, list[bytes]]]:
        """The header that begins there, with its empty line, and the fields within MAX_HEADER by name."""
        octets = self._octets
        if octets.cut(start, min(start + 2, end)) == b"\r\n":
            return Span(start, start + 2), {}
        empty = octets.find(b"\r\n\r\n", start, end)
        stop = end if empty < 0 else empty + 2
        index: dict[bytes, list[bytes]] = {}
        for name, value in _FIELD.findall(octets.cut(start, min(stop, start + MAX_HEADER))):
            key = name.lower()
            if key in index:
                index[key].append(value)
            else:
                index[key] = [value]
        return Span(start, end if empty < 0 else empty + 4), index

    def _part(
        self,
        header: Span,
        end: int,
        index: dict[bytes, list[bytes]],
        depth: int,
        default: tuple[bytes, bytes, Parameters],
    ) -> Part:
        self._left -= 1
        media, subtype, parameters = _media_type(index, default)
        body = Span(header.end, end)
        encoding = fields.encoding(index[b"content-transfer-encoding"][0]) if _CTE in index else b"7bit"
        children: tuple[Part, ...] = ()
        summary: Summary | None = None
        lines = 0
        is_letter = media == b"message" and subtype in _LETTERS
        if is_letter or media == b"multipart":
            if depth >= self._depth or self._left <= 0:
                media, subtype = _UNOPENED
                parameters = ()
            elif is_letter:
                lines = self._octets.count(b"\n", *body)
                inner, summary = self._inner(body, encoding, depth + 1)
                children = (inner,)
            else:
                children = self._members(body, subtype, parameters, depth + 1)
        elif media == b"text":
            lines = self._octets.count(b"\n", *body)
        rare = _rare_fields(index) if index.keys() & _RARE else _NOTHING_RARE
        return Part(
            media, subtype, parameters, rare[0], rare[1], encoding, rare[2], rare[3], rare[4], rare[5],
            header, body, lines, summary, children,
        )  # fmt: skip

    def _inner(self, body: Span, encoding: bytes, depth: int) -> tuple[Part, Summary]:
        """The letter in a part. Of an encoded one (RFC 2046 §5.2.1 forbids it) all is text in that encoding."""
        if encoding in _OPAQUE:
            whole = self._part(Span(body.start, body.start), body.end, {}, depth, _TEXT)
            return whole._replace(encoding=encoding), (None,) * len(ENVELOPE_FIELDS)
        header, index = self._header(*body)
        if index.keys() == {b""}:  # a note in place of the letter that was left out
            header, index = Span(body.start, body.start), {}
        return self._part(header, body.end, index, depth, _TEXT), _summary(index)

    def _members(self, body: Span, subtype: bytes, parameters: Parameters, depth: int) -> tuple[Part, ...]:
        default = _LETTER if subtype == b"digest" else _TEXT
        found = [self._member(start, end, depth, default) for start, end in self._between_delimiters(body, parameters)]
        if not found:  # RFC 9051 §9: body-type-mpart has a part at least; so all of it can be read
            found = [self._part(Span(body.start, body.start), body.end, {}, depth, _TEXT)]
        return tuple(found)

    def _between_delimiters(self, body: Span, parameters: Parameters) -> Iterator[tuple[int, int]]:
        """Where the parts lie (RFC 2046 §5.1.1): the CRLF before a delimiter belongs to the delimiter."""
        boundary = _boundary(parameters)
        if not boundary:
            return
        octets, mark, stop = self._octets, b"\r\n--" + boundary, body.end
        # The CRLF before the first delimiter may be that of the header's empty line.
        at, after, is_last = self._delimiter(mark, max(body.start - 2, 0), stop)
        while at >= 0 and not is_last and self._left > 0:
            line_end = octets.find(b"\r\n", after, stop)
            start = stop if line_end < 0 else line_end + 2
            at, after, is_last = self._delimiter(mark, max(start - 2, 0), stop)
            yield start, stop if at < 0 else max(at, start)

    def _delimiter(self, mark: bytes, start: int, stop: int) -> tuple[int, int, bool]:
        """(where the next one begins, where its boundary ends, whether it is the closing one); -1 for none."""
        octets = self._octets
        at = octets.find(mark, start, stop)
        while at >= 0:
            after = at + len(mark)
            match = _AFTER.match(octets.cut(after, min(after + _LOOKED_AT, stop)))
            if match is not None:
                return at, after, match[1] is not None
            self._false_left -= 1
            if self._false_left <= 0:
                break
            at = octets.find(mark, after, stop)
        return -1, stop, False


_CTE = b"content-transfer-encoding"
_RARE = {
    b"content-id",
    b"content-description",
    b"content-md5",
    b"content-disposition",
    b"content-language",
    b"content-location",
}
_NOTHING_RARE = (None, None, None, None, (), None)


def _rare_fields(
    index: dict[bytes, list[bytes]],
) -> tuple[bytes | None, bytes | None, bytes | None, Disposition | None, tuple[bytes, ...], bytes | None]:
    """Id, description, MD5, disposition, languages, location: the first field of each name counts."""

    def text(name: bytes) -> bytes | None:
        values = index.get(name)
        return None if values is None else fields.clean(values[0])

    disposition = index.get(b"content-disposition")
    languages = index.get(b"content-language")
    location = index.get(b"content-location")
    return (
        text(b"content-id"),
        text(b"content-description"),
        text(b"content-md5"),
        None if disposition is None else fields.disposition(disposition[0]),
        () if languages is None else fields.languages(languages[0]),
        None if location is None else fields.location(location[0]),
    )


def _media_type(
    index: dict[bytes, list[bytes]], default: tuple[bytes, bytes, Parameters]
) -> tuple[bytes, bytes, Parameters]:
    values = index.get(b"content-type")
    if values is None:
        return default
    found = fields.media_type(values[0])
    if found is not None:
        return found
    media, subtype, parameters = _TEXT
    return media, subtype, fields.parameters_of(values[0]) or parameters


def _boundary(parameters: Parameters) -> bytes:
    """RFC 2046 §5.1.1: a boundary does not end with a blank. b"" where there is none."""
    for name, value in parameters:
        if name == b"boundary":
            return value.rstrip(b" \t")
    text = fields.text_parameter(parameters, b"boundary")
    return b"" if text is None else text.encode("utf-8", "replace").rstrip(b" \t")


def _summary(index: dict[bytes, list[bytes]]) -> Summary:
    """As HeaderScan.pack_envelope does it for the outer letter."""
    values: list[bytes | None] = []
    for name in ENVELOPE_FIELDS:
        found = index.get(name)
        if found is None:
            values.append(None)
        elif len(found) > 1 and name in _LISTS:
            values.append(b", ".join(fields.clean_whole(one) for one in found))
        else:
            values.append(fields.clean_whole(found[0]))
    return tuple(values)
