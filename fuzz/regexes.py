# SPDX-License-Identifier: Apache-2.0
"""Counts the steps of a backtracking match, and looks for texts on which a regular expression takes too many.

`re` does not tell what a match costs, and a clock differs from run to run. `Steps` walks the same tree that `re`
compiles, in the same order, and counts; so a pattern that is quadratic here is quadratic there. (What `re` does faster,
it does faster by a constant.) Invariant: the same pattern and text give the same count on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from re import _constants as const  # type: ignore[attr-defined]  # the tree of a pattern has no public name
from re import _parser as parser  # type: ignore[attr-defined]  # as above
from typing import Any

Items = Sequence[tuple[Any, Any]]

MAX_STEPS = 30_000  # of one walk; forty repetitions in linear time take a few hundred
_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    const.CATEGORY_DIGIT: str.isdigit,
    const.CATEGORY_SPACE: str.isspace,
    const.CATEGORY_WORD: lambda char: char.isalnum() or char == "_",
}
_OPPOSITES = {
    const.CATEGORY_NOT_DIGIT: const.CATEGORY_DIGIT,
    const.CATEGORY_NOT_SPACE: const.CATEGORY_SPACE,
    const.CATEGORY_NOT_WORD: const.CATEGORY_WORD,
}


class TooManySteps(Exception):  # noqa: N818 - a verdict
    """The walk was given up at MAX_STEPS."""


class Steps:
    """One pattern. Texts are str; for a pattern of bytes each character stands for an octet."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        text = pattern.pattern
        self.tree: Items = parser.parse(text, pattern.flags)
        self._is_folding = bool(pattern.flags & re.IGNORECASE) or "(?i" in str(text)
        self._is_dotall = bool(pattern.flags & re.DOTALL)
        self._is_multiline = bool(pattern.flags & re.MULTILINE)
        self._text = ""
        self._groups: dict[int, tuple[int, int]] = {}
        self.count = 0

    def match(self, text: str, start: int = 0, *, is_full: bool = False) -> int | None:
        """Where a match from `start` ends; None for none. `count` grows by what it took."""
        self._text = text
        self._groups = {}
        for end in self._sequence(self.tree, 0, start):
            if not is_full or end == len(text):
                return end
        return None

    def scan(self, text: str) -> None:
        """As findall: every match, one behind the other."""
        start = 0
        while start <= len(text):
            end = self.match(text, start)
            start = start + 1 if end is None else max(end, start + 1)

    # --- the walk ---------------------------------------------------------------------------------

    def _sequence(self, items: Items, index: int, at: int) -> Iterator[int]:
        if index == len(items):
            yield at
            return
        for end in self._item(items[index], at):
            yield from self._sequence(items, index + 1, end)

    def _step(self) -> None:
        self.count += 1
        if self.count > MAX_STEPS:
            raise TooManySteps

    def _item(  # noqa: C901 - one branch for each kind of item
        self, item: tuple[Any, Any], at: int
    ) -> Iterator[int]:
        self._step()
        kind, value = item
        if kind in (const.LITERAL, const.NOT_LITERAL, const.ANY, const.IN):
            if at < len(self._text) and self.accepts(item, self._text[at]):
                yield at + 1
        elif kind is const.BRANCH:
            for branch in value[1]:
                yield from self._sequence(branch, 0, at)
        elif kind is const.SUBPATTERN:
            for end in self._sequence(value[3], 0, at):
                if value[0] is not None:
                    self._groups[value[0]] = (at, end)
                yield end
        elif kind in (const.MAX_REPEAT, const.MIN_REPEAT, const.POSSESSIVE_REPEAT):
            yield from self._repeat(kind, value, at)
        elif kind is const.ATOMIC_GROUP:
            yield from self._first(value, at)
        elif kind in (const.ASSERT, const.ASSERT_NOT):
            if self._looks(value, at) == (kind is const.ASSERT):
                yield at
        elif kind is const.AT:
            if self._is_at(value, at):
                yield at
        elif kind is const.GROUPREF:
            start, end = self._groups.get(value, (0, 0))
            if self._text.startswith(self._text[start:end], at):
                yield at + end - start
        else:
            raise NotImplementedError(f"{kind} in a pattern: teach it to fuzz/regexes.py")

    def _first(self, items: Items, at: int) -> Iterator[int]:
        end = next(self._sequence(items, 0, at), None)
        if end is not None:
            yield end

    def _repeat(self, kind: Any, value: tuple[int, Any, Items], at: int) -> Iterator[int]:
        least, most, body = value
        if kind is const.MIN_REPEAT:
            yield from self._lazy(body, int(least), int(most), at)
        elif kind is const.POSSESSIVE_REPEAT:
            yield from list(self._greedy_once(body, int(least), int(most), at))[-1:]
        elif len(body) == 1 and body[0][0] in (const.LITERAL, const.NOT_LITERAL, const.ANY, const.IN):
            yield from reversed(list(self._greedy_once(body, int(least), int(most), at)))
        else:
            yield from self._greedy(body, int(least), int(most), at)

    def _greedy_once(self, body: Items, least: int, most: int, at: int) -> Iterator[int]:
        """The ends after each repetition, where each has one way only."""
        done = 0
        while True:
            if done >= least:
                yield at
            if done == most:
                return
            end = next(self._sequence(body, 0, at), None)
            if end is None or (end == at and done >= least):
                return
            at, done = end, done + 1

    def _greedy(self, body: Items, least: int, most: int, at: int) -> Iterator[int]:
        if most > 0:
            for end in self._sequence(body, 0, at):
                if end > at or least > 0:
                    yield from self._greedy(body, max(least - 1, 0), most - 1, end)
        if least == 0:
            yield at

    def _lazy(self, body: Items, least: int, most: int, at: int) -> Iterator[int]:
        waiting = [(least, most, at)]
        while waiting:
            self._step()
            least, most, at = waiting.pop()
            if least == 0:
                yield at
            if most > 0:
                ends = [end for end in self._sequence(body, 0, at) if end > at]
                waiting += [(max(least - 1, 0), most - 1, end) for end in reversed(ends)]

    def _looks(self, value: tuple[int, Items], at: int) -> bool:
        direction, body = value
        if direction > 0:
            return next(self._sequence(body, 0, at), None) is not None
        low, high = body.getwidth()  # type: ignore[attr-defined]  # a SubPattern
        return any(
            at - width >= 0 and at in self._sequence(body, 0, at - width) for width in range(int(low), int(high) + 1)
        )

    def _is_at(self, where: Any, at: int) -> bool:
        text = self._text
        if where in (const.AT_BEGINNING, const.AT_BEGINNING_STRING):
            return at == 0 or (where is const.AT_BEGINNING and self._is_multiline and text[at - 1] == "\n")
        if where is const.AT_END_STRING:
            return at == len(text)
        if where is const.AT_END:
            return at == len(text) or text[at:] == "\n" or (self._is_multiline and text[at] == "\n")
        before = at > 0 and (text[at - 1].isalnum() or text[at - 1] == "_")
        after = at < len(text) and (text[at].isalnum() or text[at] == "_")
        return (before != after) == (where is const.AT_BOUNDARY)

    # --- sets -------------------------------------------------------------------------------------

    def accepts(self, item: tuple[Any, Any], char: str) -> bool:
        """Whether an item of one character takes this one."""
        if self._is_folding and char.isascii():
            return self._accepts(item, char.lower()) or self._accepts(item, char.upper())
        return self._accepts(item, char)

    def _accepts(self, item: tuple[Any, Any], char: str) -> bool:
        kind, value = item
        if kind is const.LITERAL:
            return bool(ord(char) == value)
        if kind is const.NOT_LITERAL:
            return bool(ord(char) != value)
        if kind is const.ANY:
            return self._is_dotall or char != "\n"
        is_negated = bool(value) and value[0][0] is const.NEGATE
        return is_negated != any(_is_member(part, char) for part in value)


