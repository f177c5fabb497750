# SPDX-License-Identifier: Apache-2.0
"""What a search key says of one letter, from what was read of it.

Invariant: a letter is only called found or not found when that is certain; what has not been read is neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import assert_never

from posthouse.mail.dates import parse_date
from posthouse.mail.header import ENVELOPE_FIELDS, scan_header, unfold
from posthouse.mail.needle import Needle
from posthouse.mail.search import (
    And,
    DateIs,
    DateKind,
    InAddress,
    InBody,
    InHeader,
    InSubject,
    InText,
    Not,
    Older,
    Or,
    Relation,
    SearchKey,
    ThreadIdIs,
    Younger,
)
from posthouse.mail.structure import Part
from posthouse.store.messages import thread_id
from posthouse.store.reading import Dated

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


Judge = Callable[[Facts], bool | None]  # None: more has to be read


class Judging:
    """Makes a judge of each key of a program, once: there may be a million letters. `marks_of`: what is told by the
    arrays, an octet for each letter."""

    def __init__(self, marks_of: Callable[[SearchKey], bytes], now: float) -> None:
        self._marks_of = marks_of
        self._now = now
        self._needles: dict[str, Needle] = {}

    def judge(self, key: SearchKey) -> Judge:
        match key:
            case Not(inner):
                return _negation(self.judge(inner))
            case And(keys):
                return _conjunction([self.judge(each) for each in keys])
            case Or(first, second):  # by De Morgan, so that one of them is enough
                return _negation(_conjunction([_negation(self.judge(each)) for each in (first, second)]))
            case _:
                level = level_of(key)
                if level is Level.ARRAYS:
                    marks = self._marks_of(key)
                    return lambda facts: bool(marks[facts.index])
                told = self._told_by(key)
                return lambda facts: told(facts) if facts.level >= level else None

    def _told_by(self, key: SearchKey) -> Callable[[Facts], bool]:
        match key:
            case DateIs() if key.kind is DateKind.SENT:
                return lambda facts: _is_day(key, _day_sent(facts))
            case DateIs() | Older() | Younger() | ThreadIdIs():
                return lambda facts: facts.dated is not None and self._told_by_dates(key, facts.dated)
            case InAddress(address, text):
                return self._in_field(text, address.value.lower().encode())
            case InSubject(text):
                return self._in_field(text, b"subject")
            case InHeader(_, text):
                return self._in_field(text, _field(key))
            case InBody(text):
                return _in_body(self._needle(text))
            case InText(text):
                return _in_text(self._needle(text))
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

    def _in_field(self, text: str, name: bytes) -> Callable[[Facts], bool]:
        is_in_value = self._needle(text).is_in_value
        return lambda facts: any(map(is_in_value, _values(facts, name)))

    def _needle(self, text: str) -> Needle:
        needle = self._needles.get(text)
        if needle is None:
            needle = self._needles[text] = Needle(text)
        return needle


def _in_text(needle: Needle) -> Callable[[Facts], bool]:
    is_in_body = _in_body(needle)
    return lambda facts: needle.is_in_header(facts.header) or is_in_body(facts)


def _in_body(needle: Needle) -> Callable[[Facts], bool]:
    def is_in_body(facts: Facts) -> bool:
        if facts.structure is None:
            return False
        content = facts.content
        is_small = len(content) <= LARGE
        if is_small and needle.cannot_be_in(facts.header.lower(), bytes(content[facts.body :])):
            return False
        return needle.is_in_body(facts.structure(), content)

    return is_in_body


def _negation(judge: Judge) -> Judge:
    def negated(facts: Facts) -> bool | None:
        is_found = judge(facts)
        return None if is_found is None else not is_found

    return negated


def _conjunction(judges: Iterable[Judge]) -> Judge:
    """False as soon as one is; unknown where none is and one is unknown."""
    every = tuple(judges)

    def all_of(facts: Facts) -> bool | None:
        result: bool | None = True
        for judge in every:
            is_found = judge(facts)
            if is_found is False:
                return False
            if is_found is None:
                result = None
        return result

    return all_of


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
