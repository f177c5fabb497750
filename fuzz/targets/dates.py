# SPDX-License-Identifier: Apache-2.0
"""Dates: a moment or None, and what was read is written so that it reads the same."""

from __future__ import annotations

from posthouse.mail.dates import format_date, format_for_people, parse_date

DICTIONARY = "date.dict"
MAX_SIZE = 400


def target(data: bytes) -> None:
    parse_date(data.decode("utf-8", "replace"))
    date = parse_date(data)
    if date is None:
        return
    try:
        text = format_date(date.seconds, date.zone_minutes)
    except (ValueError, OverflowError):
        return  # outside the years 1 to 9999 in that zone
    assert parse_date(text) == date, "a date changes when it is written and read"
    format_for_people(date.seconds, date.zone_minutes, "zh")
