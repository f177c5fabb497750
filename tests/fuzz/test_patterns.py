# SPDX-License-Identifier: Apache-2.0
"""No regular expression of the server takes more than linear time, on texts made to hurt it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from fuzz.patterns import Pattern
from fuzz.regexes import Steps

from fuzz import patterns, regexes
from posthouse.mail import sections

ATTACKS = 120  # of each pattern, evenly chosen; `python -m fuzz patterns` tries all
_EVERY = list(patterns.every())


@pytest.fixture(autouse=True)
def deep() -> Iterator[None]:
    """The walk calls itself once for each repetition of what has more than one way."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(30_000)
    yield
    sys.setrecursionlimit(before)


def _name(pattern: Pattern) -> str:
    return f"{pattern.module}.{pattern.name}"


@pytest.mark.slow
@pytest.mark.parametrize("pattern", _EVERY, ids=_name)
def test_a_pattern_is_linear(pattern: Pattern) -> None:
    assert not regexes.verdict(pattern.pattern, is_anchored=pattern.is_anchored, most=ATTACKS)


@pytest.mark.slow
def test_a_pattern_made_of_field_names_is_linear() -> None:
    assert not regexes.verdict(sections._some((b"subject", b"from", b"x-a+b")), is_anchored=False, most=ATTACKS)


def test_every_pattern_is_a_constant_of_its_module() -> None:
    """So that the tests above see it."""
    assert list(patterns.unlisted()) == []


def test_patterns_are_found() -> None:
    names = {_name(each) for each in _EVERY}
    assert {"mail.header._FIELD", "protocol.smtp.commands._PATH", "mailauth.signatures._TAG_NAME"} <= names


@pytest.mark.parametrize(
    ("text", "is_anchored"),
    [(r"(a+)+b", True), (r"(?:a|a)*b", True), (r"\s*\w*\s*;", True), (r"@[^:]*:", False), (r" +x", False)],
)
def test_a_pattern_that_is_not_linear_is_found(text: str, is_anchored: bool) -> None:
    assert regexes.verdict(re.compile(text), is_anchored=is_anchored)


@pytest.mark.parametrize("text", [r"a+b", r"[a-z]+@[a-z.]+", r'"(?:[^"\\]|\\.)*"', r"a{0,61}b"])
def test_a_linear_pattern_passes(text: str) -> None:
    assert regexes.verdict(re.compile(text), is_anchored=True) == ""


_TEXTS = ["", "a", "ab", "aab", "a\nb", "x=1; y", '"a\\"b" c', "AbC", "aXbXc", "1.2.3", "\r\n a", "--", "a b  c"]


@pytest.mark.parametrize(
    "text",
    [r"a*", r"a+?b", r"(a|ab)(b|)", r"(?:ab?)+", r"[^a]+", r"\w+\b", r"(.)\1", r"^a.b$", r"(?s)a.b", r"(?i)abc",
     r'"(?:[^"\\]|\\.)*"', r"(?<=X)b(?=X)", r"(?<!a)b", r"a(?!b)", r"\d{1,2}\.\d", r"(?m)^.$", r"\Aa|b\Z", r"\s+\S"],
)  # fmt: skip
def test_the_walk_agrees_with_re(text: str) -> None:
    """Counts mean something only when the walk goes the way that `re` goes."""
    pattern = re.compile(text)
    steps = Steps(pattern)
    for each in _TEXTS:
        for start in range(len(each) + 1):
            match = pattern.match(each, start)
            assert steps.match(each, start) == (None if match is None else match.end()), (text, each, start)
