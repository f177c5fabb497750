# SPDX-License-Identifier: Apache-2.0
"""The content of a part without its transfer encoding (RFC 2045 §6), and its text.

Reading fails for an encoding that nobody knows, and for nothing else: what is damaged is decoded as far as it goes.
Whole buffers at a time; time and memory in proportion to the part.
"""

from __future__ import annotations

import binascii
import codecs
import re

from posthouse.mail.encoded_word import codec_name, decode_charset, decode_unlabelled
from posthouse.mail.header import Buffer
from posthouse.mail.structure import Part
from posthouse.mail.structure_fields import text_parameter

PLAIN = frozenset((b"7bit", b"8bit", b"binary"))  # encodings that change nothing
_NOT_BASE64 = bytes(octet for octet in range(256) if not (chr(octet).isascii() and chr(octet).isalnum())
                    and octet not in b"+/=")  # fmt: skip
# Blanks before the end of a line were added on the way (RFC 2045 §6.7 (3)).
_ADDED_BLANKS = re.compile(rb"(?<![ \t])[ \t]+(?=\r\n|\Z)")
_CR_ALONE = re.compile(rb"=\r(?!\n)")
_LF_ALONE = re.compile(rb"(?<!\r)\n")
# Charsets whose characters are two or four octets: an octet 10 is not a line end there.
_WIDE_CHARSETS = frozenset(("utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be"))
_SAYS_NOTHING = frozenset(("", "us-ascii", "ascii", "unknown-8bit", "x-unknown"))


class UnknownEncodingError(ValueError):
    """A Content-Transfer-Encoding that nobody knows ([UNKNOWN-CTE], RFC 9051 §7.1)."""


def decode(octets: Buffer, encoding: bytes) -> bytes:
    """Without the transfer encoding, its name in lower case. Raises UnknownEncodingError."""
    if encoding == b"base64":
        return _base64(octets)
    if encoding == b"quoted-printable":
        return _quoted_printable(bytes(octets))
    if encoding in PLAIN:
        return bytes(octets)
    raise UnknownEncodingError(encoding.decode("ascii", "replace"))


def decoded(part: Part, content: Buffer) -> bytes:
    """What BINARY gives of a leaf of the letter `content`. Raises UnknownEncodingError.

    Lines of text end in CRLF there, whatever the sender encoded (RFC 9051 §7.5.2).
    """
    octets = decode(memoryview(content)[part.body.start : part.body.end], part.encoding)
    if part.media != b"text" or part.encoding in PLAIN or octets.count(b"\n") == octets.count(b"\r\n"):
        return octets
    if _charset(part) in _WIDE_CHARSETS:
        return octets
    return _LF_ALONE.sub(b"\r\n", octets)


def decoded_text(part: Part, content: Buffer, *, most: int | None = None) -> str:
    """The text of a leaf; of the first `most` octets of its body where that is given. Never fails.

    An encoding that nobody knows is taken for none.
    """
    end = part.body.end if most is None else min(part.body.end, part.body.start + most)
    octets = memoryview(content)[part.body.start : end]
    try:
        plain = decode(octets, part.encoding)
    except UnknownEncodingError:
        plain = bytes(octets)
    charset = _charset(part)
    if end < part.body.end:
        return _beginning(plain, charset)
    if charset in _SAYS_NOTHING:
        return decode_unlabelled(plain)
    if charset in _WIDE_CHARSETS:
        return plain.decode(_wide_codec(plain, charset), "replace")
    return decode_charset(plain, charset)


def _charset(part: Part) -> str:
    """Its label in lower case, "" where there is none."""
    return (text_parameter(part.parameters, b"charset") or "").strip().lower()


def _wide_codec(octets: bytes, charset: str) -> str:
    """Without a mark that tells, the order of the octets is that of the programs which leave the mark out."""
    if charset in ("utf-16", "utf-32") and octets[:2] not in (b"\xff\xfe", b"\xfe\xff", b"\0\0"):
        return charset + "-le"
    return charset


def _beginning(octets: bytes, charset: str) -> str:
    """Text that was cut: the character that the cut went through is not shown."""
    if charset in _WIDE_CHARSETS:
        names: list[str | None] = [_wide_codec(octets, charset)]
    else:
        names = [None if charset in _SAYS_NOTHING else codec_name(charset), "utf-8"]
    for name in names:
        if name is None:
            continue
        try:
            text = codecs.getincrementaldecoder(name)("strict").decode(octets)
        except (UnicodeError, LookupError):
            continue
        return text.encode("utf-8", "replace").decode()  # halves of pairs, which UTF-7 lets through
    if charset in _WIDE_CHARSETS:
        return octets.decode(_wide_codec(octets, charset), "replace")
    return decode_unlabelled(octets) if names[0] is None else decode_charset(octets, charset)


def _base64(octets: Buffer) -> bytes:
    """Anything but its 64 digits is skipped, and padding ends it: what follows is a list's footer, not data."""
    try:
        return binascii.a2b_base64(octets)
    except binascii.Error:
        pass
    digits = bytes(octets).translate(None, _NOT_BASE64).partition(b"=")[0]
    if len(digits) % 4 == 1:  # no such base64: the last digit is a stray, or the rest is lost
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _quoted_printable(octets: bytes) -> bytes:
    if b" \r\n" in octets or b"\t\r\n" in octets or octets.endswith((b" ", b"\t")):
        octets = _ADDED_BLANKS.sub(b"", octets)
    if octets.count(b"\r") != octets.count(b"\r\n"):  # the decoder would skip from "=" CR to the next LF
        octets = _CR_ALONE.sub(b"=3D\r", octets)
    return binascii.a2b_qp(octets)