def _is_member(part: tuple[Any, Any], char: str) -> bool:
    kind, value = part
    if kind is const.LITERAL:
        return bool(ord(char) == value)
    if kind is const.RANGE:
        return bool(value[0] <= ord(char) <= value[1])
    if kind is const.CATEGORY:
        if value in _OPPOSITES:
            return not _CATEGORIES[_OPPOSITES[value]](char)
        return bool(_CATEGORIES[value](char))
    return False


# --- texts that might hurt ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attack:
    """`prefix + pump * n + suffix`."""

    prefix: str
    pump: str
    suffix: str

    def text(self, times: int) -> str:
        return self.prefix + self.pump * times + self.suffix


def leaves(items: Items) -> Iterator[tuple[Any, Any]]:
    """Every item of one character in a tree."""
    for kind, value in items:
        if kind in (const.LITERAL, const.NOT_LITERAL, const.IN, const.ANY):
            yield kind, value
        else:
            for part in _parts(kind, value):
                yield from leaves(part)


def _parts(kind: Any, value: Any) -> list[Items]:
    if kind is const.BRANCH:
        return list(value[1])
    if kind is const.SUBPATTERN:
        return [value[3]]
    if kind in (const.MAX_REPEAT, const.MIN_REPEAT, const.POSSESSIVE_REPEAT):
        return [value[2]]
    if kind is const.ATOMIC_GROUP:
        return [value]
    if kind in (const.ASSERT, const.ASSERT_NOT):
        return [value[1]]
    return []


