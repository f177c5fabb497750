# SPDX-License-Identifier: Apache-2.0
"""Sets of UIDs in statements: a wide range as it is, scattered UIDs many to a statement.

A statement is written once, over the range `uid BETWEEN :first AND :last`; `Piece.of` gives the text for a piece.
Pieces come in the order of their UIDs and cover the set exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.ports import Value
from posthouse.store.uidset import Ranges

# What a client expunges after months of reading is tens of thousands of ranges of one UID each: one by one they are
# as many statements, and everybody else waits for the committer meanwhile. PostgreSQL takes 65,535 parameters in a
# statement, SQLite 32,766; beyond some hundred the statements' own cost no longer counts.
LIST_SIZE = 200
NARROW = 10  # UIDs: wider ranges are statements of their own, since their UIDs need not all be there
FEW = 8  # UIDs of a list for which single statements cost less than binding LIST_SIZE parameters

_RANGE = "uid BETWEEN :first AND :last"
_NAMES = tuple(f"u{number}" for number in range(LIST_SIZE))
_LIST = f"uid IN ({', '.join(':' + name for name in _NAMES)})"


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a set, with the parameters that its statements take."""

    parameters: dict[str, Value]
    is_list: bool

    def of(self, statement: str) -> str:
        """The statement for this piece."""
        return statement.replace(_RANGE, _LIST) if self.is_list else statement


def pieces(uids: Ranges) -> Iterator[Piece]:
    """A few pieces for the whole set, growing."""
    waiting: list[int] = []
    for first, last in uids:
        if last - first >= NARROW:
            yield from _listed(waiting)
            waiting = []
            yield Piece({"first": first, "last": last}, is_list=False)
            continue
        waiting.extend(range(first, last + 1))
        if len(waiting) >= LIST_SIZE:
            yield from _listed(waiting[:LIST_SIZE])
            waiting = waiting[LIST_SIZE:]
    yield from _listed(waiting)


def _listed(uids: list[int]) -> Iterator[Piece]:
    if not uids:
        return
    if len(uids) <= FEW:
        first = last = uids[0]
        for uid in uids[1:]:
            if uid != last + 1:
                yield Piece({"first": first, "last": last}, is_list=False)
                first = uid
            last = uid
        yield Piece({"first": first, "last": last}, is_list=False)
        return
    padded = uids + uids[-1:] * (LIST_SIZE - len(uids))  # one statement text whatever their number
    yield Piece(dict(zip(_NAMES, padded, strict=True)), is_list=True)
