# SPDX-License-Identifier: Apache-2.0
"""Deadline on a loop whose time is set by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from posthouse.net.deadline import Deadline


class HandLoop:
    """Only what Deadline asks of a loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.made = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> Any:
        timer = (when, call)
        self.timers.append(timer)
        self.made += 1

        class Handle:
            def cancel(inner) -> None:  # noqa: N805 - the outer self is needed
                self.timers.remove(timer)

        return Handle()

    def go_to(self, now: float) -> None:
        while self.timers and min(self.timers, key=lambda timer: timer[0])[0] <= now:
            timer = min(self.timers, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = timer[0]
            timer[1]()
        self.now = now


def make(*, is_waited_for: bool = True) -> tuple[HandLoop, Deadline, list[float]]:
    loop = HandLoop()
    passed: list[float] = []
    deadline = Deadline(as_loop(loop), lambda: passed.append(loop.now), lambda: is_waited_for)
    return loop, deadline, passed


def as_loop(loop: Any) -> asyncio.AbstractEventLoop:
    return loop  # type: ignore[no-any-return]  # a stand-in


def test_it_passes_once_at_its_time() -> None:
    loop, deadline, passed = make()
    deadline.set(10)
    loop.go_to(9.9)
    assert passed == []
    loop.go_to(100)
    assert passed == [10]


def test_moving_it_makes_no_new_timer() -> None:
    """A thousand commands cost one timer per wait limit."""
    loop, deadline, passed = make()
    for second in range(1000):
        loop.go_to(second)
        deadline.set(300)
    assert loop.made <= 5
    loop.go_to(5000)
    assert passed == [1299]


def test_an_earlier_one_is_kept_too() -> None:
    loop, deadline, passed = make()
    deadline.set(300)
    deadline.set(10)
    loop.go_to(50)
    assert passed == [10]
    assert not loop.timers


def test_it_is_lifted_when_nobody_waits_for_the_peer() -> None:
    loop, deadline, passed = make(is_waited_for=False)
    deadline.set(10)
    loop.go_to(50)
    assert passed == []
    assert not deadline.is_set


def test_none_and_stop() -> None:
    loop, deadline, passed = make()
    deadline.set(10)
    deadline.set(None)
    loop.go_to(20)
    deadline.set(10)
    deadline.stop()
    assert not loop.timers
    loop.go_to(100)
    assert passed == []
