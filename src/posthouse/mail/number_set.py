# SPDX-License-Identifier: Apache-2.0
"""NumberSet: a sequence-set as a client says it (RFC 9051 §9): numbers and ranges, `*`, and `$` for what was saved.

Invariant: the ranges stand as they were said, in their order, so that pairs of sets can be matched (RFC 7162
§3.2.5.2); `resolved` makes them ascending and disjoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import eq

STAR = 0  # stands for `*`: no message has this number, and no UID is 0 (RFC 9051 §2.3.1)

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class NumberSet:
    """`has_saved`: `$` was said, alone or beside the ranges: the saved result belongs to the set (RFC 5182 §2.1)."""

    ranges: Ranges
    has_saved: bool = False

    @property
    def has_star(self) -> bool:
        return any(STAR in pair for pair in self.ranges)

    @property
    def highest(self) -> int:
        """The largest number that was said; 0 where there is none."""
        return max((max(pair) for pair in self.ranges), default=0)

    def resolved(self, largest: int) -> Ranges:
        """Ascending, disjoint, each (first, last); `*` is `largest`. What `$` adds is the caller's to add."""
        found: list[tuple[int, int]] = []
        for first, last in self.ranges:
            low, high = first or largest, last or largest
            found.append((low, high) if low <= high else (high, low))
        return merged(found)

    def __str__(self) -> str:
        words = [
            _number(first) if first == last else f"{_number(first)}:{_number(last)}" for first, last in self.ranges
        ]
        if self.has_saved:
            words.append("$")
        return ",".join(words)


def _number(value: int) -> str:
    return "*" if value == STAR else str(value)


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges (first, last) in any order: ascending, with neighbours and overlaps joined."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            if last > found[-1][1]:
                found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return tuple(found)


def ranges_of(numbers: Sequence[int]) -> Ranges:
    """Runs in a row of numbers, in the order of the row: 5, 1, 2, 3 has the runs 5 and 1:3."""
    count = len(numbers)
    if count and numbers[-1] - numbers[0] == count - 1:
        run = range(numbers[0], numbers[0] + count)
        if all(map(eq, numbers, run)):  # a whole mailbox is not gone through one by one
            return ((run[0], run[-1]),)
    found: list[tuple[int, int]] = []
    first = last = -1
    for number in numbers:
        if number == last + 1 and first >= 0:
            last = number
            continue
        if first >= 0:
            found.append((first, last))
        first = last = number
    if first >= 0:
        found.append((first, last))
    return tuple(found)
