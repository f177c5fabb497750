# SPDX-License-Identifier: Apache-2.0
"""Dates of header fields: printed exactly, read tolerantly."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.dates import Date, format_date, format_for_people, parse_date
from tests.mail.data import DATA

# The set reads these from a guess: a month as number, a Received clause, a list of numbers, an open comment.
GUESSES = ("20 11 (some", " 4 8 15 16", "by 2002:aa7", "Tue, 1 Jul 2003 ((invalid)")


def test_prints_as_the_rfc_shows_it() -> None:
    """RFC 5322 §3.3."""
    assert format_date(1057049557, 120) == "Tue, 01 Jul 2003 10:52:37 +0200"
    assert format_date(0) == "Thu, 01 Jan 1970 00:00:00 +0000"
    assert format_date(-26854.5, -210) == "Wed, 31 Dec 1969 13:02:25 -0330"


def test_people_read_dates_in_their_own_form() -> None:
    assert format_for_people(1057049557, 120, "zh") == "2003-07-01 10:52:37 +0200"
    assert format_for_people(1057049557, 120, "en") == "Tue, 01 Jul 2003 10:52:37 +0200"


@pytest.mark.parametrize(
    "case", json.loads((DATA / "mime/fields/date.json").read_bytes()), ids=lambda c: c["header"][:20]
)
def test_reads_the_dates_of_the_data_set(case: dict[str, object]) -> None:
    header, expected = str(case["header"]), case["expected"]
    if header.startswith(GUESSES):
        pytest.skip("no date by any grammar; the set's result is a guess")
    found = parse_date(header.replace("\n", "\r\n"))
    if expected is None:
        assert found is None
        return
    assert isinstance(expected, dict)
    minutes = expected["tz_hour"] * 60 + expected["tz_minute"]
    minutes = -minutes if expected["tz_before_gmt"] else minutes
    parts = [expected[name] for name in ("year", "month", "day", "hour", "minute", "second")]
    moment = datetime(*parts, tzinfo=timezone(timedelta(minutes=minutes)))
    assert found == Date(int(moment.timestamp()), minutes)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Tue Jul  1 08:52:37 2003", 1057049557),  # asctime
        ("Tue, 1 Jul 03 08:52:37", 1057049557),
        ("Tue, 1 Jul 103 08:52:37 GMT", 1057049557),
        ("1-Jul-2003 10:52:37 +02:00", 1057049557),
        ("Tue, 30 Jun 2015 23:59:60 +0000", 1435708799),  # a leap second
        ("Tue, 32 Jul 2003 08:52:37 +0000", None),
        ("Tue, 1 Jul 2003 25:52:37 +0000", None),
        ("", None),
        ("(" * 300, None),
    ],
)
def test_odd_dates(text: str, seconds: int | None) -> None:
    found = parse_date(text)
    assert (found and found.seconds) == seconds


@given(st.integers(-60_000_000_000, 250_000_000_000), st.integers(-14 * 60, 14 * 60))
def test_what_is_printed_is_read_again(seconds: int, zone: int) -> None:
    text = format_date(seconds, zone)
    if int(text.split(" ")[3]) >= 1000:  # years of fewer digits mean others (RFC 5322 §4.3)
        assert parse_date(text) == Date(seconds, zone)


@given(st.text(max_size=60))
def test_reading_never_fails(text: str) -> None:
    parse_date(text)
    parse_date("Tue, " + text)
    parse_date(text.encode("utf-8", "replace"))
