# SPDX-License-Identifier: Apache-2.0
"""A text that is looked for in letters, as SEARCH does (RFC 9051 §6.4.4): anywhere, without case, decoded.

Invariant: what is looked at as raw octets gives the same answer as its decoded text would. Strings compare nearly as
i;unicode-casemap has it (RFC 5051), with case folding in the place of titlecase: it is one call for a whole text,
and finds "straße" by "STRASSE" too.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from posthouse.mail.decoding import decoded_text
from posthouse.mail.encoded_word import decode_header_text
from posthouse.mail.header import Buffer
from posthouse.mail.structure import Part
from posthouse.mail.structure_fields import text_parameter

_PLAIN = frozenset((b"7bit", b"8bit", b"binary"))
# Charsets in which an octet below 128 is the character of ASCII wherever it stands.
_LIKE_ASCII = re.compile(r"(?:us-ascii|ascii|utf-8|iso-8859-\d{1,2}|windows-125\d|)", re.IGNORECASE)
# What in a header tells that the body is not one text which reads as its octets do: transfer encodings, charsets with
# escapes, and types of letters with parts, which have headers of their own. (One look for each costs a tenth of an
# expression that has them all.)
_NOT_PLAIN = (
    b"base64", b"quoted-printable", b"iso-2022", b"utf-7", b"utf7", b"hz-gb", b"multipart", b"rfc822", b"message/global"
)  # fmt: skip
_ASCII = bytes(range(128))
# Characters other than ASCII of one text that are looked at one by one; a text in one language has some dozen.
FEW = 64


def folded(text: str) -> str:
    """Equal for texts that differ in case or composition only."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKD", text).casefold()


@lru_cache(maxsize=1024)
def _ascii_of(character: str) -> bytes:
    """What is ASCII in a folded character, something that is no character in the place of the rest; b"" for nothing."""
    octets = bytes(min(ord(each), 0xFF) if each.isascii() else 0xFF for each in folded(character))
    return b"" if octets.strip(b"\xff") == b"" else octets


def _ascii_in(text: str) -> bytes:
    """Octets in which a text of ASCII stands exactly where it stands in the folded text: each character folds by
    itself, and what is put in another order then is not ASCII. (A tenth of the time of folding all.)"""
    octets = text.encode("utf-8", "surrogatepass").lower()
    foreign = set(octets.translate(None, _ASCII).decode("utf-8", "surrogatepass"))
    if len(foreign) > FEW:
        return folded(text).encode("utf-8", "surrogatepass")
    for character in foreign:
        plain = _ascii_of(character)
        if plain:
            octets = octets.replace(character.encode("utf-8", "surrogatepass"), plain)
    return octets


def _unfolded(block: bytes) -> bytes:
    if b"\r\n " in block or b"\r\n\t" in block:
        return block.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t")
    return block


class Needle:
    """One text; "" is in every text there is."""

    __slots__ = ("_octets", "_spans_lines", "_text")

    def __init__(self, text: str) -> None:
        self._text = folded(text)
        self._octets = self._text.encode() if self._text.isascii() else None
        # Where a header field is folded there is a blank.
        self._spans_lines = self._octets is not None and not set(self._octets).isdisjoint(b" \t\r\n")

    def is_in(self, text: str) -> bool:
        if self._octets is not None and not text.isascii():
            return self._octets in _ascii_in(text)
        return self._text in folded(text)

    def is_in_value(self, value: bytes) -> bool:
        """In the value of a header field, unfolded or not, encoded words decoded."""
        if value.isascii() and b"=?" not in value:
            plain = value.replace(b"\r\n", b"") if b"\r\n" in value else value
            return self._octets is not None and self._octets in plain.lower()
        return self.is_in(decode_header_text(value))

    def is_in_header(self, block: bytes) -> bool:
        """In a block of header fields, name or value; never across two of them."""
        if self._spans_lines:
            block = _unfolded(block)
        may_be_plain = self._octets is not None and self._octets in block.lower()
        if b"=?" not in block and block.isascii():
            return may_be_plain
        for line in _unfolded(block).split(b"\r\n"):
            if (may_be_plain or b"=?" in line or not line.isascii()) and self.is_in_value(line):
                return True
        return False

    def cannot_be_in(self, header: bytes, body: bytes) -> bool:
        """Whether one look at a letter's body, in octets, tells that it is in no text of it. `header` in lower case."""
        for mark in _NOT_PLAIN:  # a generator costs as much again
            if mark in header:
                return False
        if not body.isascii():
            return False
        return self._octets is None or self._octets not in body.lower()

    def is_in_body(self, root: Part, content: Buffer) -> bool:
        """In a text of the letter, or in the header of a part or of a letter inside it. Other parts hold no text."""
        view = memoryview(content)
        return any(self._is_in_part(part, part is root, view) for part in root.walk())

    def _is_in_part(self, part: Part, is_root: bool, content: memoryview) -> bool:
        if not is_root and self.is_in_header(bytes(content[part.header.start : part.header.end])):
            return True
        if part.media != b"text":
            return False
        if part.encoding in _PLAIN and _is_like_ascii(part):
            octets = bytes(content[part.body.start : part.body.end])
            if octets.isascii():
                return self._octets is not None and self._octets in octets.lower()
        return self.is_in(decoded_text(part, content))


def _is_like_ascii(part: Part) -> bool:
    return _LIKE_ASCII.fullmatch((text_parameter(part.parameters, b"charset") or "").strip()) is not None
