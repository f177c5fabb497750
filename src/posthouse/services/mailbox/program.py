# SPDX-License-Identifier: Apache-2.0
r"""A search program over the letters of a mailbox: what can be told at once, and what needs a look at each letter.

Invariant: a letter is only called found or not found when that is certain; what has not been read is neither. Flags,
sizes, numbers and mod-sequences are told for all letters together, from the arrays: a set of letters is one integer
with an octet for each, so that AND, OR and NOT of a hundred thousand letters are one operation.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from contextlib import suppress
from itertools import compress

from posthouse.mail.search import (
    All,
    And,
    EmailIdIs,
    HasFlag,
    HasSaveDate,
    InSequence,
    InUids,
    IsRecent,
    Larger,
    ModSeqSince,
    Not,
    Or,
    SearchKey,
    Smaller,
    keys_of,
)
from posthouse.services.mailbox import flag_words
from posthouse.services.mailbox.judging import Judging, Level, level_of
from posthouse.services.mailbox.view import SelectedView
from posthouse.store import uidset
from posthouse.store.catalogue import Letters
from posthouse.store.flags import unpack_keywords
from posthouse.store.messages import unique_id
from posthouse.store.uidset import Ranges


class Program:
    """One search over `letters`, which the client of `view` all knows."""

    def __init__(self, key: SearchKey, letters: Letters, view: SelectedView, now: float) -> None:
        self._key = key
        self._letters = letters
        self._view = view
        self._count = len(letters)
        self._every = int.from_bytes(b"\1" * self._count, "little")
        self._marks: dict[SearchKey, bytes] = {}
        self.levels = sorted({level_of(each) for each in keys_of(key)} - {Level.ARRAYS})
        self.judge = Judging(self._marks_of, now).judge(key)  # whether a letter is found; None: more has to be read

    # --- all letters together -------------------------------------------------------------------------

    def at_once(self) -> tuple[bytearray, array[int]]:
        """(1 for each letter that is found for certain, indexes of those that need a look)."""
        found, possible = self._bounds(self._key)
        marks = bytearray(found.to_bytes(self._count, "little"))
        open_ = (found ^ possible).to_bytes(self._count, "little")
        return marks, array("I", compress(range(self._count), open_))

    def _bounds(self, key: SearchKey) -> tuple[int, int]:
        """(surely, possibly); the first is part of the second."""
        match key:
            case Not(inner):
                surely, possibly = self._bounds(inner)
                return self._every ^ possibly, self._every ^ surely
            case And(keys):
                surely, possibly = self._every, self._every
                for each in keys:
                    one, other = self._bounds(each)
                    surely, possibly = surely & one, possibly & other
                return surely, possibly
            case Or(first, second):
                left, right = self._bounds(first), self._bounds(second)
                return left[0] | right[0], left[1] | right[1]
            case _:
                if level_of(key) is not Level.ARRAYS:
                    return 0, self._every
                marks = int.from_bytes(self._marks_of(key), "little")
                return marks, marks

    def _marks_of(self, key: SearchKey) -> bytes:
        marks = self._marks.get(key)
        if marks is None:
            marks = self._marks[key] = self._told_by_arrays(key)
        return marks

    def _told_by_arrays(self, key: SearchKey) -> bytes:
        letters = self._letters
        match key:
            case All() | HasSaveDate():
                return b"\1" * self._count
            case HasFlag(flag):
                return self._flagged(flag)
            case IsRecent():
                return self._at(self._view.recent)
            case Larger(octets):
                return bytes(map(octets.__lt__, letters.sizes))
            case Smaller(octets):
                return bytes(map(octets.__gt__, letters.sizes))
            case ModSeqSince(minimum):
                return bytes(map(minimum.__le__, letters.modseqs))
            case EmailIdIs(value):
                return self._with_id(value)
            case InSequence(numbers):
                return self._at(uidset.from_uids(self._view.by_numbers(numbers)))
            case InUids(numbers):
                return self._at(uidset.from_uids(self._view.by_uids(numbers)))
            case _:
                raise AssertionError(key)  # level_of knows better

    def _with_id(self, value: str) -> bytes:
        marks = bytearray(self._count)
        email = _email(value)
        place = -1
        with suppress(ValueError):  # there is no other; one letter may lie in a mailbox twice
            while email is not None:
                place = self._letters.emails.index(email, place + 1)
                marks[place] = 1
        return bytes(marks)

    def _flagged(self, flag: str) -> bytes:
        bit = flag_words.bit(flag)
        if bit is not None:
            return self._letters.flags.tobytes().translate(bytes(bool(octet & bit) for octet in range(256)))
        has = [flag.lower() in unpack_keywords(text) for text in self._letters.texts]
        return bytes(map(has.__getitem__, self._letters.keywords)) if any(has) else bytes(self._count)

    def _at(self, uids: Ranges) -> bytes:
        marks = bytearray(self._count)
        for first, last in uids:
            start = bisect_left(self._letters.uids, first)
            end = bisect_right(self._letters.uids, last, start)
            marks[start:end] = b"\1" * (end - start)
        return bytes(marks)


def _email(value: str) -> int | None:
    """What `unique_id` made this of; None: it made no such thing."""
    try:
        email = int(value[1:17], 16)
    except ValueError:
        return None
    return email if unique_id(email) == value else None
