# SPDX-License-Identifier: Apache-2.0
"""A deadline that moves with every command but costs a timer only now and then.

A timer that is already running and fires early enough is left alone; when it fires it looks where the
deadline is by then. A busy connection so makes one timer per wait limit instead of two operations per command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `passed` once when the deadline is over; `is_waited_for` False at that moment lifts it instead."""

    __slots__ = ("_at", "_is_waited_for", "_loop", "_passed", "_timer", "_timer_at")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, passed: Callable[[], None], is_waited_for: Callable[[], bool]
    ) -> None:
        self._loop = loop
        self._passed = passed
        self._is_waited_for = is_waited_for
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def is_set(self) -> bool:
        return self._at is not None

    def set(self, seconds: float | None) -> None:
        """That many seconds from now; None: no limit."""
        if seconds is None:
            self._at = None
        else:
            self._at = self._loop.time() + seconds
            self._arm(self._at)

    def stop(self) -> None:
        """No deadline and no timer any more."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._fired)

    def _fired(self) -> None:
        self._timer = None
        at = self._at
        if at is None:
            return
        if not self._is_waited_for():
            self._at = None  # it is we who are busy: the peer's time starts anew when it is its turn again
        elif self._timer_at >= at:
            self._at = None
            self._passed()
        else:
            self._arm(at)
