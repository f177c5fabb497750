# SPDX-License-Identifier: Apache-2.0
"""ENVELOPE of many letters at once (RFC 9051 §7.5.2): whole columns are looked at in one step.

Invariant: each is what `structure_results.envelope(summarise(values))` writes, octet by octet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from posthouse.mail.header_summary import address_structures, one_line
from posthouse.protocol.imap.strings import MAX_QUOTED, nstring
from posthouse.protocol.imap.structure_results import addresses

_NIL = b"NIL"
# A column of values that may all stand between quotes as they are, with line ends between them.
_PLAIN_COLUMN = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-!#-\[\]-\x7f\n]*")
_FORM = b"(" + b" ".join([b"%b"] * 10) + b")"
_CACHED = 400  # octets of an address list; longer ones seldom come twice, and the cache shall stay small
_CACHE = 4_000  # lists: what a mailbox's correspondents write in their letters

Values = Sequence[bytes | None]  # of ENVELOPE_FIELDS, in their order


def envelopes(summaries: Sequence[Values], *, is_utf8: bool = False) -> list[bytes]:
    if not summaries:
        return []
    date, subject, from_, sender, reply_to, to, cc, bcc, in_reply_to, message_id = zip(*summaries, strict=True)
    authors = _lists(from_, is_utf8=is_utf8)
    columns = (
        _texts(date, is_utf8=is_utf8),
        _texts(subject, is_utf8=is_utf8),
        authors,
        _others(sender, authors, is_utf8=is_utf8),
        _others(reply_to, authors, is_utf8=is_utf8),
        _lists(to, is_utf8=is_utf8),
        _lists(cc, is_utf8=is_utf8),
        _lists(bcc, is_utf8=is_utf8),
        _texts(in_reply_to, is_utf8=is_utf8),
        _texts(message_id, is_utf8=is_utf8),
    )
    return list(map(_FORM.__mod__, zip(*columns, strict=True)))


def _texts(column: Values, *, is_utf8: bool) -> list[bytes]:
    present = [value for value in column if value is not None]
    if not present:
        return [_NIL] * len(column)
    joined = b"\n".join(present)
    if (
        _PLAIN_COLUMN.fullmatch(joined) is None
        or joined.count(b"\n") >= len(present)
        or max(map(len, present)) > MAX_QUOTED
    ):
        return [_NIL if value is None else nstring(one_line(value), is_utf8=is_utf8) for value in column]
    dressed = (b'"' + joined.replace(b"\n", b'"\n"') + b'"').split(b"\n")
    if len(present) == len(column):
        return dressed
    following = iter(dressed)
    return [_NIL if value is None else next(following) for value in column]


def _lists(column: Values, *, is_utf8: bool) -> list[bytes]:
    return [_NIL if value is None else _list(value, is_utf8) for value in column]


def _others(column: Values, authors: Iterable[bytes], *, is_utf8: bool) -> list[bytes]:
    """Sender and Reply-To without an address are From's."""
    found: list[bytes] = []
    for value, author in zip(column, authors, strict=True):
        dressed = _NIL if value is None else _list(value, is_utf8)
        found.append(author if dressed is _NIL else dressed)
    return found


def _list(value: bytes, is_utf8: bool) -> bytes:
    return _again(value, is_utf8) if len(value) <= _CACHED else _written(value, is_utf8)


def _written(value: bytes, is_utf8: bool) -> bytes:
    found = address_structures(value)
    return addresses(found, is_utf8=is_utf8) if found else _NIL


_again = lru_cache(maxsize=_CACHE)(_written)
