# SPDX-License-Identifier: Apache-2.0
"""A text that is looked for in letters, as SEARCH does (RFC 9051 §6.4.4): anywhere, without case, decoded.

Invariant: what is looked at as raw octets gives the same answer as its decoded text would. Strings compare nearly as
i;unicode-casemap has it (RFC 5051), with case folding in the place of titlecase: it is one call for a whole text,
and finds "straße" by "STRASSE" too.
"""

from __future__ import annotations

import re
import unicodedata

from posthouse.mail.decoding import decoded_text
from posthouse.mail.encoded_word import decode_header_text
from posthouse.mail.header import Buffer
from posthouse.mail.structure import Part
from posthouse.mail.structure_fields import text_parameter

_FOLD = re.compile(rb"\r\n(?=[ \t])")
_PLAIN = frozenset((b"7bit", b"8bit", b"binary"))
# Charsets in which an octet below 128 is the character of ASCII wherever it stands.
_LIKE_ASCII = re.compile(r"(?:us-ascii|ascii|utf-8|iso-8859-\d{1,2}|windows-125\d|)", re.IGNORECASE)
# What may make text look another way in octets than it reads: transfer encodings and charsets with escapes.
# (One look for each costs a tenth of an expression that has them all.)
_DISGUISES = (b"base64", b"quoted-printable", b"iso-2022", b"utf-7", b"utf7", b"hz-gb")
# Types of letters with parts, which have headers of their own.
_COMPOSITE = (b"multipart", b"rfc822", b"message/global")


def folded(text: str) -> str:
    """Equal for texts that differ in case or composition only."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKD", text).casefold()


class Needle:
    """One text; "" is in every text there is."""

    __slots__ = ("_octets", "_text")

    def __init__(self, text: str) -> None:
        self._text = folded(text)
        self._octets = self._text.encode() if self._text.isascii() else None

    def is_in(self, text: str) -> bool:
        return self._text in folded(text)

    def is_in_value(self, value: bytes) -> bool:
        """In the value of a header field, unfolded or not, encoded words decoded."""
        if value.isascii() and b"=?" not in value:
            plain = value.replace(b"\r\n", b"") if b"\r\n" in value else value
            return self._octets is not None and self._octets in plain.lower()
        return self.is_in(decode_header_text(value))

    def is_in_header(self, block: bytes) -> bool:
        """In a block of header fields, name or value; never across two of them."""
        if block.isascii() and b"=?" not in block:
            return self._octets is not None and self._octets in _FOLD.sub(b"", block).lower()
        return any(self.is_in_value(line) for line in _FOLD.sub(b"", block).split(b"\r\n"))

    def cannot_be_in(self, header: bytes, body: bytes) -> bool:
        """Whether one look at a letter's body, given in lower case as its header, tells that it is in no text of it."""
        if not body.isascii() or any(mark in header for mark in _DISGUISES):
            return False
        has_parts = any(mark in header for mark in _COMPOSITE)
        if has_parts and (b"=?" in body or any(mark in body for mark in _DISGUISES)):
            return False
        if self._octets is None:
            return True
        return self._octets not in body and not (has_parts and self._octets in _FOLD.sub(b"", body))

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
