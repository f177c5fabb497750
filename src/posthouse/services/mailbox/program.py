# SPDX-License-Identifier: Apache-2.0
r"""A search program over the letters of a mailbox: what can be told at once, and what needs a look at each letter.

Invariant: a letter is only called found or not found when that is certain; what has not been read is neither. Flags,
sizes, numbers and mod-sequences are told for all letters together, from the arrays: a set of letters is one integer
with an octet for each, so that AND, OR and NOT of a hundred thousand letters are one operation.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import compress
from typing import assert_never

from posthouse.mail.dates import parse_date
from posthouse.mail.header import ENVELOPE_FIELDS, scan_header, unfold
from posthouse.mail.needle import Needle
from posthouse.mail.search import (
    All,
    And,
    DateIs,
    DateKind,
    EmailIdIs,
    HasFlag,
    HasSaveDate,
    InAddress,
    InBody,
    InHeader,
    InSequence,
    InSubject,
    InText,
    InUids,
    IsRecent,
    Larger,
    ModSeqSince,
    Not,
    Older,
    Or,
    Relation,
    SearchKey,
    Smaller,
    ThreadIdIs,
    Younger,
    keys_of,
)
from posthouse.mail.structure import Part
from posthouse.services.mailbox import flag_words
from posthouse.services.mailbox.view import SelectedView
from posthouse.store import uidset
from posthouse.store.catalogue import Letters
from posthouse.store.flags import unpack_keywords
from posthouse.store.messages import thread_id, unique_id
from posthouse.store.reading import Dated
from posthouse.store.uidset import Ranges

DAY = 86_400  # seconds
_EPOCH = 719_163  # date(1970, 1, 1).toordinal()
NOTHING = memoryview(b"")
# Octets of a letter of which most are not text: its texts alone are looked at, by their places.
LARGE = 256 * 1024


class Level(IntEnum):
    """What has to be read of a letter to tell a key, each dearer than the one before."""

    ARRAYS = 0
    DATES = 1
    SUMMARY = 2
    HEADER = 3
    BODY = 4


@dataclass(slots=True)
class Facts:
    """What was read of one letter so far: all up to `level`. `header`: the whole of it, this recipient's own fields
    first. `structure`: of `content`, which is the letter without them; its body begins at `body`."""

    index: int
    level: Level = Level.ARRAYS
    dated: Dated | None = None
    summary: dict[bytes, bytes | None] | None = None
    header: bytes = b""
    content: memoryview = NOTHING
    body: int = 0
    structure: Callable[[], Part] | None = None


def level_of(key: SearchKey) -> Level:
    """Of one key alone; AND, OR and NOT need nothing of their own."""
    match key:
        case DateIs():
            return Level.SUMMARY if key.kind is DateKind.SENT else Level.DATES
        case Older() | Younger() | ThreadIdIs():
            return Level.DATES
        case InAddress() | InSubject():
            return Level.SUMMARY
        case InHeader():
            return Level.SUMMARY if _field(key) in ENVELOPE_FIELDS else Level.HEADER
        case InBody() | InText():
            return Level.BODY
        case _:
            return Level.ARRAYS


def _field(key: InHeader) -> bytes:
    return key.name.lower().encode("utf-8", "replace")


class Program:
    """One search over `letters`, which the client of `view` all knows."""

    def __init__(self, key: SearchKey, letters: Letters, view: SelectedView, now: float) -> None:
        self._key = key
        self._letters = letters
        self._view = view
        self._now = now
        self._count = len(letters)
        self._every = int.from_bytes(b"\1" * self._count, "little")
        self._marks: dict[SearchKey, bytes] = {}
        self._needles: dict[str, Needle] = {}
        self.levels = sorted({level_of(each) for each in keys_of(key)} - {Level.ARRAYS})

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
                return bytes(unique_id(email) == value for email in letters.emails)
            case InSequence(numbers):
                return self._at(uidset.from_uids(self._view.by_numbers(numbers)))
            case InUids(numbers):
                return self._at(uidset.from_uids(self._view.by_uids(numbers)))
            case _:
                raise AssertionError(key)  # level_of knows better

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

    # --- one letter -----------------------------------------------------------------------------------

    def judge(self, facts: Facts) -> bool | None:
        """Whether this letter is found; None: more has to be read."""
        return self._judge(self._key, facts)

    def _judge(self, key: SearchKey, facts: Facts) -> bool | None:
        match key:
            case Not(inner):
                is_found = self._judge(inner, facts)
                return None if is_found is None else not is_found
            case And(keys):
                return _all(self._judge(each, facts) for each in keys)
            case Or(first, second):
                # By De Morgan, so that one of them is enough.
                neither = _all(_negated(self._judge(each, facts)) for each in (first, second))
                return _negated(neither)
            case _:
                level = level_of(key)
                if level is Level.ARRAYS:
                    return bool(self._marks_of(key)[facts.index])
                return self._told_by(key, facts) if facts.level >= level else None

    def _told_by(self, key: SearchKey, facts: Facts) -> bool:
        match key:
            case DateIs() if key.kind is DateKind.SENT:
                return _is_day(key, _day_sent(facts))
            case DateIs() | Older() | Younger() | ThreadIdIs():
                return facts.dated is not None and self._told_by_dates(key, facts.dated)
            case InAddress(field, text):
                return self._is_in(text, _values(facts, field.value.lower().encode()))
            case InSubject(text):
                return self._is_in(text, _values(facts, b"subject"))
            case InHeader(_, text):
                return self._is_in(text, _values(facts, _field(key)))
            case InBody(text):
                return self._is_in_letter(text, facts, with_header=False)
            case InText(text):
                return self._is_in_letter(text, facts, with_header=True)
            case _:
                raise AssertionError(key)  # level_of knows better

    def _told_by_dates(self, key: DateIs | Older | Younger | ThreadIdIs, dated: Dated) -> bool:
        match key:
            case DateIs():
                moment = dated.saved_at if key.kind is DateKind.SAVED else dated.received_at
                return _is_day(key, int(moment // DAY) + _EPOCH)  # as FETCH shows it, in UTC
            case Older(seconds):
                return dated.received_at <= self._now - seconds
            case Younger(seconds):
                return dated.received_at >= self._now - seconds
            case ThreadIdIs(value):
                return thread_id(dated.thread) == value
            case _:
                assert_never(key)

    def _is_in(self, text: str, values: Iterable[bytes]) -> bool:
        needle = self._needle(text)
        return any(needle.is_in_value(value) for value in values)

    def _is_in_letter(self, text: str, facts: Facts, *, with_header: bool) -> bool:
        needle = self._needle(text)
        if with_header and needle.is_in_header(facts.header):
            return True
        if facts.structure is None:
            return False
        size = len(facts.content)
        if size <= LARGE and needle.cannot_be_in(facts.header.lower(), bytes(facts.content[facts.body :]).lower()):
            return False
        return needle.is_in_body(facts.structure(), facts.content)

    def _needle(self, text: str) -> Needle:
        needle = self._needles.get(text)
        if needle is None:
            needle = self._needles[text] = Needle(text)
        return needle


def _negated(value: bool | None) -> bool | None:
    return None if value is None else not value


def _all(values: Iterable[bool | None]) -> bool | None:
    """False as soon as one is; unknown where none is and one is unknown."""
    result: bool | None = True
    for value in values:
        if value is False:
            return False
        if value is None:
            result = None
    return result


def _values(facts: Facts, field: bytes) -> Sequence[bytes]:
    """Of the fields of this name. What ENVELOPE tells is known from the summary."""
    if field in ENVELOPE_FIELDS:
        value = (facts.summary or {}).get(field)
        return () if value is None else (value,)
    if field not in facts.header.lower():  # most letters have no such field
        return ()
    return [unfold(value) for value in scan_header(facts.header).raw(field)]


def _day_sent(facts: Facts) -> int | None:
    """The day in the Date field, as its author had it: time and zone are disregarded (RFC 9051 §6.4.4)."""
    value = (facts.summary or {}).get(b"date")
    date = parse_date(value) if value else None
    return None if date is None else (date.seconds + date.zone_minutes * 60) // DAY + _EPOCH


def _is_day(key: DateIs, day: int | None) -> bool:
    """A letter without a day is on none, before none and since none."""
    if day is None:
        return False
    wanted = key.day.toordinal()
    match key.relation:
        case Relation.BEFORE:
            return day < wanted
        case Relation.ON:
            return day == wanted
        case Relation.SINCE:
            return day >= wanted
