# SPDX-License-Identifier: Apache-2.0
"""Properties of the engines (Hypothesis): whatever is said, in whatever pieces."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest
from fuzz.targets import imap_both
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.mail.number_set import STAR, NumberSet, merged, ranges_of
from posthouse.mail.search import PartialRange
from posthouse.protocol.imap import events as ev
from posthouse.protocol.imap import limits
from posthouse.protocol.imap.admission import Terms
from posthouse.protocol.imap.strings import date_time
from posthouse.protocol.imap.tokens import Cursor
from tests.protocol.imap.script import Script, log_of

_WORDS = st.sampled_from(
    [
        *(b"\r\n" for _ in range(4)),
        *b"a |b |UID |FETCH 1 FLAGS|APPEND x |{3}|{3+}|~{2+}|abc|xyz| |(|)|IDLE|DONE|SEARCH TEXT |LOGIN a b".split(
            b"|"
        ),
        *b'NOOP|SELECT|"q"|*|&AOk-|CLOSE|UNAUTHENTICATE|STARTTLS|REPLACE 1 x |{70000}|{70000+}|AAAA'.split(b"|"),
        b"AUTHENTICATE PLAIN",
        b"ENABLE IMAP4rev2",
        b"\0",
        b"\n",
        b"x" * 300,
    ]
)


@given(st.lists(_WORDS, max_size=40).map(b"".join), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=200)
def test_what_is_understood_does_not_depend_on_how_it_is_cut(octets: bytes, chance: Random, is_small: bool) -> None:
    whole = Script(Terms(max_message_size=2 if is_small else 10_000), offers_tls=True).select()
    cut = Script(Terms(max_message_size=2 if is_small else 10_000), offers_tls=True).select()
    answer = whole.say(octets)
    said = b""
    position = 0
    while position < len(octets):
        size = chance.randint(1, 9)
        said += cut.say(octets[position : position + size])
        position += size
    assert said == answer
    assert log_of(cut) == log_of(whole)
    assert cut.engine.state == whole.engine.state


@given(st.binary(max_size=300))
def test_any_octets_are_answered_or_waited_for(octets: bytes) -> None:
    script = Script().log_in()
    script.say(octets)
    script.end()
    assert script.is_closed
    assert isinstance(script.events[-1], ev.Disconnected | ev.Logout | ev.CommandError)


_NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=20)


@given(st.binary(max_size=300), _NAMES, st.integers(0, 1 << 16), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_letters_and_names_arrive_both_ways(
    letter: bytes, name: str, seed: int, is_compressed: bool, is_minus: bool
) -> None:
    imap_both.converse(letter, name, Random(seed), Terms(literal_minus=is_minus), is_compressed=is_compressed)


# --- values ------------------------------------------------------------------------------------------

_NUMBER = st.integers(1, limits.MAX_NUMBER)
_END = st.one_of(st.just(STAR), _NUMBER)
_SETS = st.builds(NumberSet, st.lists(st.tuples(_END, _END), min_size=1, max_size=8).map(tuple), st.booleans())


@given(_SETS)
def test_a_set_is_read_as_it_is_written(numbers: NumberSet) -> None:
    assert Cursor(str(numbers).encode()).sequence_set() == numbers


@given(_SETS, st.integers(1, 1000))
def test_a_resolved_set_has_the_same_members(numbers: NumberSet, largest: int) -> None:
    ends = [(first or largest, last or largest) for first, last in numbers.ranges]
    wanted = {n for first, last in ends for n in range(min(first, last), min(max(first, last), 2000) + 1) if n <= 2000}
    found = numbers.resolved(largest)
    assert {n for first, last in found for n in range(first, min(last, 2000) + 1)} == wanted
    assert all(first <= last for first, last in found)
    assert all(found[at][1] + 1 < found[at + 1][0] for at in range(len(found) - 1))


@given(st.lists(st.integers(1, 50), unique=True, max_size=30))
def test_runs_of_a_row(row: list[int]) -> None:
    runs = ranges_of(row)
    assert [n for first, last in runs for n in range(first, last + 1)] == row
    assert merged(ranges_of(sorted(row))) == ranges_of(sorted(row))


def test_what_a_set_says() -> None:
    numbers = NumberSet(((4, STAR), (2, 2)), has_saved=True)
    assert (numbers.has_star, numbers.highest, str(numbers)) == (True, 4, "4:*,2,$")
    assert numbers.resolved(9) == ((2, 2), (4, 9))
    assert numbers.resolved(3) == ((2, 4),), "4:* has the last message, whatever its number"
    assert NumberSet((), has_saved=True).highest == 0


@pytest.mark.parametrize(
    ("wanted", "count", "window"),
    [
        (PartialRange(1, 500), 3, (0, 3)),
        (PartialRange(2, 2), 3, (1, 2)),
        (PartialRange(3, 2), 9, (1, 3)),
        (PartialRange(4, 9), 3, (3, 3)),
        (PartialRange(-1, -1), 3, (2, 3)),
        (PartialRange(-1, -100), 3, (0, 3)),
        (PartialRange(-2, -3), 3, (0, 2)),
        (PartialRange(-4, -9), 3, (0, 0)),
        (PartialRange(1, 5), 0, (0, 0)),
    ],
)
def test_a_window_of_a_result(wanted: PartialRange, count: int, window: tuple[int, int]) -> None:
    """RFC 9394 §3.1: positions from either side; what is not there is left out."""
    assert wanted.window(count) == window


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.integers(-14 * 60, 14 * 60),
)
def test_times_come_back(when: datetime, minutes: int) -> None:
    when = when.replace(microsecond=0)
    zoned = when.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert Cursor(date_time(zoned)).date_time().isoformat() == zoned.isoformat()
    assert Cursor(date_time(when)).date_time().isoformat() == when.isoformat()
