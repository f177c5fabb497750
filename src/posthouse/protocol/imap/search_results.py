# SPDX-License-Identifier: Apache-2.0
"""Answers to SEARCH, SORT and THREAD: SEARCH, ESEARCH, SORT and THREAD responses (RFC 9051 §7.3.4, RFC 5256 §4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from posthouse.mail.number_set import ranges_of
from posthouse.mail.search import PartialRange, ReturnOption
from posthouse.protocol.imap.strings import ranges_text, string


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: numbers or UIDs in the order of the answer (ascending, or sorted).

    `modseq`: the highest of what is told, where MODSEQ was searched for (RFC 7162 §3.1.5).
    """

    numbers: Sequence[int]
    modseq: int | None = None


def search(found: Found) -> bytes:
    return _plain(b"* SEARCH", found)


def sort(found: Found) -> bytes:
    return _plain(b"* SORT", found)


def _plain(word: bytes, found: Found) -> bytes:
    line = b" ".join((word, *map(b"%d".__mod__, found.numbers)))
    # RFC 7162 §7: nothing stands behind an empty result.
    if found.modseq is not None and found.numbers:
        line += b" (MODSEQ %d)" % found.modseq
    return line + b"\r\n"


def thread(threads: str) -> bytes:
    """`threads`: the parentheses of thread-list; "" where nothing was found."""
    return f"* THREAD {threads}\r\n".encode("ascii") if threads else b"* THREAD\r\n"


def esearch(
    tag: str,
    found: Found,
    returns: Iterable[ReturnOption],
    *,
    is_uid: bool,
    partial: PartialRange | None = None,
) -> bytes:
    """MIN and MAX are the least and greatest of a search, the first and last of a sort (RFC 5267 §3)."""
    numbers, options = found.numbers, frozenset(returns)
    words = [b"* ESEARCH (TAG %b)" % string(tag.encode("ascii"))]
    if is_uid:
        words.append(b"UID")
    if numbers and ReturnOption.MIN in options:
        words.append(b"MIN %d" % numbers[0])
    if numbers and ReturnOption.MAX in options:
        words.append(b"MAX %d" % numbers[-1])
    if ReturnOption.COUNT in options:
        words.append(b"COUNT %d" % len(numbers))
    if numbers and ReturnOption.ALL in options:
        words.append(b"ALL %b" % ranges_text(ranges_of(numbers)))
    if partial is not None:
        start, stop = partial.window(len(numbers))
        window = numbers[start:stop]
        said = f"{partial.first}:{partial.last}".encode("ascii")
        words.append(b"PARTIAL (%b %b)" % (said, ranges_text(ranges_of(window)) or b"NIL"))
    if found.modseq is not None and numbers:
        words.append(b"MODSEQ %d" % found.modseq)
    return b" ".join(words) + b"\r\n"
