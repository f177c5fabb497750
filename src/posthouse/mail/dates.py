# SPDX-License-Identifier: Apache-2.0
"""Dates of header fields (RFC 5322 §3.3), printed from and read into seconds since the epoch. No clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import NamedTuple

MAX_DATE = 256  # characters looked at; a date with every comment ever seen stays under 100
_MAX_ZONE = 23 * 60 + 59  # minutes; what datetime can hold, more than any zone on earth

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBER = {name.lower(): number for number, name in enumerate(MONTHS, 1)}

# RFC 5322 §4.3: the zone names that ever meant something. Military letters are -0000: their sense was lost.
_ZONES = {
    "ut": 0, "gmt": 0, "utc": 0, "z": 0,
    "est": -300, "edt": -240, "cst": -360, "cdt": -300,
    "mst": -420, "mdt": -360, "pst": -480, "pdt": -420,
}  # fmt: skip

_DATE = re.compile(
    r"(?:[A-Za-z]+[.,]?\s*(?:,\s*)?)?"  # day of the week, not believed
    r"(?P<day>\d{1,2})[\s\-/]+(?P<month>[A-Za-z]{3})[A-Za-z]*\.?[\s\-/,]+(?P<year>\d{2,4})[\s,]+"
    r"(?P<hour>\d{1,2})\s*[:.]\s*(?P<minute>\d{1,2})(?:\s*[:.]\s*(?P<second>\d{1,2})(?:[.,]\d+)?)?"
    r"\s*(?P<zone>[+\-]\s*\d{1,2}:?\d{2}|[A-Za-z]+(?:[+\-]\d{1,2}:?\d{2})?)?"
)
# asctime, seen from old programs: Tue Jul  1 10:52:37 2003
_ASCTIME = re.compile(
    r"[A-Za-z]+[.,]?\s+(?P<month>[A-Za-z]{3})[A-Za-z]*\s+(?P<day>\d{1,2}),?\s+"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{1,2})(?::(?P<second>\d{1,2}))?\s+"
    r"(?:(?P<zone>[A-Za-z]+|[+\-]\d{4})\s+)?(?P<year>\d{4})(?:\s+(?P<late_zone>[+\-]\d{4}))?"
)
_OFFSET = re.compile(r"([+\-])(\d{1,2})(\d{2})$")
_COMMENT = re.compile(r"\([^()]*\)")


class Date(NamedTuple):
    """A moment as a sender wrote it: seconds since the epoch, and the zone in minutes east of UTC."""

    seconds: int
    zone_minutes: int


@lru_cache(maxsize=64)
def _zone(minutes: int) -> timezone:
    return timezone(timedelta(minutes=max(-_MAX_ZONE, min(_MAX_ZONE, minutes))))


def format_date(seconds: float, zone_minutes: int = 0) -> str:
    """`Tue, 01 Jul 2003 10:52:37 +0200` for a zone in minutes east of UTC (RFC 5322 §3.3).

    Raises ValueError or OverflowError outside the years 1 to 9999.
    """
    moment = datetime.fromtimestamp(seconds, UTC if not zone_minutes else _zone(zone_minutes))
    sign, away = ("-", -zone_minutes) if zone_minutes < 0 else ("+", zone_minutes)
    return (
        f"{DAYS[moment.weekday()]}, {moment.day:02} {MONTHS[moment.month - 1]} {moment.year:04} "
        f"{moment.hour:02}:{moment.minute:02}:{moment.second:02} {sign}{away // 60:02}{away % 60:02}"
    )


def format_for_people(seconds: float, zone_minutes: int, language: str) -> str:
    """The date as readers of a language write it: `2003-07-01 10:52:37 +0200` for `zh`, RFC 5322 for others."""
    text = format_date(seconds, zone_minutes)
    if language != "zh":
        return text
    _, day, month, year, clock, zone = text.split(" ")
    return f"{year}-{MONTHS.index(month) + 1:02}-{day} {clock} {zone}"


def parse_date(value: str | bytes) -> Date | None:
    """Read a date, obsolete and slightly wrong forms included; None where no moment can be made of it.

    Two- and three-digit years are as RFC 5322 §4.3 says, an unknown zone counts as UTC, a leap second as :59.
    """
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    text = _without_comments(text[:MAX_DATE])
    match = _DATE.match(text) or _ASCTIME.match(text)
    if match is None:
        return None
    parts = match.groupdict()
    month = _MONTH_NUMBER.get(parts["month"].lower())
    if month is None:
        return None
    zone = _zone_minutes(parts["zone"] or parts.get("late_zone") or "")
    try:
        moment = datetime(
            _year(parts["year"]),
            month,
            int(parts["day"]),
            int(parts["hour"]),
            int(parts["minute"]),
            min(int(parts["second"] or 0), 59) if int(parts["second"] or 0) <= 60 else 60,
            tzinfo=_zone(zone),
        )
        return Date(int(moment.timestamp()), zone)
    except (ValueError, OverflowError):
        return None


def _without_comments(text: str) -> str:
    while True:  # ends: every round takes at least two characters away
        shorter = _COMMENT.sub(" ", text)
        if shorter == text:
            return text.strip()
        text = shorter


def _year(digits: str) -> int:
    year = int(digits)
    if len(digits) == 2:
        return year + (2000 if year < 50 else 1900)
    if len(digits) == 3:
        return year + 1900
    return year


def _zone_minutes(text: str) -> int:
    text = text.replace(" ", "").replace(":", "").lower()
    numeric = _OFFSET.search(text)
    if numeric is None:
        return _ZONES.get(text, 0)
    hours, minutes = int(numeric[2]), int(numeric[3])
    if hours > 23 or minutes > 59:
        return 0
    away = hours * 60 + minutes
    return -away if numeric[1] == "-" else away
