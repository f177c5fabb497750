# SPDX-License-Identifier: Apache-2.0
"""Rates per key (an address, an account) by the generic cell rate algorithm: one number per key, no sweeping.

In memory: a restart forgives. Keys whose time has passed are dropped when the table is full.
"""

from __future__ import annotations

from collections.abc import Callable

from posthouse.ports import Clock

MAX_KEYS = 100_000  # about 20 MB at worst; more addresses than this at once is an attack of its own kind


class RateLimit:
    """At most `count` events per `period` seconds and key, with the whole count as burst. `count` 0: no limit."""

    def __init__(self, clock: Clock, count: int, period: float) -> None:
        self._clock = clock
        self._period = period
        self._interval = period / count if count else 0.0
        self._until: dict[str, float] = {}  # key -> the theoretical arrival time

    def take(self, key: str, amount: int = 1) -> bool:
        """Whether `amount` events may happen now; they count only if so."""
        if not self._interval:
            return True
        now = self._clock.monotonic()
        until = max(self._until.get(key, now), now) + amount * self._interval
        if until - now > self._period + 1e-9:
            return False
        if len(self._until) >= MAX_KEYS and key not in self._until:
            self._forget(now)
        self._until[key] = until
        return True

    def wait(self, key: str) -> float:
        """Seconds until the next event of this key may happen."""
        now = self._clock.monotonic()
        return max(0.0, self._until.get(key, now) + self._interval - self._period - now)

    def reset(self, key: str) -> None:
        self._until.pop(key, None)

    def _forget(self, now: float) -> None:
        self._until = {key: until for key, until in self._until.items() if until > now}
        if len(self._until) >= MAX_KEYS:  # all still counting: start over rather than grow
            self._until.clear()


ROOM_CHECK = 1.0  # seconds: a disk fills by some hundred megabytes in that time at most, and the committer looks too


class RoomCheck:
    """Whether the disk is nearly full, asked of the system once a second and not once per letter."""

    def __init__(self, has_room: Callable[[], bool], clock: Clock) -> None:
        self._has_room = has_room
        self._clock = clock
        self._next = 0.0
        self._is_full = False

    def is_full(self) -> bool:
        now = self._clock.monotonic()
        if now >= self._next:
            self._next = now + ROOM_CHECK
            self._is_full = not self._has_room()
        return self._is_full
