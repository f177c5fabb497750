# SPDX-License-Identifier: Apache-2.0
"""Mutations without any help: seeded, so that a number is enough to make an input again.

Invariant: the same seed, corpus and words give the same inputs on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

# Octets that mean something to some parser here, and those at the edges of their ranges.
_TELLING = b'\r\n\0\t .:;,<>@"\\()[]{}=?&+-*/%_0159azAZ\x7f\x80\xbf\xc3\xed\xf0\xff'
_TELLING_RUNS = (
    b"\r\n",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r\n ",
    b"\r\n\r\n",
    b"\xc3\xa9",
    b"\xf0\x9f\x93\xae",
    b"\xed\xa0\x80",
)
_MOST_STEPS = 6  # mutations of one input

Step = Callable[[bytearray, Random, Sequence[bytes], Sequence[bytes]], None]


def _span(octets: bytearray, chance: Random) -> tuple[int, int]:
    start = chance.randrange(len(octets) + 1)
    return start, min(len(octets), start + chance.choice((1, 2, 4, 16, 64)))


def _replace(octets: bytearray, chance: Random, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> None:
    if octets:
        octets[chance.randrange(len(octets))] = chance.choice(_TELLING)


def _flip(octets: bytearray, chance: Random, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> None:
    if octets:
        octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)


def _insert(octets: bytearray, chance: Random, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> None:
    at = chance.randrange(len(octets) + 1)
    octets[at:at] = chance.choice(_TELLING_RUNS) if chance.random() < 0.4 else bytes((chance.choice(_TELLING),))


def _delete(octets: bytearray, chance: Random, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> None:
    start, end = _span(octets, chance)
    del octets[start:end]


def _repeat(octets: bytearray, chance: Random, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> None:
    start, end = _span(octets, chance)
    octets[start:start] = octets[start:end] * chance.choice((1, 2, 7, 40))


def _move(octets: bytearray, chance: Random, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> None:
    start, end = _span(octets, chance)
    part = octets[start:end]
    del octets[start:end]
    at = chance.randrange(len(octets) + 1)
    octets[at:at] = part


def _word(octets: bytearray, chance: Random, _seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    if words:
        start, end = _span(octets, chance)
        octets[start : end if chance.random() < 0.5 else start] = chance.choice(words)


def _splice(octets: bytearray, chance: Random, seeds: Sequence[bytes], _words: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    start = chance.randrange(len(other) + 1)
    at = chance.randrange(len(octets) + 1)
    octets[at:] = other[start:]


_STEPS: tuple[Step, ...] = (_replace, _flip, _insert, _insert, _delete, _repeat, _move, _word, _word, _word, _splice)


def mutated(seeds: Sequence[bytes], words: Sequence[bytes], chance: Random, max_size: int) -> bytes:
    """One input: a seed with some steps made on it."""
    octets = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, _MOST_STEPS)):
        chance.choice(_STEPS)(octets, chance, seeds, words)
    return bytes(octets[:max_size])


def inputs(seeds: Sequence[bytes], words: Sequence[bytes], seed: int, max_size: int) -> Iterator[bytes]:
    """Without end."""
    chance = Random(seed)
    while True:
        yield mutated(seeds, words, chance, max_size)
