# SPDX-License-Identifier: Apache-2.0
"""Builds simple letters as octets: fields, text parts, multiparts. For reports and notices of our own.

What is built has CRLF lines of at most 998 octets, and is pure ASCII unless the caller allows 8-bit; text given
here can never end a field or add one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import NamedTuple

from posthouse.mail.address import Address
from posthouse.mail.encoded_word import encode_header_text

LINE_WIDTH = 76  # columns: RFC 2047 §2 where encoded words are about (RFC 5322 §2.1.1 says 78)
MAX_LINE = 998  # octets, the same section; more needs a transfer encoding

_LINE_END = re.compile(r"\r\n|\r|\n")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\- ]*")
_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,\-./:=?]{1,70}")  # RFC 2046 §5.1.1 without the blank


class Part(NamedTuple):
    """A MIME part: its fields, each ending in CRLF, and its body."""

    header: bytes
    body: bytes


def field(name: str, text: str) -> bytes:
    """An unstructured field: encoded words where text is not ASCII, folded."""
    return _fold(name, encode_header_text(text).split(" "))


def structured_field(name: str, value: str) -> bytes:
    """A field whose value is already in its syntax; folded at its blanks, controls taken out.

    Non-ASCII text stays raw: such a letter needs SMTPUTF8 (RFC 6532).
    """
    return _fold(name, one_line(value).split(" "))


def address_field(name: str, members: Sequence[tuple[str, Address]]) -> bytes:
    """From, To and their like: pairs of display name ("" for none) and address."""
    words: list[str] = []
    for display_name, address in members:
        if words:
            words[-1] += ","
        words += [*phrase(display_name), f"<{address}>"] if display_name else [str(address)]
    return _fold(name, words)


def phrase(text: str) -> list[str]:
    """A display name as words between which the field may be folded: atoms, a quoted string, encoded words."""
    clean = one_line(text)
    if clean.isascii() and not _ATOMS.fullmatch(clean):
        escaped = clean.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'.split(" ")
    return encode_header_text(clean).split(" ")


def one_line(text: str) -> str:
    """Text without line ends and other controls, each replaced by a blank."""
    return "".join(char if char >= " " and char != "\x7f" else " " for char in text).strip()


def _fold(name: str, words: list[str]) -> bytes:
    """Fold at blanks where lines grow over LINE_WIDTH. No line is ever of blanks only."""
    lines: list[str] = []
    line = f"{name}:"
    has_word = False  # of this line: a fold before the first word would leave the name alone
    for word in words:
        if has_word and word and len(line) + 1 + len(word) > LINE_WIDTH:
            lines.append(line)
            line = ""
        line = f"{line} {word}"
        has_word = has_word or bool(word)
    lines.append(line)
    return ("\r\n".join(lines).rstrip(" ") + "\r\n").encode("utf-8", "replace")


def text_part(text: str, *, subtype: str = "plain", may_use_eight_bit: bool = False) -> Part:
    """A text part in UTF-8. 7bit when it fits, 8bit when allowed, else the shorter of quoted-printable, base64."""
    body = "\r\n".join(_LINE_END.split(text)).encode("utf-8", "replace")
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    charset = "us-ascii" if body.isascii() else "utf-8"
    has_long_lines = max(len(line) for line in body.split(b"\r\n")) > MAX_LINE
    encoding = "7bit"
    if has_long_lines or b"\0" in body or not (body.isascii() or may_use_eight_bit):
        encoding, body = _encode(body)
    elif not body.isascii():
        encoding = "8bit"
    header = f"Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    return Part(header.encode("ascii"), body)


def _encode(body: bytes) -> tuple[str, bytes]:
    quoted = binascii.b2a_qp(body, istext=True)
    in_base64 = to_base64(body)
    # A text of mostly ASCII stays readable in quoted-printable even where base64 is a little shorter.
    if len(quoted) <= len(in_base64) * 5 // 4:
        return "quoted-printable", quoted
    return "base64", in_base64


def to_base64(octets: bytes) -> bytes:
    """Base64 in lines of 76 characters (RFC 2045 §6.8)."""
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


def multipart(subtype: str, parts: Sequence[Part], boundary: str, *, parameters: str = "", preamble: str = "") -> Part:
    """`multipart/subtype` of the parts. `parameters` follows the boundary in Content-Type, such as `; a=b`.

    Raises ValueError when the boundary is not one or occurs in a part.
    """
    mark = f"--{boundary}".encode("ascii")
    if not _BOUNDARY.fullmatch(boundary):
        raise ValueError("not a boundary")
    if any(mark in part.body for part in parts):
        raise ValueError("the boundary occurs in a part")
    pieces: list[bytes] = []
    if preamble:
        pieces += [one_line(preamble).encode("ascii", "replace"), b"\r\n\r\n"]
    for part in parts:
        pieces += [mark, b"\r\n", part.header, b"\r\n", part.body, b"\r\n"]
    pieces += [mark, b"--\r\n"]
    content_type = structured_field("Content-Type", f'multipart/{subtype}{parameters}; boundary="{boundary}"')
    return Part(content_type, b"".join(pieces))


def message(fields: bytes, part: Part) -> bytes:
    """A whole letter: its fields (each ending in CRLF), then one part."""
    return b"".join((fields, b"MIME-Version: 1.0\r\n", part.header, b"\r\n", part.body))
