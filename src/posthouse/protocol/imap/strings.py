# SPDX-License-Identifier: Apache-2.0
"""Octets in the dress that a response needs (RFC 9051 §4.3): atom, quoted string, literal, set of numbers.

Invariant: whatever octets come in, what goes out is one value of the grammar; nothing in it ends a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache

from posthouse.mail.number_set import Ranges
from posthouse.protocol.imap import limits, utf7

# ASCII that may stand between quotes as it is; and with the two characters that a backslash goes before.
_PLAIN = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-!#-\[\]-\x7f]*")
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*")
_SPECIAL = re.compile(rb'(["\\])')
_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
# Longer strings are literals: several clients read lines into a buffer of a few thousand octets.
MAX_QUOTED = 1024
_EPOCH = date(1970, 1, 1).toordinal()
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def string(value: bytes, *, is_utf8: bool = False) -> bytes:
    """Quoted where it can be, else a literal. `is_utf8`: UTF-8 may stand between quotes (RFC 6855 §3)."""
    if len(value) <= MAX_QUOTED:
        if _PLAIN.fullmatch(value):
            return b'"' + value + b'"'
        if _QUOTABLE.fullmatch(value) or (is_utf8 and _is_quotable_utf8(value)):
            return b'"' + _SPECIAL.sub(rb"\\\1", value) + b'"'
    if b"\0" in value:
        value = value.replace(b"\0", b"")  # RFC 9051 §9: no string has it
    return b"{%d}\r\n%b" % (len(value), value)


def _is_quotable_utf8(value: bytes) -> bool:
    if b"\r" in value or b"\n" in value or b"\0" in value:
        return False
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def nstring(value: bytes | None, *, is_utf8: bool = False) -> bytes:
    if value is None:
        return b"NIL"
    if len(value) <= MAX_QUOTED and _PLAIN.fullmatch(value):  # as in `string`: an ENVELOPE has fifteen of them
        return b'"' + value + b'"'
    return string(value, is_utf8=is_utf8)


def astring(value: bytes, *, is_utf8: bool = False) -> bytes:
    # "NIL" as an atom is an astring too, but readers that are less strict take it for nothing.
    if _ATOM.fullmatch(value) and len(value) <= MAX_QUOTED and value.upper() != b"NIL":
        return value
    return string(value, is_utf8=is_utf8)


def mailbox(name: str, *, is_utf8: bool = False) -> bytes:
    """In UTF-8 once it is enabled, else in modified UTF-7 (RFC 3501 §5.1.3)."""
    return astring(name.encode("utf-8", "replace") if is_utf8 else utf7.encode(name), is_utf8=is_utf8)


def ranges_text(ranges: Ranges) -> bytes:
    """A sequence-set; b"" for none."""
    return ",".join([str(first) if first == last else f"{first}:{last}" for first, last in ranges]).encode("ascii")


def listed(words: Iterable[str]) -> bytes:
    """Flags or attributes in parentheses."""
    return f"({' '.join(words)})".encode("ascii")


def date_time(when: datetime) -> bytes:
    """date-time; a time without a zone is UTC."""
    offset = when.utcoffset()
    minutes = 0 if offset is None else int(offset.total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    return (
        f'"{when.day:2}-{_MONTHS[when.month - 1]}-{when.year:04} {when:%H:%M:%S} {sign}{hours:02}{rest:02}"'
    ).encode("ascii")


def utc_time(seconds: int) -> bytes:
    """date-time in UTC of a time of the epoch, for rows of many messages; years from 1 to 9999."""
    day, rest = divmod(seconds, 86_400)
    minutes, second = divmod(rest, 60)
    return b'"%b %02d:%02d:%02d +0000"' % (_day(day), *divmod(minutes, 60), second)


@lru_cache(maxsize=4096)  # the days of ten years
def _day(number: int) -> bytes:
    day = date.fromordinal(_EPOCH + number)
    return f"{day.day:2}-{_MONTHS[day.month - 1]}-{day.year:04}".encode("ascii")


def line_text(text: str) -> str:
    """What people read, on one line: printable ASCII, and not too much of it."""
    if text.isascii() and text.isprintable() and 0 < len(text) <= limits.MAX_TEXT:
        return text
    return "".join(character if " " <= character <= "~" else "?" for character in text[: limits.MAX_TEXT]) or "?"
