# SPDX-License-Identifier: Apache-2.0
"""Sets of UIDs as ranges: what statements take, what the journal keeps, what clients are told.

A `Ranges` is always sorted, without overlaps and without neighbours that could be one range. Its text is the
sequence set of RFC 9051 §9 (`1:4,7`), so the journal can be read by people and sent to clients as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

Ranges = tuple[tuple[int, int], ...]

MAX_UID = 0xFFFF_FFFF  # RFC 9051 §2.3.1.1: UIDs are 32-bit
EVERY_UID: Ranges = ((1, MAX_UID),)


def from_uids(uids: Iterable[int]) -> Ranges:
    """Ranges over single UIDs in any order, with or without repetition."""
    ordered = sorted(set(uids))
    if not ordered:
        return ()
    if ordered[-1] - ordered[0] + 1 == len(ordered):  # one run: what a client does to 1:* is never looked at one by one
        return ((ordered[0], ordered[-1]),)
    found: list[tuple[int, int]] = []
    first = last = ordered[0]
    for uid in ordered[1:]:
        if uid != last + 1:
            found.append((first, last))
            first = uid
        last = uid
    found.append((first, last))
    return tuple(found)


def from_ranges(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Put ranges in any order, overlapping or reversed (`4:1`), in order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted((min(pair), max(pair)) for pair in ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def below(ranges: Ranges, limit: int) -> Ranges:
    """The part of the set that is less than `limit` (a mailbox's UIDNEXT: later arrivals are not meant)."""
    return tuple((first, min(last, limit - 1)) for first, last in ranges if first < limit)


def parts(ranges: Ranges, limit: int) -> Iterator[Ranges]:
    """The set in parts of at most so many UIDs each, growing."""
    part: list[tuple[int, int]] = []
    room = limit
    for first, last in ranges:
        begin = first
        while last - begin >= room:
            part.append((begin, begin + room - 1))
            yield tuple(part)
            begin, part, room = begin + room, [], limit
        if begin <= last:
            part.append((begin, last))
            room -= last - begin + 1
    if part:
        yield tuple(part)


def size(ranges: Ranges) -> int:
    return sum(last - first + 1 for first, last in ranges)


def expand(ranges: Ranges) -> list[int]:
    """Every UID, growing. For sets of UIDs that exist; never for `1:*` as a client said it."""
    return [uid for first, last in ranges for uid in range(first, last + 1)]


def to_text(ranges: Ranges) -> str:
    return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in ranges)


def from_text(text: str) -> Ranges:
    """Read what `to_text` wrote."""
    if not text:
        return ()
    pairs: list[tuple[int, int]] = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        pairs.append((int(first), int(last or first)))
    return tuple(pairs)


def merged(sets: Sequence[Ranges]) -> Ranges:
    """The union."""
    return from_ranges(pair for ranges in sets for pair in ranges)


def intersection(ranges: Ranges, others: Ranges) -> Ranges:
    """What is in both."""
    found: list[tuple[int, int]] = []
    one = other = 0
    while one < len(ranges) and other < len(others):
        first = max(ranges[one][0], others[other][0])
        last = min(ranges[one][1], others[other][1])
        if first <= last:
            found.append((first, last))
        if ranges[one][1] < others[other][1]:
            one += 1
        else:
            other += 1
    return tuple(found)


def difference(ranges: Ranges, without: Ranges) -> Ranges:
    """What is in the first set alone."""
    found: list[tuple[int, int]] = []
    index = 0
    for first, last in ranges:
        begin = first
        while index < len(without) and without[index][1] < begin:
            index += 1
        here = index
        while here < len(without) and without[here][0] <= last:
            if begin < without[here][0]:
                found.append((begin, without[here][0] - 1))
            begin = without[here][1] + 1
            here += 1
        if begin <= last:
            found.append((begin, last))
    return tuple(found)
