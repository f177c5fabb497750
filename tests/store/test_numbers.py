# SPDX-License-Identifier: Apache-2.0
"""Ids and pack numbers grow whatever the clock does, and follow it when they can."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from posthouse.store.numbers import Numbers, id_at

from .machine import SetClock


@given(st.lists(st.floats(0, 4_000_000_000), min_size=1, max_size=40))
def test_every_number_is_greater_than_the_one_before(times: list[float]) -> None:
    clock = SetClock()
    numbers = Numbers(clock)
    ids, packs = [], []
    for clock.now in times:
        ids.append(numbers.new_id())
        packs.append(numbers.new_pack())
    assert all(first < second for first, second in pairwise(ids))
    assert all(first < second for first, second in pairwise(packs))
    assert ids[-1] < 2**63


def test_ids_are_in_the_order_of_time_and_go_on_from_the_last_run() -> None:
    clock = SetClock(1_000_000.0)
    numbers = Numbers(clock)
    assert id_at(1_000_000.0) <= numbers.new_id() < id_at(1_000_000.001)
    later = Numbers(SetClock(5.0), last_id=numbers.last_id, last_pack=77_000)
    assert later.new_id() == numbers.last_id + 1
    assert later.new_pack() == 77_001
