# SPDX-License-Identifier: Apache-2.0
"""The ChangeBus inside one process. Invariant: told in the loop's thread, after the publisher has gone on.

A hint may be told twice or to somebody who has just unsubscribed elsewhere; it is never lost while subscribed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from posthouse import telemetry
from posthouse.ports import Change

Told = Callable[[Change], None]


class LocalBus:
    """Hints to subscribers of one process. Use it from the loop's thread."""

    def __init__(self) -> None:
        # A dict is an ordered set: subscribers are told in the order in which they came.
        self._told: dict[tuple[str, int], dict[int, Told]] = {}
        self._last = 0
        self._waiting: dict[Change, None] = {}
        self._log = telemetry.logger("bus")

    def publish(self, change: Change) -> None:
        """Tell everybody soon. The same change published again before it was told is told once."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._tell)
        self._waiting[change] = None

    def subscribe(self, topic: str, key: int, told: Told) -> Callable[[], None]:
        self._last += 1
        number, place = self._last, (topic, key)
        self._told.setdefault(place, {})[number] = told

        def unsubscribe() -> None:
            group = self._told.get(place)
            if group is not None:
                group.pop(number, None)
                if not group:
                    self._told.pop(place, None)

        return unsubscribe

    def _tell(self) -> None:
        changes, self._waiting = self._waiting, {}
        for change in changes:
            for key in dict.fromkeys((change.key, 0)):
                for told in tuple(self._told.get((change.topic, key), {}).values()):
                    try:
                        told(change)
                    except Exception:  # one subscriber's fault must not hide the change from the next
                        self._log.exception("subscriber_failed", topic=change.topic, key=change.key)
