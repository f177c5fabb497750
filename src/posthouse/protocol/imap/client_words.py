# SPDX-License-Identifier: Apache-2.0
"""What a client says: words of commands, and how each is dressed. See client.py.

Invariant: no word can end the command that it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from posthouse.protocol.engine import LocalProtocolError
from posthouse.protocol.imap import utf7

_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*")
_SPECIAL = re.compile(rb'(["\\])')
_RAW = re.compile(rb"[\x20-\x7e]+")
MAX_QUOTED = 1000  # octets; beyond it a literal: servers have limits for lines


@dataclass(frozen=True, slots=True)
class Literal:
    """`is_binary`: literal8, NUL may be in it (RFC 9051 §4.3)."""

    content: bytes
    is_binary: bool = False


Word = bytes | Literal


def raw(text: str) -> bytes:
    """Words of the grammar as they are: verbs, sets, lists of data items. Raises LocalProtocolError."""
    octets = text.encode()
    if not _RAW.fullmatch(octets):
        raise LocalProtocolError("a command is printable ASCII")
    if octets.endswith(b"}"):
        raise LocalProtocolError("a literal is said as one")
    return octets


def astring(value: str | bytes) -> Word:
    octets = value.encode() if isinstance(value, str) else value
    if b"\0" in octets:
        raise LocalProtocolError("no NUL in a string")
    if len(octets) <= MAX_QUOTED:
        if _ATOM.fullmatch(octets) and octets.upper() != b"NIL":
            return octets
        if _QUOTABLE.fullmatch(octets):
            return b'"' + _SPECIAL.sub(rb"\\\1", octets) + b'"'
    return Literal(octets)


def mailbox(name: str, *, is_utf8: bool = False) -> Word:
    """In modified UTF-7 until UTF-8 is enabled (RFC 3501 §5.1.3)."""
    return astring(name.encode() if is_utf8 else utf7.encode(name))


def flag_list(flags: Iterable[str]) -> bytes:
    return raw(f"({' '.join(flags)})")
