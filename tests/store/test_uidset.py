# SPDX-License-Identifier: Apache-2.0
"""Sets of UIDs: every form says the same set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from posthouse.store import uidset

uids = st.sets(st.integers(1, 60))


@given(uids)
def test_round_trips(wanted: set[int]) -> None:
    ranges = uidset.from_uids(wanted)
    assert uidset.expand(ranges) == sorted(wanted)
    assert uidset.from_text(uidset.to_text(ranges)) == ranges
    assert uidset.size(ranges) == len(wanted)
    assert uidset.from_ranges(reversed(ranges)) == ranges


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=6))
def test_ranges_in_any_order_become_canonical(pairs: list[tuple[int, int]]) -> None:
    wanted = {uid for a, b in pairs for uid in range(min(a, b), max(a, b) + 1)}
    assert uidset.from_ranges(pairs) == uidset.from_uids(wanted)


@given(uids, uids, st.integers(1, 61))
def test_union_and_limit(one: set[int], two: set[int], limit: int) -> None:
    a, b = uidset.from_uids(one), uidset.from_uids(two)
    assert uidset.expand(uidset.merged([a, b])) == sorted(one | two)
    assert uidset.expand(uidset.below(a, limit)) == sorted(uid for uid in one if uid < limit)


def test_text_is_a_sequence_set() -> None:
    """RFC 9051 §9."""
    assert uidset.to_text(uidset.from_uids([7, 1, 2, 3, 4])) == "1:4,7"


@given(uids, uids)
def test_what_is_in_both_and_in_one_alone(one: set[int], two: set[int]) -> None:
    a, b = uidset.from_uids(one), uidset.from_uids(two)
    assert uidset.intersection(a, b) == uidset.from_uids(one & two)
    assert uidset.difference(a, b) == uidset.from_uids(one - two)
