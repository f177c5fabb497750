# SPDX-License-Identifier: Apache-2.0
"""Patterns of LIST."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail.name_pattern import NamePattern, name_pattern


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*", ("", "a", "a/b/c"), ()),
        ("%", ("", "a"), ("a/b", "a/")),
        ("", ("",), ("a",)),
        ("a/%", ("a/b", "a/"), ("a", "a/b/c")),
        ("a/*", ("a/b", "a/b/c"), ("a", "b/a/")),
        ("%/b", ("a/b", "/b"), ("b", "a/a/b")),
        ("*b", ("b", "a/b"), ("ba",)),
        ("a%b*c", ("abc", "axbx/xc"), ("a/bc", "abcd")),
        ("%%", ("a",), ("a/b",)),
        ("%*%", ("a/b",), ()),
        ("a.b", ("a.b",), ("axb",)),
        ("a", ("a",), ("A", "aa")),
        ("\u00e9%", ("\u00e9t\u00e9",), ("e",)),
    ],
)
def test_patterns(pattern: str, yes: tuple[str, ...], no: tuple[str, ...]) -> None:
    made = name_pattern(pattern)
    assert all(map(made.matches, yes))
    assert not any(map(made.matches, no))


def test_another_delimiter() -> None:
    assert NamePattern("%", ".").matches("a/b")
    assert not NamePattern("%", ".").matches("a.b")


@given(st.text("ab/%*", max_size=8), st.text("ab/", max_size=8))
def test_as_a_regular_expression_would(pattern: str, name: str) -> None:
    text = "".join({"*": ".*", "%": "[^/]*"}.get(character, re.escape(character)) for character in pattern)
    assert NamePattern(pattern).matches(name) == bool(re.fullmatch(text, name, re.DOTALL))


def test_a_pattern_made_to_be_slow_is_not() -> None:
    """A regular expression would try this for longer than anybody lives."""
    assert not NamePattern("*a" * 200 + "b").matches("a" * 1000)
    assert NamePattern("%a*" * 100).matches("a" * 1000)
