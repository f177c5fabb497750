# SPDX-License-Identifier: Apache-2.0
"""Answers of DNS for as long as they are good, by the clock that is given.

Invariant: no more than MAX_ENTRIES answers, none older than its time; one that says "nothing there" is kept
like any other (RFC 2308).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Seconds. A TTL of days is a slip of somebody's pen as often as a wish, and mail moves when its records do.
MAX_TTL = 24 * 3600.0
# RFC 2308 §5: negative answers for "one to three hours" at most. A sender who mends his records is impatient.
MAX_NEGATIVE_TTL = 3600.0
# A TTL of 0 still serves the letters that are being routed at this moment.
MIN_TTL = 1.0
# RFC 2308 §7.1 allows 5 minutes for failures. Long enough to spare a dead server a query per letter, short
# enough that the first attempt after it is back finds it.
FAULT_TTL = 5.0
# About 500 octets each.
MAX_ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class Found:
    """Records, as the resolver's methods return them; empty: the name has none of that type. `is_authentic`: validated
    by a resolver that is trusted; `name`: where they lie, at the end of aliases."""

    records: tuple[Any, ...]
    is_authentic: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """NXDOMAIN."""


@dataclass(frozen=True, slots=True)
class Faulty:
    """Nothing is known; `reason` says why."""

    reason: str


Answer = Found | Missing | Faulty


def lifetime(answer: Answer, ttl: float) -> float:
    """How long an answer is kept, seconds, by the TTL that came with it."""
    match answer:
        case Faulty():
            return FAULT_TTL
        case Found(records=()) | Missing():
            return min(max(ttl, MIN_TTL), MAX_NEGATIVE_TTL)
        case Found():
            return min(max(ttl, MIN_TTL), MAX_TTL)


class DnsCache:
    """Least recently used goes first when it is full. `now` gives monotonic seconds."""

    def __init__(self, now: Callable[[], float], *, max_entries: int = MAX_ENTRIES) -> None:
        self._now = now
        self._max_entries = max_entries
        self._entries: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: tuple[str, str]) -> Answer | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._now():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: tuple[str, str], answer: Answer, ttl: float) -> None:
        self._entries[key] = (self._now() + lifetime(answer, ttl), answer)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()
