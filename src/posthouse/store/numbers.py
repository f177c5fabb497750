# SPDX-License-Identifier: Apache-2.0
"""Ids and pack numbers. Invariant: each is greater than every one given out before, also across restarts.

Both follow the wall clock, so they sort by time and are not used again when rows or files are gone; a clock
that was set back only makes them run ahead of it. The caller keeps the last ones in the rows (`store_state`).
"""

from __future__ import annotations

from threading import Lock

from posthouse.ports import Clock

# 63 bits: milliseconds since the epoch take 42 (until the year 2109), 21 are left for 2 million ids in each.
SEQUENCE_BITS = 21


def id_at(seconds: float) -> int:
    """The least id of a moment."""
    return int(seconds * 1000) << SEQUENCE_BITS


class Numbers:
    """The two counters of one store. Ids come from one thread (the committer); pack numbers from any."""

    __slots__ = ("_clock", "_lock", "last_id", "last_pack")

    def __init__(self, clock: Clock, *, last_id: int = 0, last_pack: int = 0) -> None:
        self._clock = clock
        self._lock = Lock()
        self.last_id = last_id
        self.last_pack = last_pack

    def new_id(self) -> int:
        least = int(self._clock.wall() * 1000) << SEQUENCE_BITS
        last = self.last_id = least if least > self.last_id else self.last_id + 1
        return last

    def new_pack(self) -> int:
        with self._lock:
            self.last_pack = max(int(self._clock.wall() * 1000), self.last_pack + 1)
            return self.last_pack
