# SPDX-License-Identifier: Apache-2.0
"""Rates: a burst up to the count, then one event per interval; keys are apart."""

from posthouse.services import limits
from posthouse.services.limits import RateLimit


class StillClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def test_a_burst_then_one_per_interval() -> None:
    clock = StillClock()
    rate = RateLimit(clock, 3, 60)
    assert [rate.take("a") for _ in range(5)] == [True, True, True, False, False]
    assert rate.wait("a") > 0
    clock.now += 20
    assert [rate.take("a"), rate.take("a")] == [True, False]


def test_keys_do_not_share() -> None:
    rate = RateLimit(StillClock(), 1, 60)
    assert rate.take("a")
    assert rate.take("b")
    assert not rate.take("a")


def test_zero_is_no_limit() -> None:
    rate = RateLimit(StillClock(), 0, 60)
    assert all(rate.take("a") for _ in range(1000))


def test_a_refused_event_does_not_count() -> None:
    clock = StillClock()
    rate = RateLimit(clock, 2, 10)
    assert rate.take("a", 2)
    assert not rate.take("a", 2)
    clock.now += 10
    assert rate.take("a", 2)


def test_the_table_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(limits, "MAX_KEYS", 10)
    rate = RateLimit(StillClock(), 1, 60)
    for number in range(100):
        rate.take(str(number))
    assert len(rate._until) <= 10
