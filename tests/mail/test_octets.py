# SPDX-License-Identifier: Apache-2.0
"""Octets in a view are found and counted through windows as they are in one piece."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthouse.mail import octets
from posthouse.mail.octets import COPIED_WHOLE, Octets, ViewedOctets, octets_of


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(octets, "_FIRST_WINDOW", 3)
    monkeypatch.setattr(octets, "MAX_WINDOW", 7)


def test_only_large_views_are_looked_at_through_windows() -> None:
    large = b"x" * (COPIED_WHOLE + 1)
    assert isinstance(octets_of(memoryview(large)), ViewedOctets)
    assert not isinstance(octets_of(large), ViewedOctets)
    assert not isinstance(octets_of(memoryview(large)[:-1]), ViewedOctets)
    assert not isinstance(octets_of(bytearray(b"x")), ViewedOctets)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(list(b"ab\r\n-")), max_size=80).map(bytes),
    st.lists(st.sampled_from(list(b"ab\r\n-")), min_size=1, max_size=12).map(bytes),
    st.integers(0, 80),
    st.integers(0, 80),
)
def test_both_kinds_answer_alike(content: bytes, wanted: bytes, one: int, other: int) -> None:
    start, end = sorted((min(one, len(content)), min(other, len(content))))
    plain, viewed = Octets(content), ViewedOctets(memoryview(content))
    assert viewed.size == plain.size == len(content)
    assert viewed.find(wanted, start, end) == plain.find(wanted, start, end)
    assert viewed.count(b"a", start, end) == plain.count(b"a", start, end)
    assert viewed.cut(start, end) == plain.cut(start, end)
