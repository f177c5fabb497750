# SPDX-License-Identifier: Apache-2.0
"""The order of SORT (RFC 5256 §3, RFC 5957): keys of letters from their header summaries, and sorting by them.

Invariant: sorting is stable, so that equal letters stay in the order of the mailbox, also where a criterion is
reversed. Strings compare by i;unicode-casemap (RFC 5051).
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from posthouse.mail.base_subject import base_subject
from posthouse.mail.dates import parse_date
from posthouse.mail.encoded_word import decode_header_text
from posthouse.mail.header_summary import SummaryAddress, address_structures
from posthouse.mail.search import SortCriterion, SortKey

# Octets of an address list read for its first member: a name and an address are under a hundred, and the lists of
# some letters have thousands.
FIRST_ADDRESS = 2_000


class Sortable(Protocol):
    """What sorting asks of a mailbox: parallel sequences in its order, each asked for only where it is needed."""

    def summaries(self) -> Sequence[Mapping[bytes, bytes | None]]:
        """`mail.header.unpack_envelope` of each letter, or the part of it that `fields_of` names."""

    def received(self) -> Sequence[float]:
        """Internal dates."""

    def sizes(self) -> Sequence[int]:
        """Octets."""


def collation_key(text: str) -> str:
    """Compares as i;unicode-casemap does (RFC 5051 §2): titlecase of each character, then decomposed."""
    if text.isascii():
        return text.upper()
    titled = "".join(char.title() if len(char.title()) == 1 else char for char in text)
    return unicodedata.normalize("NFKD", titled)


def sent_date(value: bytes | None, received: float) -> float:
    """The moment in the Date field; the internal date where that cannot be read (RFC 5256 §2.2)."""
    date = parse_date(value) if value else None
    return received if date is None else date.seconds


# What a criterion looks at of the header summary; the others look at none.
FIELDS = {
    SortCriterion.CC: b"cc",
    SortCriterion.DATE: b"date",
    SortCriterion.FROM: b"from",
    SortCriterion.SUBJECT: b"subject",
    SortCriterion.TO: b"to",
    SortCriterion.DISPLAY_FROM: b"from",
    SortCriterion.DISPLAY_TO: b"to",
}


def fields_of(keys: Sequence[SortKey]) -> frozenset[bytes]:
    """The fields of the summary that sorting by these keys looks at."""
    return frozenset(FIELDS[key.criterion] for key in keys if key.criterion in FIELDS)


def order(letters: Sortable, keys: Sequence[SortKey]) -> array[int]:
    """Indexes of the letters, sorted by the keys, the first of which counts most."""
    places = list(range(len(letters.sizes())))
    for key in reversed(keys):  # stable, so the last pass decides
        values = _values(letters, key.criterion)
        places.sort(key=values.__getitem__, reverse=key.is_reverse)
    return array("I", places)


def _values(letters: Sortable, criterion: SortCriterion) -> Sequence[float] | Sequence[str]:
    match criterion:
        case SortCriterion.ARRIVAL:
            return letters.received()
        case SortCriterion.SIZE:
            return letters.sizes()
        case SortCriterion.DATE:
            pairs = zip(letters.summaries(), letters.received(), strict=True)
            return [sent_date(summary[b"date"], received) for summary, received in pairs]
        case SortCriterion.SUBJECT:
            return _texts(letters, b"subject", lambda value: base_subject(value).text)
        case SortCriterion.FROM:
            return _texts(letters, b"from", mailbox_of_first)
        case SortCriterion.TO:
            return _texts(letters, b"to", mailbox_of_first)
        case SortCriterion.CC:
            return _texts(letters, b"cc", mailbox_of_first)
        case SortCriterion.DISPLAY_FROM:
            return _texts(letters, b"from", display_of_first)
        case SortCriterion.DISPLAY_TO:
            return _texts(letters, b"to", display_of_first)


def _texts(letters: Sortable, field: bytes, of: Callable[[bytes], str]) -> list[str]:
    known: dict[bytes, str] = {b"": ""}  # senders and subjects come again and again
    found: list[str] = []
    for summary in letters.summaries():
        value = summary[field] or b""
        key = known.get(value)
        if key is None:
            key = known[value] = collation_key(of(value))
        found.append(key)
    return found


def mailbox_of_first(value: bytes) -> str:
    """addr-mailbox of the first address of a list (RFC 9051 §7.5.2): its local part, or the name of a group."""
    first = _first(value)
    return "" if first is None else _text(first.mailbox)


def display_of_first(value: bytes) -> str:
    """The sort value of RFC 5957 §3: the first address's display name, else its address, else its local part."""
    first = _first(value)
    if first is None:
        return ""
    name = decode_header_text(first.name) if first.name else ""
    if name:
        return name
    return f"{_text(first.mailbox)}@{_text(first.host)}" if first.host else _text(first.mailbox)


def _first(value: bytes) -> SummaryAddress | None:
    """As ENVELOPE has it."""
    found = address_structures(value[:FIRST_ADDRESS])
    return found[0] if found else None


def _text(octets: bytes | None) -> str:
    return (octets or b"").decode("utf-8", "replace")
