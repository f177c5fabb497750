# SPDX-License-Identifier: Apache-2.0
"""Choices drawn from the end of an input, so that its beginning stays what it looks like: a dialogue, a header.

Invariant: the same octets give the same choices; an input that has none left gives zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from random import Random


class Choices:
    """Takes octets from the tail of `data`; `rest` is what nobody took."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._end = len(data)

    def number(self, below: int) -> int:
        """An integer from 0 up to but not including `below` (at most 65536)."""
        value = self._octet()
        if below > 256:
            value = value << 8 | self._octet()
        return value % below

    def _octet(self) -> int:
        if self._end == 0:
            return 0
        self._end -= 1
        return self._data[self._end]

    def flag(self) -> bool:
        return bool(self._octet() & 1)

    def chance(self) -> Random:
        """More chance than the input has octets for: where to cut a stream, mostly."""
        return Random(self._octet() << 8 | self._octet())

    def octets(self, at_most: int) -> bytes:
        """Up to `at_most` octets, how many is drawn as well."""
        size = min(self.number(at_most + 1), self._end)
        self._end -= size
        return self._data[self._end : self._end + size]

    def text(self, at_most: int) -> str:
        return self.octets(at_most).decode("utf-8", "replace")

    @property
    def rest(self) -> bytes:
        return self._data[: self._end]


_EVEN: ContextVar[int] = ContextVar("even", default=0)


@contextmanager
def even_pieces(size: int) -> Iterator[None]:
    """Within this, every stream is cut into pieces of this many octets: for counts that are to be compared."""
    token = _EVEN.set(size)
    try:
        yield
    finally:
        _EVEN.reset(token)


def pieces(octets: bytes, chance: Random) -> list[bytes]:
    """The octets in pieces as a network might cut them: all at once, one by one, or anything between."""
    if size := _EVEN.get():
        return [octets[at : at + size] for at in range(0, len(octets), size)]
    manner = chance.randrange(8)
    if manner == 0 or not octets:
        return [octets] if octets else []
    if manner == 1 and len(octets) <= 4096:
        return [octets[at : at + 1] for at in range(len(octets))]
    largest = chance.choice((3, 17, 300, 5000))
    cut: list[bytes] = []
    at = 0
    while at < len(octets):
        size = chance.randint(1, largest)
        cut.append(octets[at : at + size])
        at += size
    return cut
