# SPDX-License-Identifier: Apache-2.0
"""An event loop whose clock jumps to the next timer when there is nothing to do: days pass in milliseconds.

For tests of services only; nothing that reads a socket or waits for a thread may run on it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


MAX_STEPS = 50_000  # of the loop within a hundredth of a virtual second: more is a livelock, not work


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]  # the class differs by platform
    """Instead of waiting, moves the loop's time on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._since = 0.0
        self._steps = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("the test waits for something that never happens")
        if timeout > 0:
            self.now += timeout
        self._steps += 1
        if self.now > self._since + 0.01:
            self._since, self._steps = self.now, 0
        elif self._steps > MAX_STEPS:
            self._steps = 0
            raise RuntimeError("the test goes in circles while no time passes")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time; every task left over is an error of the test."""
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(main)
        left = asyncio.all_tasks(loop)
        assert not left, f"tasks left over: {left}"
        return result
    finally:
        try:
            loop.run_until_complete(_cancel(asyncio.all_tasks(loop)))
        finally:
            loop.close()


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