def letters(steps: Steps) -> list[str]:
    """One character for each class that the pattern tells apart, the fewer the better."""
    found = list(leaves(steps.tree))
    candidates = list("a0 x!.\t\v\r\n")
    for kind, value in found:
        parts = value if kind is const.IN else [(kind, value)]
        for part, inner in parts:
            if part in (const.LITERAL, const.NOT_LITERAL):
                candidates.append(chr(inner))
            elif part is const.RANGE:
                candidates += [chr(inner[0]), chr(inner[1])]
    chosen: dict[tuple[bool, ...], str] = {}
    for char in candidates:
        chosen.setdefault(tuple(steps.accepts(item, char) for item in found), char)
    return list(chosen.values())


def _sample(steps: Steps, items: Items, alphabet: Sequence[str], branch: int = 0) -> str:
    """A short text that the items match, as a rule."""
    text = ""
    for kind, value in items:
        if kind in (const.LITERAL, const.NOT_LITERAL, const.IN, const.ANY):
            text += next((char for char in alphabet if steps.accepts((kind, value), char)), "")
        elif kind is const.BRANCH:
            text += _sample(steps, value[1][branch % len(value[1])], alphabet, branch)
        elif kind in (const.MAX_REPEAT, const.MIN_REPEAT, const.POSSESSIVE_REPEAT):
            text += _sample(steps, value[2], alphabet, branch) * max(int(value[0]), branch % 2)
        elif kind in (const.SUBPATTERN, const.ATOMIC_GROUP):
            text += _sample(steps, _parts(kind, value)[0], alphabet, branch)
    return text


def _repeats(steps: Steps, items: Items, alphabet: Sequence[str], before: str) -> Iterator[tuple[str, Items]]:
    """(a text up to it, its body) of every repetition without a small end."""
    for index, (kind, value) in enumerate(items):
        lead = before + _sample(steps, items[:index], alphabet)
        if kind in (const.MAX_REPEAT, const.MIN_REPEAT, const.POSSESSIVE_REPEAT) and int(value[1]) > 1:
            yield lead, value[2]
        for part in _parts(kind, value):
            yield from _repeats(steps, part, alphabet, lead)


def attacks(steps: Steps) -> Iterator[Attack]:
    """Texts that go round in each repetition of the pattern and then fail, or do not."""
    alphabet = letters(steps)
    pumps = list(alphabet)
    places = list(_repeats(steps, steps.tree, alphabet, ""))
    for _, body in places:
        pumps += [_sample(steps, body, alphabet, branch) for branch in range(4)]
    if len(alphabet) <= 6:
        pumps += [one + other for one in alphabet for other in alphabet if one != other]
    prefixes = dict.fromkeys(["", *(lead for lead, _ in places)])
    prefixes |= dict.fromkeys(lead + char for lead, _ in places for char in alphabet[:4])
    for prefix in prefixes:
        for pump in dict.fromkeys(pump for pump in pumps if pump):
            for suffix in ["", *alphabet]:
                yield Attack(prefix, pump, suffix)


def cost(steps: Steps, text: str, *, is_anchored: bool) -> int:
    """Steps for one use of the pattern on this text; MAX_STEPS where it was given up."""
    steps.count = 0
    try:
        if is_anchored:
            steps.match(text, is_full=True)
        else:
            steps.scan(text)
    except TooManySteps:
        return MAX_STEPS
    return steps.count


# A pattern whose steps grow more than this much faster than the text, at every size, is not linear.
MOST_GROWTH = 1.3
TIMES = 10  # repetitions of a first look, and four times as many
TIMES_AGAIN = 70  # of a second one: what is bounded by `{0,61}` has stopped growing there


def growth(steps: Steps, attack: Attack, times: int, *, is_anchored: bool) -> float:
    """By how much more than four times the steps grow with four times the pumping; 1 is linear."""
    few = cost(steps, attack.text(times), is_anchored=is_anchored)
    many = cost(steps, attack.text(4 * times), is_anchored=is_anchored)
    return 2 * MOST_GROWTH if MAX_STEPS in (few, many) else many / max(few, 1) / 4


def verdict(pattern: re.Pattern[Any], *, is_anchored: bool, most: int | None = None) -> str:
    """ "" for a pattern that seems linear, else the text on which it is not.

    `most`: of all attacks try so many, evenly chosen.
    """
    steps = Steps(pattern)
    tried = list(attacks(steps))
    for attack in tried[:: max(1, len(tried) // most)] if most else tried:
        if growth(steps, attack, TIMES, is_anchored=is_anchored) > MOST_GROWTH:
            again = growth(steps, attack, TIMES_AGAIN, is_anchored=is_anchored)
            if again > MOST_GROWTH or cost(steps, attack.text(4 * TIMES), is_anchored=is_anchored) >= MAX_STEPS:
                return f"not linear on {attack}"
    return ""
